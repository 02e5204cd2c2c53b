"""What is concluded from unlearning runs, against hand-worked numbers, scipy and simulated runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.unlearning.runs import (
    SamplingCheck,
    against_uniform,
    answer_tokens,
    at_equal_updates,
    by_tercile,
    efficiency,
    evaluated,
    grouped,
    history,
    outcome,
    own_answers,
    paired_difference,
    run_name,
    sampling_check,
    setting_of,
    standing,
    thinned,
)
from mrd_core.errors import UserError
from mrd_core.runs.files import write_frame
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.sampling import SAMPLERS, Curriculum
from mrd_core.unlearning.stopping import StopReason

DRAW_TYPES = {"step": "int64", "sample_id": "str", "accuracy": "float64", "trained": "bool", "forgotten": "bool"}


def metrics(*rows: tuple[int, str, float]) -> pd.DataFrame:
    """Return metrics as the run store gives them."""
    table = pd.DataFrame(rows, columns=["step", "name", "value"])
    table = table.astype({"step": "int64", "name": "str", "value": "float64"})
    table.insert(0, "rowid", np.arange(1, len(table) + 1))
    return table


def draws(*rows: tuple[int, str, float, bool, bool]) -> pd.DataFrame:
    """Return draws as the run store gives them: step, sample_id, accuracy, trained, forgotten."""
    table = pd.DataFrame(rows, columns=list(DRAW_TYPES)).astype(DRAW_TYPES)
    table.insert(0, "rowid", np.arange(1, len(table) + 1))
    return table


def drawn(ids: list[str], batch: int = 4) -> pd.DataFrame:
    """Return draws of these samples in batches, none of them forgotten."""
    return draws(*((1 + at // batch, sample, 0.9, True, False) for at, sample in enumerate(ids)))


def curriculum(mrd: list[float], share: list[float] | None = None) -> pd.DataFrame:
    """Return a curriculum of samples a, b, c, …, of equal shares unless given."""
    n = len(mrd)
    return pd.DataFrame(
        {
            "sample_id": [chr(ord("a") + at) for at in range(n)],
            "n_tokens": np.arange(10, 10 + n),
            "mean_log_prob": -0.1,
            "mrd_answer_mean": mrd,
            "weight": 1.0,
            "share": [1 / n] * n if share is None else share,
        }
    )


def summary(label: str = "GA", seed: int = 0, **changed: Any) -> dict[str, Any]:
    """Return the summary of a run that forgot everything in 100 updates of 10 TFLOP each."""
    sampler = "mrd" if label.endswith("+ MRD") else "easy-to-hard" if "easy" in label else "uniform"
    return {
        "label": label,
        "method": label.split()[0].rstrip(",").lower(),
        "sampler": sampler,
        "column": "mrd_answer_mean",
        "seed": seed,
        "setting": "a",
        "updates": 100,
        "draws": 120,
        "steps": 30,
        "stop_reason": StopReason.ALL_FORGOTTEN.value,
        "n_samples": 40,
        "forgotten": 40,
        "forgotten_at_end": 38,
        "forget_nll": 3.0,
        "retain_nll": 0.5,
        "retain_accuracy": 0.9,
        "seconds": 60.0,
        "mrd_seconds": 0.0,
        "mrd_forward_evaluations": 0,
        "flops_training": 8e14,
        "flops_checks": 2e14,
        "flops_mrd": 0.0,
        "thresholds": {"source": "absolute", "accuracy": 0.5, "extraction": None},
    } | changed


def test_a_name_gives_back_its_setting() -> None:
    assert run_name("GA + MRD", 3) == "GA + MRD, seed 3"
    assert setting_of(run_name("GradDiff, easy-to-hard", 12)) == "GradDiff, easy-to-hard"
    assert setting_of("mine") == "mine"


def test_a_history_has_a_row_a_step_and_a_step_reported_twice_counts_as_reported_last() -> None:
    found = history(
        metrics(
            (0, "retain_nll", 0.25),
            (1, "forget_nll", 0.5),
            (2, "forget_nll", 9.0),
            (2, "updates", 9),
            (2, "forget_nll", 0.75),
            (1, "updates", 4),
        )
    )
    assert found.index.tolist() == [0, 1, 2]
    assert found["forget_nll"].tolist()[1:] == [0.5, 0.75]
    assert found["updates"].tolist()[1:] == [4, 9]
    assert found["retain_nll"].tolist()[0] == 0.25
    assert found.isna().sum().sum() == 4


def test_before_the_first_step_a_history_is_empty() -> None:
    assert history(metrics()).empty


def long_history(steps: int, probe_every: int) -> pd.DataFrame:
    """Return a history with a forget NLL every step and a retain NLL at probes."""
    step = np.arange(1, steps + 1)
    table = pd.DataFrame({"forget_nll": np.sqrt(step), "retain_nll": 0.5}, index=pd.Index(step, name="step"))
    return table.assign(retain_nll=table["retain_nll"].where(step % probe_every == 0))


def test_a_thinned_history_keeps_its_ends_and_all_probes() -> None:
    whole = long_history(10_000, 25)
    found = thinned(whole)
    assert len(found) == 2000
    assert found.index[0] == 1
    assert found.index[-1] == 10_000
    assert found["retain_nll"].count() == whole["retain_nll"].count() == 400
    assert np.diff(found.index).max() <= 8
    pd.testing.assert_frame_equal(found, whole.loc[found.index])


def test_a_thinned_history_of_nothing_but_probes_has_no_more_points_than_asked_for() -> None:
    found = thinned(long_history(9_000, 1), points=100)
    assert len(found) == 100
    assert (found.index[0], found.index[-1]) == (1, 9_000)
    assert found.index.is_unique


def test_evaluations_are_thinned_out_as_little_as_probes_and_found_by_their_own_names() -> None:
    whole = long_history(10_000, 10_001)
    whole["evaluation_utility"] = whole["forget_nll"].where(whole.index % 50 == 0)
    assert thinned(whole)["evaluation_utility"].count() == 200
    found = evaluated({"watched": whole, "not watched": long_history(10, 5)})
    assert list(found) == ["watched"]
    assert list(found["watched"]) == ["utility"]
    assert found["watched"].index.tolist() == list(range(50, 10_001, 50))


def test_a_short_history_is_left_as_it_is() -> None:
    whole = long_history(2000, 25)
    assert thinned(whole) is whole


@pytest.fixture
def five() -> pd.DataFrame:
    """The standing of five samples after three steps: c is forgotten, e has no MRD and was never drawn."""
    made = draws(
        (1, "a", 1.0, True, False),
        (1, "c", 0.8, True, False),
        (2, "c", 0.6, True, False),
        (2, "b", np.nan, True, False),
        (3, "c", 0.4, False, True),
        (3, "a", np.nan, True, False),
        (3, "d", 0.7, True, False),
        (3, "a", 0.9, True, False),
    )
    return standing(curriculum([0.3, 0.1, 0.2, 0.4, np.nan]), made, "mrd_answer_mean")


def test_samples_stand_hardest_first_and_those_without_mrd_last(five: pd.DataFrame) -> None:
    assert five["sample_id"].tolist() == ["b", "c", "a", "d", "e"]
    assert five["tercile"].tolist() == ["hard", "hard", "middle", "easy", "undefined"]
    assert five["n_tokens"].tolist() == [11, 12, 10, 13, 14]


def test_updates_are_draws_that_were_trained_on(five: pd.DataFrame) -> None:
    assert five["updates"].tolist() == [1, 2, 3, 1, 0]
    assert five["draws"].tolist() == [1, 3, 3, 1, 0]
    assert five["realised"].tolist() == [1 / 8, 3 / 8, 3 / 8, 1 / 8, 0]
    assert five["share"].tolist() == [0.2] * 5


def test_a_sample_has_the_accuracy_it_had_when_last_looked_at(five: pd.DataFrame) -> None:
    np.testing.assert_array_equal(five["accuracy"], [np.nan, 0.4, 0.9, 0.7, np.nan])


def test_a_forgotten_sample_has_the_step_that_found_it(five: pd.DataFrame) -> None:
    assert five["state"].tolist() == ["in the pool", "forgotten", *["in the pool"] * 3]
    assert five["forgotten_step"].isna().tolist() == [True, False, True, True, True]
    assert five["forgotten_step"][1] == 3


@pytest.mark.parametrize("empty", [draws(), pd.DataFrame(columns=list(DRAW_TYPES))])
def test_before_the_first_draw_everyone_is_in_the_pool(empty: pd.DataFrame) -> None:
    found = standing(curriculum([0.2, 0.1]), empty, "mrd_answer_mean")
    assert found["updates"].tolist() == [0, 0]
    assert set(found["state"]) == {"in the pool"}
    assert found[["accuracy", "realised", "forgotten_step"]].isna().all(axis=None)
    assert sampling_check(found, empty, with_replacement=True) == SamplingCheck(1.0, True, None, 0)
    assert by_tercile(found)["realised"].isna().all()


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError) as error:
        standing(curriculum([0.2]), draws(), "mrd_none")
    assert "mrd_none" in str(error.value)
    assert "mrd_answer_mean" in str(error.value)


def test_terciles_are_thirds_whatever_the_values() -> None:
    found = standing(curriculum([float(at // 5) for at in range(12)]), draws(), "mrd_answer_mean")
    assert found["tercile"].value_counts().to_dict() == {"hard": 4, "middle": 4, "easy": 4}
    assert found.groupby("tercile")["mrd"].max()["hard"] <= found.groupby("tercile")["mrd"].min()["middle"]


def test_terciles_add_up(five: pd.DataFrame) -> None:
    found = by_tercile(five).set_index("tercile")
    assert found.index.tolist() == ["hard", "middle", "easy", "undefined"]
    assert found["samples"].tolist() == [2, 1, 1, 1]
    assert found["updates"].tolist() == [3, 3, 1, 0]
    assert found["updates_mean"].tolist() == found["updates_median"].tolist() == [1.5, 3, 1, 0]
    assert found["forgotten"].tolist() == [1, 0, 0, 0]
    assert found["realised"].tolist() == [0.5, 0.375, 0.125, 0]
    assert found["share"].tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2])


def check(share: list[float], made: pd.DataFrame, **options: Any) -> SamplingCheck:
    """Return the check of draws from samples of rising MRD."""
    options = {"with_replacement": True} | options
    table = standing(curriculum([float(at) for at in range(len(share))], share), made, "mrd_answer_mean")
    return sampling_check(table, made, **options)


def test_draws_are_tested_as_scipy_tests_them() -> None:
    found = check([0.5, 0.3, 0.2], drawn(list("a" * 23 + "b" * 12 + "c" * 15)))
    assert found.draws == 50
    assert found.p_value == pytest.approx(stats.chisquare([23, 12, 15], [25, 15, 10]).pvalue)
    assert found.effective_share == pytest.approx(1 / (3 * (0.25 + 0.09 + 0.04)))
    assert not found.nearly_uniform


def test_samples_that_expect_too_little_are_pooled() -> None:
    # Of 20 draws 8, 6, 4 and 2 are expected: the last two share a cell.
    found = check([0.1, 0.4, 0.2, 0.3], drawn(list("b" * 12 + "d" * 4 + "c" * 3 + "a")))
    assert found.p_value == pytest.approx(stats.chisquare([12, 4, 4], [8, 6, 6]).pvalue)
    # Of 11 draws 4.95 and 3.3 make a cell; what is left joins it, and one cell tests nothing.
    assert check([0.45, 0.3, 0.25], drawn(list("aaaabbbbccc"))).p_value is None
    # Of 12 draws 6 and 5.4 are a cell each, and the last takes the 0.6 that is left.
    found = check([0.5, 0.45, 0.05], drawn(list("a" * 9 + "bb" + "c")))
    assert found.p_value == pytest.approx(stats.chisquare([9, 3], [6, 6]).pvalue)


def test_only_draws_from_the_whole_pool_at_the_first_weights_are_tested() -> None:
    before = drawn(list("ab" * 10), batch=2)
    found_out = draws((11, "a", 0.1, False, True), (11, "b", 0.9, True, False))
    after = drawn(list("b" * 30), batch=2).assign(step=lambda table: table["step"] + 11)
    made = pd.concat([before, found_out, after], ignore_index=True)
    whole = check([0.5, 0.5], made)
    assert (whole.draws, whole.p_value) == (22, pytest.approx(1))
    assert check([0.5, 0.5], made, reweighed_at=6).draws == 10


def test_a_strict_order_has_nothing_to_test() -> None:
    found = check([0.5, 0.5], drawn(list("ab" * 10)), with_replacement=False)
    assert found == SamplingCheck(1.0, False, None, 20)


def test_a_draw_that_cannot_be_is_not_pooled_away() -> None:
    assert check([0.5, 0.5, 0.0], drawn(list("ab" * 40))).p_value == pytest.approx(1)
    assert check([0.5, 0.5, 0.0], drawn(list("ab" * 40 + "c"))).p_value == 0


def simulated(sampler: str, seed: int, n: int = 26, steps: int = 40) -> pd.DataFrame:
    """Return a run of the real curriculum in which a sample is forgotten at its eighth draw and leaves."""
    scores = dict(zip(curriculum([0.0] * n)["sample_id"], np.linspace(0.5, 2, n), strict=True))
    stream = Curriculum(SAMPLERS[sampler], scores, seed)
    counts = dict.fromkeys(scores, 0)
    rows = []
    for step in range(1, steps + 1):
        batch = stream.next_batch(4)
        for sample in batch:
            counts[sample] += 1
        gone = {sample for sample in batch if counts[sample] >= 8}
        rows += [(step, sample, 0.5, sample not in gone, sample in gone) for sample in batch]
        stream.remove(gone)
    return draws(*rows)


@pytest.mark.slow
def test_under_the_true_shares_p_values_are_uniform_and_under_others_small() -> None:
    weights = np.linspace(0.5, 2, 26)
    runs = [simulated("mrd", seed) for seed in range(80)]
    right = np.array([check(list(weights / weights.sum()), run).p_value for run in runs], dtype=float)
    assert stats.kstest(right, "uniform").pvalue > 0.01
    wrong = np.array([check([1 / 26] * 26, run).p_value for run in runs], dtype=float)
    assert np.median(wrong) < 0.05


def test_efficiency_is_one_over_all_that_was_spent() -> None:
    found = efficiency([summary(), summary("GA + MRD", flops_mrd=1e15)]).set_index("label")
    assert found["flops_total"].tolist() == [1e15, 2e15]
    assert found["flops_per_update"].tolist() == [1e13, 2e13]
    assert found["efficiency"].tolist() == [1, 0.5]
    product = 1 / (found["updates"] * found["flops_per_update"] / 1e15)
    assert product.tolist() == pytest.approx(found["efficiency"].tolist())


def test_a_run_that_ended_early_has_costs_but_no_efficiency() -> None:
    found = efficiency([summary(stop_reason=StopReason.MAX_EPOCHS, forgotten=12, updates=0)]).iloc[0]
    assert not found["reached"]
    assert np.isnan(found["efficiency"])
    assert np.isnan(found["flops_per_update"])
    assert found["flops_total"] == 1e15


def test_a_run_without_a_retain_set_has_no_retain_measures() -> None:
    found = efficiency([summary(retain_nll=None, retain_accuracy=None)])
    assert found[["retain_nll", "retain_accuracy"]].isna().all(axis=None)


def test_settings_that_weigh_by_other_columns_are_told_apart_and_only_they() -> None:
    runs = [
        *(summary(label, column=column) for label in ("GA", "GA + MRD") for column in ("mrd_a", "mrd_b")),
        summary("NPO + MRD", column="mrd_a"),
    ]
    assert efficiency(runs)["label"].tolist() == ["GA", "GA", "GA + MRD (mrd_a)", "GA + MRD (mrd_b)", "NPO + MRD"]


def test_settings_that_share_a_label_are_told_apart_by_one_number_for_all() -> None:
    runs = [
        *(summary(label, setting=setting) for setting in ("slow", "fast") for label in ("GA", "GA + MRD")),
        summary("NPO", setting="slow"),
    ]
    found = efficiency(runs)
    assert found["label"].tolist() == [
        "GA, setting 1",
        "GA + MRD, setting 1",
        "GA, setting 2",
        "GA + MRD, setting 2",
        "NPO",
    ]
    assert grouped(found)["runs"].tolist() == [1] * 5
    assert against_uniform(found)["seeds"].tolist() == [1, 1]


def test_no_runs_give_empty_tables() -> None:
    nothing = efficiency([])
    assert nothing.empty
    assert grouped(nothing).empty
    assert against_uniform(nothing).empty
    assert at_equal_updates({}).empty


def test_settings_have_mean_and_sample_deviation_over_their_seeds() -> None:
    runs = [summary("NPO", seed, updates=updates) for seed, updates in enumerate((90, 100, 110))]
    found = grouped(efficiency([*runs, summary("GA"), summary("NPO", 2, updates=120)])).set_index("label")
    assert found.index.tolist() == ["NPO", "GA"]
    assert found.loc["NPO", ["runs", "reached"]].tolist() == [3, 3]
    assert found.loc["NPO", "updates"] == pytest.approx(np.mean([90, 100, 120]))
    assert found.loc["NPO", "updates_sd"] == pytest.approx(np.std([90, 100, 120], ddof=1))
    assert np.isnan(found.loc["GA", "updates_sd"])


def pairs(uniform: list[int], sampled: list[int], **changed: Any) -> list[dict[str, Any]]:
    """Return runs of GA with both samplers, by seed; `changed` is of the last run."""
    runs = [summary("GA", seed, updates=updates) for seed, updates in enumerate(uniform)]
    runs += [summary("GA + MRD", seed, updates=updates) for seed, updates in enumerate(sampled)]
    return [*runs[:-1], runs[-1] | changed]


def test_samplers_are_compared_with_uniform_seed_by_seed() -> None:
    (found,) = against_uniform(efficiency(pairs([100, 120, 140], [94, 116, 132]))).to_dict("records")
    assert (found["method"], found["label"], found["sampler"]) == ("ga", "GA + MRD", "mrd")
    assert (found["seeds"], found["pairs"]) == (3, 3)
    assert found["updates_difference"] == -6
    assert found["updates_ratio"] == pytest.approx(342 / 360)
    expected = stats.ttest_rel([94, 116, 132], [100, 120, 140]).confidence_interval(0.95)
    assert (found["updates_low"], found["updates_high"]) == pytest.approx(tuple(expected))
    assert found["verdict"] == "fewer updates"
    assert found["stops"] == "equal: everything forgotten"


@pytest.mark.parametrize(
    ("sampled", "verdict"),
    [
        ([106, 124, 148], "more updates"),
        ([100, 120, 140], "no difference beyond the spread"),
        ([60, 160, 135], "no difference beyond the spread"),
        ([60, 80], "cannot tell (fewer than 3 seeds)"),
    ],
)
def test_the_verdict_knows_the_spread(sampled: list[int], verdict: str) -> None:
    (found,) = against_uniform(efficiency(pairs([100, 120, 140], sampled)))["verdict"]
    assert found == verdict


def test_methods_are_not_compared_with_each_other() -> None:
    runs = [summary(label, seed) for label in ("GA", "NPO", "NPO + MRD", "NPO, easy-to-hard") for seed in (0, 1)]
    assert against_uniform(efficiency(runs))["label"].tolist() == ["NPO + MRD", "NPO, easy-to-hard"]


@pytest.mark.parametrize(
    "changed",
    [
        {"stop_reason": StopReason.MAX_STEPS},
        {"thresholds": {"source": "absolute", "accuracy": 0.3, "extraction": None}},
        {"thresholds": {"source": "absolute", "accuracy": 0.5, "extraction": 0.1}},
    ],
)
def test_runs_that_stopped_differently_are_no_pair_and_leave_no_verdict(changed: dict[str, Any]) -> None:
    runs = pairs([100, 101, 102, 103], [50, 51, 52, 10], **changed)
    (found,) = against_uniform(efficiency(runs)).to_dict("records")
    assert (found["seeds"], found["pairs"]) == (4, 3)
    assert found["updates_difference"] == -50
    assert found["verdict"] == "cannot tell (stops differ or are limits)"
    assert found["stops"].startswith("1 of 4 pairs left out")


def test_pairs_that_both_ended_at_a_limit_are_compared_but_leave_no_verdict() -> None:
    runs = [run | {"stop_reason": StopReason.MAX_EPOCHS} for run in pairs([100, 101, 102], [50, 51, 52])]
    (found,) = against_uniform(efficiency(runs)).to_dict("records")
    assert found["pairs"] == 3
    assert found["verdict"].startswith("cannot tell")
    assert "3 of 3 pairs ended before" in found["stops"]


def test_stops_that_are_not_of_one_family_are_not_alike() -> None:
    for reason in StopReason:
        runs = pairs([100] * 3, [100] * 3, stop_reason=reason)
        expected = 3 if reason is StopReason.ALL_FORGOTTEN else 2
        assert against_uniform(efficiency(runs))["pairs"].tolist() == [expected]


def test_without_a_common_seed_there_is_nothing_to_say() -> None:
    runs = [summary("GA", 0), summary("GA + MRD", 1)]
    (found,) = against_uniform(efficiency(runs)).to_dict("records")
    assert found["pairs"] == 0
    assert found["stops"] == "no seed in common"
    assert np.isnan(found["updates_difference"])


def test_runs_of_one_seed_that_differ_in_more_than_the_curriculum_are_no_pair() -> None:
    # Of each seed there is a run with a small and one with a large rate; every pair differs by 10 updates.
    runs = [
        summary(label, seed, setting=setting, updates=base + seed - (10 if "MRD" in label else 0))
        for label in ("GA", "GA + MRD")
        for seed in (0, 1)
        for setting, base in (("small rate", 1000), ("large rate", 100))
    ]
    both = against_uniform(efficiency(runs)).to_dict("records")
    assert [found["label"] for found in both] == ["GA + MRD, setting 1", "GA + MRD, setting 2"]
    for found in both:
        assert (found["seeds"], found["pairs"]) == (2, 2)
        assert (found["updates_difference"], found["updates_low"], found["updates_high"]) == (-10, -10, -10)
        # Four runs of two seeds say no more of other seeds than two.
        assert found["verdict"] == "cannot tell (fewer than 3 seeds)"
    (alone,) = against_uniform(efficiency([runs[0], runs[5]])).to_dict("records")
    assert (runs[0]["seed"], runs[5]["seed"]) == (0, 0)
    assert (alone["seeds"], alone["pairs"], alone["stops"]) == (0, 0, "no seed in common")


def test_what_is_forgotten_at_the_end_is_compared_too() -> None:
    runs = [
        summary(label, seed, forgotten_at_end=40 - (2 + seed if "MRD" in label else 0))
        for label in ("GA", "GA + MRD")
        for seed in range(3)
    ]
    (found,) = against_uniform(efficiency(runs)).to_dict("records")
    assert found["forgotten_at_end_difference"] == -3
    assert found["forgotten_at_end_ratio"] == pytest.approx(37 / 40)
    expected = stats.ttest_rel([38, 37, 36], [40, 40, 40]).confidence_interval(0.95)
    assert (found["forgotten_at_end_low"], found["forgotten_at_end_high"]) == pytest.approx(tuple(expected))


def test_one_pair_has_a_difference_but_no_interval() -> None:
    found = paired_difference(pd.Series([3.0, np.nan]), pd.Series([1.0, 7.0]))
    assert found.value == 2
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_the_interval_of_the_paired_difference_covers() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(1000):
        seeds = generator.normal(400, 60, 4)
        uniform, sampled = seeds + generator.normal(0, 15, 4), seeds - 20 + generator.normal(0, 15, 4)
        found = paired_difference(pd.Series(sampled), pd.Series(uniform))
        hits += found.low <= -20 <= found.high
    assert stats.binom.ppf(0.001, 1000, 0.95) <= hits <= stats.binom.ppf(0.999, 1000, 0.95)


def test_runs_are_held_side_by_side_at_the_updates_of_the_shortest() -> None:
    short = history(
        metrics(
            (0, "retain_nll", 0.1),
            *((step, "updates", 4.0 * step) for step in (1, 2)),
            *((step, "forget_nll", 1.0 * step) for step in (1, 2)),
            *((step, "forgotten", 1.0) for step in (1, 2)),
        )
    )
    steps = range(1, 31)
    long = history(
        metrics(
            *((step, "updates", 3.0 * min(step, 25) / 5) for step in steps),
            *((step, "forget_nll", float(step)) for step in steps),
            (10, "retain_nll", 0.5),
            (20, "retain_nll", 0.6),
        )
    )
    found = at_equal_updates({"short": short, "long": long, "queued": history(metrics())}).set_index("run")
    assert found.index.tolist() == ["short", "long"]
    # 8 updates: after step 2, and after step 14 with 8.4.
    assert found["step"].tolist() == [2, 14]
    assert found["updates"].tolist() == [8, pytest.approx(8.4)]
    assert found["forgotten"].tolist()[0] == 1
    assert np.isnan(found["forgotten"].tolist()[1])
    assert found["forget_nll"].tolist() == [1.5, 7.5]
    assert found["retain_nll"].tolist() == [0.1, 0.5]


def test_the_forget_nll_at_equal_updates_is_of_the_last_twenty_steps() -> None:
    run = history(
        metrics(*((step, name, float(step)) for step in range(1, 101) for name in ("updates", "forget_nll")))
    )
    found = at_equal_updates({"one": run, "other": run.loc[:50]})
    assert found["forget_nll"].tolist() == [np.median(np.arange(31, 51))] * 2


@pytest.fixture
def files(tmp_path: Path) -> UnlearningFiles:
    """The files of a finished run over three samples."""
    files = UnlearningFiles(tmp_path)
    write_frame(files.curriculum, curriculum([0.3, np.nan, 0.1]))
    write_frame(
        files.outcome,
        pd.DataFrame(
            {
                "sample_id": ["a", "b", "c"],
                "updates": [3, 0, 5],
                "own_answer_before": ["Paris", None, ""],
                "own_answer_after": ["x x x", None, "no"],
            }
        ),
    )
    write_frame(
        files.tokens,
        pd.DataFrame(
            {
                "sample_id": ["a", "c", "a"],
                "position": [1, 0, 0],
                "piece": ["is", "No", "Par"],
                "log_prob_before": [-0.1, -0.2, -0.3],
                "log_prob_after": [-5.0, -6.0, -7.0],
            }
        ),
    )
    return files


def test_an_outcome_stands_beside_the_difficulty(files: UnlearningFiles) -> None:
    found = outcome(files, "mrd_answer_mean")
    assert found["sample_id"].tolist() == ["c", "a", "b"]
    assert found["updates"].tolist() == [5, 3, 0]
    assert found["tercile"].tolist() == ["hard", "middle", "undefined"]


def test_the_tokens_of_a_sample_come_in_order(files: UnlearningFiles) -> None:
    found = answer_tokens(files, "a")
    assert found["piece"].tolist() == ["Par", "is"]
    assert found["log_prob_after"].tolist() == [-7, -5]


def test_own_answers_are_those_of_the_sample_and_none_where_not_written(files: UnlearningFiles) -> None:
    assert own_answers(files, "a") == ("Paris", "x x x")
    assert own_answers(files, "b") == (None, None)
    assert own_answers(files, "c") == ("", "no")
    with pytest.raises(KeyError):
        own_answers(files, "z")


def test_a_run_that_goes_on_has_no_outcome_yet(tmp_path: Path) -> None:
    files = UnlearningFiles(tmp_path)
    for read in (answer_tokens, own_answers, outcome):
        with pytest.raises(UserError, match="yet"):
            read(files, "a")
