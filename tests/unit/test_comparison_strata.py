"""Metrics by difficulty: an effect that was put in is found, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.comparison.columns import LEADERS
from analysis.comparison.evaluated import Evaluated
from analysis.comparison.strata import (
    MEMBERSHIP,
    by_stratum,
    change,
    column_of_samples,
    mrd_of,
    ties,
    title_of_samples,
)
from analysis.comparison.table import compare
from mrd_core.errors import UserError
from tests.support.evaluations import evaluated

N = 45
MRD = np.random.default_rng(1).permutation(N).astype(np.float64)
HARD, EASY = MRD < 15, MRD >= 30


def run(shift: np.ndarray, method: str | None = None, seed: int = 0, **given: object) -> Evaluated:
    """Return an evaluation whose ROUGE on the forget set is 0.5 less a shift per sample, with noise."""
    generator = np.random.default_rng(seed)
    values = {
        ("forget", "rouge"): 0.5 - shift + 0.05 * generator.normal(size=N),
        ("forget", "mia_min_k"): shift + generator.normal(size=N),
        ("retain", "rouge"): np.full(N, 0.8),
        ("retain", "mia_min_k"): generator.normal(size=N),
    }
    settings = {"mrd": MRD} | given
    return evaluated(values, method=method, seed=seed, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs() -> list[Evaluated]:
    """Return an original, NPO that forgets easy samples alone, and GA that forgets all alike."""
    return [
        run(np.zeros(N)),
        *(run(0.3 * EASY, "npo", seed) for seed in (1, 2, 3)),
        *(run(np.full(N, 0.2), "ga", seed) for seed in (1, 2, 3)),
    ]


@pytest.fixture(scope="module")
def strata(runs: list[Evaluated]) -> pd.DataFrame:
    return by_stratum(runs, 0, "rr")


def rows(strata: pd.DataFrame, part: str, group: str) -> pd.DataFrame:
    return strata[(strata["part"] == part) & (strata["group"] == group)].set_index("stratum")


def test_values_are_means_over_the_samples_of_a_tercile(runs: list[Evaluated], strata: pd.DataFrame) -> None:
    found = rows(strata, "value", "NPO")
    assert list(found.index) == ["hard", "middle", "easy"]
    assert found["n"].tolist() == [15, 15, 15]
    rouge = [one.values[one.values["metric"] == "rouge"]["value"].to_numpy()[:N] for one in runs[1:4]]
    assert found.loc["hard", "value"] == pytest.approx(1 - np.mean([each[HARD] for each in rouge]))
    assert found.loc["easy", "low"] <= found.loc["easy", "value"] <= found.loc["easy", "high"]


def test_an_effect_on_easy_samples_alone_is_found(strata: pd.DataFrame) -> None:
    found = rows(strata, "difference", "NPO")
    assert found["marked"].tolist() == [False, False, True]
    contrast = rows(strata, "interaction", "NPO").iloc[0]
    assert (contrast["marked"], contrast["seeds"]) == (True, 3)
    assert contrast["high"] < 0
    assert contrast["value"] == pytest.approx(found.loc["hard", "value"] - found.loc["easy", "value"])


def test_an_effect_on_all_alike_is_no_interaction(strata: pd.DataFrame) -> None:
    assert rows(strata, "difference", "GA")["marked"].tolist() == [True, True, True]
    contrast = rows(strata, "interaction", "GA").iloc[0]
    assert not contrast["marked"]
    assert contrast["low"] < 0 < contrast["high"]


def test_a_seed_without_the_metric_counts_for_nothing(runs: list[Evaluated]) -> None:
    lacking = replace(runs[3], values=runs[3].values[runs[3].values["metric"] != "rouge"])
    found = by_stratum([*runs[:3], lacking], 0, "rr")
    assert found["seeds"].tolist() == [1] * 3 + [2] * 7
    pd.testing.assert_frame_equal(
        found[found["part"] != "value"], by_stratum(runs[:3], 0, "rr").query("part != 'value'")
    )


def test_where_no_pair_has_the_metric_nothing_is_tested(runs: list[Evaluated]) -> None:
    lacking = replace(runs[1], values=runs[1].values[runs[1].values["metric"] != "rouge"])
    found = by_stratum([runs[0], lacking], 0, "rr").query("part != 'value'")
    assert found["n"].tolist() == found["seeds"].tolist() == [0] * 4
    assert found["p"].isna().all()
    assert not found["marked"].any()


def test_samples_change_by_rouge_where_it_is_and_by_scores_of_membership(runs: list[Evaluated]) -> None:
    columns = {column.key: column for column in compare(runs[:1]).columns}
    chosen = column_of_samples(columns.values())
    assert chosen is columns["rr"]
    rest = column_of_samples(column for column in columns.values() if column.key != "rr")
    assert rest is columns["mia"]
    assert [title_of_samples(columns[key]) for key in ("rr", "mia")] == ["RR", MEMBERSHIP]
    assert column_of_samples([columns["completeness"]]) is None


def test_samples_change_by_what_leads_where_it_was_measured(runs: list[Evaluated]) -> None:
    strength = runs[0].values.query("split == 'forget' and metric == 'rouge'").assign(metric=LEADERS[0])
    run = replace(runs[0], values=pd.concat([runs[0].values, strength]))
    columns = compare([run]).columns
    assert column_of_samples(columns).key == LEADERS[0]  # type: ignore[union-attr]
    assert (columns[0].key, columns[0].side) == (LEADERS[0], "leading")
    # A sample of the table is by itself what the metric says, not 1 less it.
    changed = change([run, replace(run, group="other", label="other")], 0, LEADERS[0])
    assert set(changed["change"]) == {0.0}
    assert changed["before"].to_numpy() == pytest.approx(strength["value"].to_numpy())


def test_mrd_is_that_of_the_first_run_that_has_it(runs: list[Evaluated]) -> None:
    without = replace(runs[0], scores=None)
    assert list(mrd_of([without, runs[1]]).values()) == list(MRD)
    assert mrd_of([without]) == {}


def test_membership_is_told_by_stratum_too(runs: list[Evaluated]) -> None:
    found = rows(by_stratum(runs[:2], 0, "mia"), "value", "NPO")
    scores = runs[1].values[runs[1].values["metric"] == "mia_min_k"]["value"].to_numpy()
    forget, retain = scores[:N], scores[N:]
    assert found.loc["easy", "value"] == pytest.approx((forget[EASY][:, None] > retain).mean())


def test_change_is_after_less_before_and_tied_to_mrd_as_scipy_has_it(runs: list[Evaluated]) -> None:
    found = change(runs, 0, "rr")
    npo = found[found["group"] == "NPO"]
    assert len(npo) == N
    assert list(npo["mrd"]) == list(MRD)
    assert npo["change"].to_numpy() == pytest.approx((npo["after"] - npo["before"]).to_numpy(np.float64))
    assert (npo["tercile"] == "easy").tolist() == EASY.tolist()
    tied = ties(found).set_index("group")
    assert tied.loc["NPO", "rho"] == pytest.approx(stats.spearmanr(npo["mrd"], npo["change"]).statistic)
    assert tied.loc["NPO", "low"] > 0
    assert tied.loc["GA", "low"] < 0 < tied.loc["GA", "high"]


def test_a_metric_of_a_sample_need_be_no_column(runs: list[Evaluated]) -> None:
    assert change(runs, 0, "rouge")["change"].to_numpy() == pytest.approx(
        -change(runs, 0, "rr")["change"].to_numpy()
    )


def test_a_run_alone_has_values_and_no_differences(runs: list[Evaluated]) -> None:
    assert set(by_stratum(runs[:1], 0, "rr")["part"]) == {"value"}
    assert ties(change(runs[:1], 0, "rr")).empty


def test_what_cannot_be_told_by_difficulty_is_refused(runs: list[Evaluated]) -> None:
    for metric, said in (("utility", "says nothing of the forget set"), ("nll", "was not measured")):
        with pytest.raises(UserError, match=said):
            by_stratum(runs[:1], 0, metric)
    with pytest.raises(UserError, match="no value for a single sample"):
        change(runs[:1], 0, "completeness")
    with pytest.raises(UserError, match="Choose one of mrd_answer_mean, mrd_answer_sum"):
        by_stratum(runs[:1], 0, "rr", "mrd_x")
    with pytest.raises(UserError, match="no MRD beside their values"):
        by_stratum([run(np.zeros(N), mrd=None)], 0, "rr")
