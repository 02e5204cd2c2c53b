"""Judging orders at equal retain: paired by seed, chosen on some seeds, confirmed on others, corrected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.equal_retain import MEASURES, carried, compared, judged

HELD, FREE = "graddiff, retain held", "ga"


def runs(**values: dict[str, list[float]]) -> pd.DataFrame:
    """Return runs of one arm: values of the primary outcome for each seed by order."""
    rows = []
    for arm, of_order in (("held", HELD), ("free", FREE)):
        for order, outcomes in values.get(arm, {}).items():
            for seed, outcome in enumerate(outcomes):
                about = {"arm": of_order, "order": order, "seed": seed, "setting": "s", "reached": True}
                row = dict.fromkeys(MEASURES, 1.0) | about
                rows.append(row | {"updates" if arm == "held" else "retain_nll": outcome})
    return pd.DataFrame(rows)


UNIFORM = [100.0, 120.0, 140.0, 90.0]


def test_a_candidate_is_paired_with_uniform_by_seed_in_the_primary_outcome_of_its_arm() -> None:
    few = runs(held={"uniform": UNIFORM, "a": [90.0, 115.0, 120.0]}, free={"uniform": [1.0, 2.0], "a": [2.0, 2.5]})
    table = compared(few.sample(frac=1, random_state=0)).set_index("arm")
    differences = np.array([-10.0, -5.0, -20.0])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    held = table.loc[HELD]
    assert (held["pairs"], held["primary"], held["uniform"]) == (3, "updates", 120)
    assert list(held[["updates", "updates_low", "updates_high"]]) == pytest.approx(
        [differences.mean(), differences.mean() - half, differences.mean() + half]
    )
    assert held["p"] == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert (table.loc[FREE, "primary"], table.loc[FREE, "retain_nll"]) == ("retain_nll", 0.75)


def test_runs_of_other_samples_and_runs_that_met_a_limit_are_no_pairs() -> None:
    few = runs(held={"uniform": UNIFORM, "a": [90.0, 115.0, 120.0, 80.0]})
    is_a, seed = few["order"] == "a", few["seed"]
    few.loc[is_a & (seed == 1), "setting"] = "of other samples"
    few.loc[~is_a & (seed == 2), "reached"] = False
    table = compared(few)
    assert list(table["pairs"]) == [2]
    assert table["updates"].iloc[0] == pytest.approx(-10)


def test_what_was_better_is_carried_the_best_of_each_arm() -> None:
    orders = {"a": 0.99, "b": 0.8, "c": 0.9, "d": 1.1}
    table = compared(
        runs(
            held={"uniform": UNIFORM} | {name: [by * value for value in UNIFORM] for name, by in orders.items()},
            free={"uniform": UNIFORM, "d": [1.1 * value for value in UNIFORM]},
        )
    )
    assert carried(table, 2) == {(HELD, "b"), (HELD, "c")}
    assert carried(table, 9) == {(HELD, "a"), (HELD, "b"), (HELD, "c")}
    # One order is held against drawing each sample once, which is no order itself.
    assert carried(table.replace({"order": {"b": "shuffled"}}), 9) == {(HELD, "a"), (HELD, "c")}


def test_confirmed_is_what_stays_significant_after_holm_and_costs_nothing_of_retain() -> None:
    noise, uniform = np.array([0.0, 1.0, -1.0, 0.5]), np.array(UNIFORM)
    held = {
        "uniform": uniform,
        "sure": uniform - 20 - noise,
        "worse": uniform + 20 + noise,
        "dear": uniform - 20 - 2 * noise,
        "noisy": uniform - 20 - 24 * noise,
    }
    table = runs(held={name: list(values) for name, values in held.items()})
    table.loc[table["order"] == "dear", "retain_nll"] = [1.2, 1.21, 1.19, 1.2]
    confirmed = compared(table)
    wanted = {(HELD, name) for name in held if name != "uniform"}
    rows = judged(confirmed, wanted).set_index("order").sort_values("p")
    corrected = np.maximum.accumulate(rows["p"] * np.arange(len(rows), 0, -1))
    np.testing.assert_allclose(rows["p_holm"], corrected)
    assert rows.loc["noisy", "p"] > 0.05
    assert dict(rows["confirmed"]) == {"sure": True, "worse": False, "dear": False, "noisy": False}
    assert judged(confirmed, set()).empty
    beside = judged(confirmed.replace({"order": {"worse": "shuffled"}}), wanted).set_index("order")
    assert set(beside.index) == {"sure", "shuffled", "dear", "noisy"}
    assert beside.loc["shuffled", ["p_holm", "confirmed"]].isna().all()
    np.testing.assert_allclose(beside.loc["sure", "p_holm"], 3 * beside.loc["sure", "p"])
