"""Comparisons of evaluations against closed forms, brute force and scipy; noise that covers what it should."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from analysis.comparison.columns import HarmonicMean
from analysis.comparison.evaluated import Evaluated, parse, read
from analysis.comparison.long import long
from analysis.comparison.replicates import (
    SeedNoise,
    View,
    difference,
    limits,
    shared_samples,
    unpaired_noise,
    views,
)
from analysis.comparison.table import Comparison, compare, default_baseline
from analysis.export.comparison import legend, table
from analysis.statistics.bootstrap import REPLICATES
from analysis.statistics.groups import holm
from mrd_core.errors import UserError
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs.files import read_json, write_json
from tests.support.evaluations import Values, answers_of, evaluated, write_evaluation


def view_of(**values: Sequence[float]) -> View:
    """Return a view of one run's values by `SPLIT__METRIC`."""
    keys = {name: tuple(name.split("__")) for name in values}
    frame = pd.concat(
        pd.DataFrame(
            {
                "split": split,
                "sample_id": map(str, range(len(values[name]))),
                "metric": metric,
                "value": values[name],
            }
        )
        for name, (split, metric) in keys.items()
    )
    run = Evaluated(Path(), "a", "a", None, "custom", {}, frame, frame.iloc[:0, [0, 2, 3]], ())
    return views([run], shared_samples([run]))[run]


def cell(found: Comparison, group: str, column: str) -> Mapping[str, Any]:
    cells = found.cells
    return dict(cells[(cells["group"] == group) & (cells["column"] == column)].iloc[0])


def row(found: Comparison, group: str, column: str, against: str = "Original") -> Mapping[str, Any]:
    rows = found.differences
    chosen = (rows["group"] == group) & (rows["column"] == column) & (rows["against"] == against)
    return dict(rows[chosen].iloc[0])


def seeded(level: float, seed: int, n: int = 40) -> Values:
    return answers_of(np.random.default_rng(100 + seed), level, n)


# Statistics and their replicates


def test_an_auc_is_the_share_of_pairs_won_in_every_replicate() -> None:
    generator = np.random.default_rng(3)
    ours, theirs = generator.integers(0, 5, size=12), generator.integers(1, 6, size=9)
    view = view_of(forget__score=ours, retain__score=theirs)
    found = view.auc("score", ("forget",), ("retain",))
    wins = (ours[:, None] > theirs) + (ours[:, None] == theirs) / 2
    for at in (0, 1, REPLICATES):
        first, second = view.counts["forget"][at], view.counts["retain"][at]
        assert found[at] == pytest.approx(first @ wins @ second / (first.sum() * second.sum()))
    assert found[0] == pytest.approx(wins.mean())


def test_an_auc_pools_sets_and_leaves_out_what_is_undefined() -> None:
    view = view_of(forget__s=[1, 3, 1, 3, np.nan], bio__s=[2.0, 2.0], retain__s=[0, 2, 0, 2, np.nan])
    # 1 > 0; 3 > 0, 2; 2 > 0 and half of 2 = 2.
    assert view.auc("s", ("forget", "bio"), ("retain",))[0] == pytest.approx((1 + 2 + 1.5) / 6)
    assert np.isnan(view.auc("s", ("forget",), ("nowhere",))).all()


def test_perplexity_weighs_samples_by_their_tokens() -> None:
    view = view_of(texts__nll=[1.0, 2.0, np.nan], texts__answer_tokens=[1, 3, 5])
    assert view.perplexity("texts")[0] == pytest.approx(np.exp(7 / 4))


def test_a_harmonic_mean_is_scipys_and_0_where_a_part_is() -> None:
    view = view_of(a__x=[0.2, 0.4], b__x=[0.9, 0.7], c__x=[0, 0])
    assert HarmonicMean((("a", "x"), ("b", "x")), ("a", "whole"))(view)[0] == pytest.approx(
        stats.hmean([0.3, 0.8])
    )
    assert HarmonicMean((("a", "x"), ("c", "x")), ("a", "whole"))(view)[0] == 0


def test_sets_of_one_size_are_drawn_independently() -> None:
    counts = view_of(a__x=[1.0] * 30, b__x=[1.0] * 30).counts
    assert not np.array_equal(counts["a"], counts["b"])


@pytest.mark.parametrize("n", [8, 40])
def test_intervals_cover_the_truth_95_times_in_100(n: int) -> None:
    trials = np.random.default_rng(0).normal(size=(n, 200))
    means = view_of(a__x=np.zeros(n)).counts["a"] @ trials / n
    found = [limits(mean, n) for mean in means.T]
    assert 0.91 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.99


def test_intervals_keep_to_what_values_can_be_and_need_a_few_samples() -> None:
    mean = view_of(a__x=[1, 1, 1, 0, 1, 1]).mean(("a", "x"))
    assert limits(mean, 6, (0, 1)).high == 1
    assert np.isnan(limits(mean, 3)[:3]).tolist() == [False, True, True]


def test_a_difference_has_the_noise_of_samples_and_of_seeds() -> None:
    replicates = np.concatenate([[0.3], np.random.default_rng(1).normal(0.3, 0.1, size=REPLICATES)])
    of_samples = replicates[1:].var(ddof=1) * 20 / 19
    found = difference(replicates, SeedNoise(0.04, 2), 20)
    variance = of_samples + 0.04
    freedom = variance**2 / (of_samples**2 / 19 + 0.04**2 / 2)
    margin = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert found.estimate[1:3] == pytest.approx((0.3 - margin, 0.3 + margin))
    assert found.p == pytest.approx(2 * stats.t.sf(0.3 / np.sqrt(variance), freedom))


@pytest.mark.parametrize(
    ("value", "n", "p"), [(0.0, 20, 1.0), (0.5, 20, 2.0**-19), (0.5, 2, np.nan), (0.5, 0, np.nan)]
)
def test_a_difference_without_noise_is_certain_or_unknown(value: float, n: int, p: float) -> None:
    assert difference(np.full(1 + REPLICATES, value), SeedNoise(), n).p == pytest.approx(p, nan_ok=True)


def test_a_difference_of_samples_without_replicates_is_of_unknown_noise() -> None:
    stated = np.full(1 + REPLICATES, np.nan)
    stated[0] = 0.01
    found = difference(stated, SeedNoise(1e-9, 2), 400)
    assert found.estimate.value == 0.01
    assert np.isnan([found.estimate.low, found.estimate.high, found.p]).all()


def test_seeds_that_are_no_pairs_are_compared_as_welch_does() -> None:
    first, second = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.5])
    found = difference(np.full(1 + REPLICATES, np.mean(first) - np.mean(second)), unpaired_noise(first, second), 0)
    assert found.p == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)


# Comparisons


def test_columns_are_means_over_samples_and_seeds() -> None:
    original = evaluated(seeded(0.9, 0))
    runs = [evaluated(seeded(0.4, seed), method="ga", seed=seed) for seed in range(3)]
    found = compare([original, *runs], 0)
    values = [seeded(0.4, seed) for seed in range(3)]
    of_seed = [1 - np.mean(each["forget", "rouge"]) for each in values]
    rr = cell(found, "GA", "rr")
    assert rr["each"] == pytest.approx(of_seed)
    assert (rr["mean"], rr["sd"], rr["seeds"]) == pytest.approx((np.mean(of_seed), np.std(of_seed, ddof=1), 3))
    means = [cell(found, "GA", key)["mean"] for key in ("ua", "mia", "rr")]
    assert cell(found, "GA", "completeness")["mean"] == pytest.approx(np.mean(means))
    kept = [cell(found, "GA", f"retain_{key}")["mean"] for key in ("accuracy", "rouge")]
    assert cell(found, "GA", "utility")["mean"] == pytest.approx(np.mean(kept))
    assert cell(found, "GA", "average")["mean"] == pytest.approx((np.mean(means) + np.mean(kept)) / 2)
    assert [group.label for group in found.groups] == ["Original", "GA"]
    assert found.groups[1].seeds == (0, 1, 2)
    assert set(found.runs["run"]) == {"Original", "GA, seed 0", "GA, seed 1", "GA, seed 2"}
    assert found.costs.set_index("group").loc["GA", ["updates", "updates_sd"]].tolist() == [101, 1]


def test_a_difference_of_two_runs_is_that_of_a_paired_t_test() -> None:
    before, after = seeded(0.9, 0, 60), seeded(0.7, 1, 60)
    found = compare([evaluated(before), evaluated(after, method="ga")], 0)
    rouge = row(found, "GA", "rr")
    tested = stats.ttest_rel(before["forget", "rouge"], after["forget", "rouge"])  # type: ignore[arg-type]
    interval = tested.confidence_interval()
    assert rouge["difference"] == pytest.approx(
        np.subtract(before["forget", "rouge"], after["forget", "rouge"]).mean()
    )
    assert (rouge["low"], rouge["high"]) == pytest.approx((interval.low, interval.high), abs=0.004)
    assert (rouge["marked"], rouge["better"]) == (True, True)
    assert "One seed: GA." in " ".join(found.notes)


def test_p_values_are_corrected_over_the_columns_of_a_pair() -> None:
    found = compare([evaluated(seeded(0.9, 0)), evaluated(seeded(0.8, 1), method="ga")], 0).differences
    assert list(found["p_holm"]) == pytest.approx(holm(list(found["p"])))
    assert list(found["marked"]) == [p < 0.05 for p in found["p_holm"]]


def test_two_runs_alike_are_not_marked() -> None:
    pairs = [[evaluated(seeded(0.6, seed)), evaluated(seeded(0.6, seed + 1), method="ga")] for seed in (0, 10, 20)]
    assert sum(bool(compare(pair, 0).differences["marked"].any()) for pair in pairs) <= 1


def test_x_with_mrd_is_held_against_x_seed_by_seed() -> None:
    runs = [evaluated(seeded(0.9, 0))]
    for sampler, level in (("uniform", 0.5), ("mrd", 0.3)):
        runs += [evaluated(seeded(level, seed), method="npo", sampler=sampler, seed=seed) for seed in range(3)]
    found = compare(runs, 0)
    pair = row(found, "NPO + MRD", "rr", "NPO")
    assert (pair["seeds"], pair["marked"], pair["better"]) == (3, True, True)
    assert pair["difference"] == pytest.approx(
        cell(found, "NPO + MRD", "rr")["mean"] - cell(found, "NPO", "rr")["mean"]
    )
    assert set(found.differences["against"]) == {"Original", "NPO"}
    assert found.settings.to_numpy().tolist() == [["curriculum.sampler", "–", "uniform", "mrd"]]


def test_groups_of_one_label_are_told_apart_by_what_was_set() -> None:
    runs = [evaluated(seeded(0.5, 0), method="ga", learning_rate=rate) for rate in (1e-4, 3e-4)]
    runs += [evaluated(seeded(0.9, 0), model=f"/models/{name}") for name in ("full", "retain90")]
    found = compare(runs, default_baseline(runs))
    assert [group.label for group in found.groups] == [
        *("Original (full)", "GA (learning rate 0.0001)", "GA (learning rate 0.0003)", "Original (retain90)")
    ]
    assert found.baseline == "Original (full)"
    settings = found.settings.set_index("setting")
    assert settings.loc["optimiser.learning_rate"].tolist() == ["–", "0.0001", "0.0003", "–"]


def test_a_setting_and_seed_that_is_there_twice_counts_once() -> None:
    found = compare([evaluated(seeded(0.5, 0)), evaluated(seeded(0.6, 1))], 0)
    assert len(found.groups[0].runs) == 1
    assert "1 evaluations of a setting and seed that another has too count for nothing." in found.notes


def test_a_set_without_a_signal_is_in_no_mean() -> None:
    quiet = np.random.default_rng(5).random(40) * 0.2
    extra = {("world_facts", "rouge"): quiet, ("world_facts", "rouge_shuffled"): quiet + 0.01}
    found = compare([evaluated(seeded(0.9, 0) | extra, suite="tofu")], 0)  # type: ignore[operator]
    assert {column.key for column in found.columns if not column.signal} == {"world_facts_rouge"}
    kept = [cell(found, "Original", f"retain_{key}")["mean"] for key in ("accuracy", "rouge")]
    assert cell(found, "Original", "utility")["mean"] == pytest.approx(np.mean(kept))
    assert "No signal in world_facts" in " ".join(found.notes)


def test_choices_that_may_be_guesses_are_in_no_mean(tmp_path: Path) -> None:
    right = {"bio": [1] * 13 + [0] * 27, "cyber": [1] * 36 + [0] * 4, "mmlu": [1] * 16 + [0] * 24}
    values = {(name, "multiple_choice"): found for name, found in right.items()}
    run = write_evaluation(tmp_path / "wmdp", values, suite="wmdp", options=4)
    found = compare([read(run)])
    assert {column.key for column in found.columns if not column.signal} == {"bio", "mmlu"}
    assert cell(found, "Original", "completeness")["mean"] == pytest.approx(0.1)
    assert not [column for column in found.columns if column.key == "utility"]
    assert "No signal in bio, mmlu: it is not certain that the baseline chooses rightly" in " ".join(found.notes)


def test_of_many_options_fewer_are_right_by_chance(tmp_path: Path) -> None:
    values = {("mmlu", "multiple_choice"): [1] * 16 + [0] * 24}
    run = write_evaluation(tmp_path / "wmdp", values, suite="wmdp", options=10)
    assert all(column.signal for column in compare([read(run)]).columns)


def test_forget_quality_is_the_median_of_ks_tests() -> None:
    generator = np.random.default_rng(2)
    reference = generator.lognormal(size=40)
    ratios = [generator.lognormal(shift, size=40) for shift in (0.2, 0.5, 1.0)]
    runs = [
        evaluated(
            {
                **seeded(0.5, seed),
                ("forget", "truth_ratio_raw"): ours,
                ("forget", "truth_ratio_reference"): reference,
            },
            method="ga",
            seed=seed,
        )
        for seed, ours in enumerate(ratios)
    ]
    found = compare(runs, 0)
    expected = [stats.ks_2samp(ours, reference).pvalue for ours in ratios]
    quality = cell(found, "GA", "forget_quality")
    assert quality["each"] == pytest.approx(expected)
    assert quality["mean"] == pytest.approx(np.median(expected))
    assert np.isnan([quality["sd"], quality["low"]]).all()


def test_an_undefined_value_is_left_out_of_the_pair_and_counted() -> None:
    before, after = seeded(0.9, 0), dict(seeded(0.5, 1))
    holed = np.array(after["forget", "rouge"])
    holed[:3] = np.nan
    found = compare([evaluated(before), evaluated(after | {("forget", "rouge"): holed}, method="ga")], 0)
    changed = np.asarray(before["forget", "rouge"])[3:] - holed[3:]
    assert row(found, "GA", "rr")["difference"] == pytest.approx(changed.mean())
    assert (row(found, "GA", "rr")["n"], cell(found, "GA", "rr")["n"], cell(found, "GA", "rr")["undefined"]) == (
        *(37, 37, 3),
    )
    assert cell(found, "Original", "rr")["n"] == 37


def test_runs_are_compared_on_the_samples_that_all_have() -> None:
    values = seeded(0.9, 0)
    fewer = {key: np.asarray(found)[10:] if key[0] == "forget" else found for key, found in seeded(0.5, 1).items()}
    ids = {"forget": [f"forget-{at}" for at in range(10, 40)]}
    found = compare([evaluated(values), evaluated(fewer, method="ga", ids=ids)], 0)
    expected = 1 - np.mean(np.asarray(values["forget", "rouge"])[10:])
    assert cell(found, "Original", "rr")["mean"] == pytest.approx(expected)
    assert "forget: compared on the 30 samples that all have; there are up to 40." in found.notes


def test_a_result_file_is_compared_where_it_has_values() -> None:
    run = evaluated(seeded(0.9, 0))
    by_index = {str(at): {"rougeL_recall": 0.25} for at in range(40)}
    content = f'{{"forget_Q_A_ROUGE": {{"agg_value": 0.25, "value_by_index": {by_index}}}}}'.replace("'", '"')
    found = compare([parse("npo.json", content.encode()), run], 1)
    assert row(found, "npo", "rr")["difference"] == pytest.approx(0.75 - cell(found, "Original", "rr")["mean"])
    assert np.isnan(cell(found, "npo", "completeness")["mean"])
    assert "npo: no value of UA, MIA" in " ".join(found.notes)


def test_suites_have_columns_of_their_own() -> None:
    right = {"bio": [1, 0, 0, 0, 1], "cyber": [1, 1, 0, 0, 0], "mmlu": [1, 1, 1, 0, 1]}
    wmdp = compare([evaluated({(name, "multiple_choice"): found for name, found in right.items()}, suite="wmdp")])
    assert cell(wmdp, "Original", "completeness")["mean"] == pytest.approx(0.6)
    assert cell(wmdp, "Original", "utility")["mean"] == pytest.approx(0.8)
    harness = {
        "piqa": {"acc,none": 0.6, "acc_stderr,none": 0.1},
        "boolq": {"acc": 0.8},
        "truthfulqa_mc2": {"acc": 0.3},
    }
    texts: dict[tuple[str, str], npt.ArrayLike] = {
        ("seen", "rouge"): [0.1, 0.2, 0.1, 0.0],
        ("texts", "nll"): [1.0, 1.0],
        ("texts", "answer_tokens"): [5, 5],
    }
    whp = compare([evaluated(texts, suite="whp", harness=harness)])
    assert cell(whp, "Original", "completeness")["mean"] == pytest.approx(0.9)
    assert cell(whp, "Original", "zero_shot")["mean"] == pytest.approx(0.7)
    assert cell(whp, "Original", "truthfulqa")["mean"] == pytest.approx(0.3)
    assert cell(whp, "Original", "texts_perplexity")["mean"] == pytest.approx(np.e)


def test_a_seed_without_end_is_named_where_it_is_in_no_mean() -> None:
    def run(nll: float, seed: int) -> Evaluated:
        texts = {("texts", "nll"): [nll, 2.0], ("texts", "answer_tokens"): [5, 5]}
        return evaluated(seeded(0.9, 0) | texts, method="ga", seed=seed)  # type: ignore[operator]

    found = compare([run(1.0, 0), run(1600.0, 1)])
    assert cell(found, "GA", "texts_perplexity")["mean"] == pytest.approx(np.exp(1.5))
    assert "Perplexity, Texts: infinite in GA, seed 1, which is in no mean." in found.notes


def test_on_how_many_processes_a_run_went_is_no_setting(tmp_path: Path) -> None:
    runs = [
        write_evaluation(tmp_path / str(seed), seeded(0.5, seed), method="ga", seed=seed, processes=seed + 1)
        for seed in (0, 1)
    ]
    for run in runs[1:]:
        account = read_json(EvaluationFiles(run).unlearned)
        account["config"]["processes"] = 2
        write_json(EvaluationFiles(run).unlearned, account)
    assert compare([read(run) for run in runs]).groups[0].seeds == (0, 1)


def test_the_precision_of_an_evaluation_is_a_part_of_how_it_measures(tmp_path: Path) -> None:
    runs = [write_evaluation(tmp_path / "fine", seeded(0.9, 0))]
    for precision in ("float32", "bfloat16"):
        runs.append(write_evaluation(tmp_path / precision, seeded(0.5, 0), method="ga"))
        summary = read_json(EvaluationFiles(runs[-1]).summary)
        reasons = {"dtype": f"{precision} (as asked)"}
        write_json(EvaluationFiles(runs[-1]).summary, summary | {"reasons": reasons})
    found = compare([read(run) for run in runs])
    assert len(found.groups) == 3
    assert "Not measured alike: evaluation.dtype is auto and float32 and bfloat16." in found.notes


def test_samples_of_a_file_are_numbered_whatever_the_order_of_its_keys() -> None:
    values = np.random.default_rng(3).random(40)
    run = evaluated({("forget", "rouge"): values})
    by_index = {str(at): {"rougeL_recall": value} for at, value in enumerate(values)}
    content = {"forget_Q_A_ROUGE": {"agg_value": values.mean(), "value_by_index": by_index}}
    file = parse("npo.json", json.dumps(content, sort_keys=True).encode())
    gone = row(compare([file, run], 1), "npo", "rr")
    assert (gone["difference"], gone["low"], gone["high"]) == pytest.approx((0, 0, 0), abs=1e-12)


def test_texts_beside_answers_have_a_perplexity_and_stand_in_for_nothing_unseen() -> None:
    texts: dict[tuple[str, str], npt.ArrayLike] = {
        ("texts", "nll"): [1.0, 2.0],
        ("texts", "answer_tokens"): [5, 5],
        ("texts", "mia_min_k"): [0.1, 0.2],
    }
    run = evaluated(seeded(0.9, 0) | texts)  # type: ignore[operator]
    found = compare([run])
    assert cell(found, "Original", "texts_perplexity")["mean"] == pytest.approx(np.exp(1.5))
    assert {asked.kind for asked in run.sets} == {"answers", "texts"}
    assert not {"mia_unseen", "texts_accuracy", "texts_rouge"} & {column.key for column in found.columns}


def test_membership_against_unseen_samples_is_best_at_one_half() -> None:
    unseen = {("held_out", "mia_min_k"): np.random.default_rng(9).normal(loc=0.8, size=40)}
    found = compare(
        [evaluated(seeded(0.9, 0) | unseen), evaluated(seeded(0.3, 1) | unseen, method="ga")]  # type: ignore[operator]
    )
    column = next(column for column in found.columns if column.key == "mia_unseen")
    assert column.good == "half"
    first, second = (cell(found, group, "mia_unseen")["mean"] for group in ("Original", "GA"))
    assert row(found, "GA", "mia_unseen")["better"] is (abs(second - 0.5) < abs(first - 0.5))


def test_membership_against_the_reference_is_best_at_zero_and_has_no_bounds() -> None:
    random = np.random.default_rng(4)
    far, near = random.normal(-3, 0.2, size=40), random.normal(0.4, 0.2, size=40)
    found = compare(
        [
            evaluated({("forget", "token_membership"): far}),
            evaluated({("forget", "token_membership"): near}, method="ga"),
        ]
    )
    column = next(column for column in found.columns if column.key == "token_membership")
    assert (column.good, column.title) == ("zero", "Token membership [nats per token]")
    assert row(found, "GA", "token_membership")["better"]
    baseline = cell(found, "Original", "token_membership")
    assert baseline["mean"] == pytest.approx(far.mean())
    assert baseline["low"] < baseline["mean"] < baseline["high"] < 0


def quality_of(method: str | None = None, kept: float = 0.8, **values: Any) -> Evaluated:
    """Return a run whose truth ratios are those of the reference, and which keeps so much of its answers."""
    ratios = np.random.default_rng(1).random((2, 40))
    found = dict(answers_of(np.random.default_rng(2), 0.3, kept=kept))
    found |= {("forget", name): ratio for name, ratio in zip(RATIOS, ratios, strict=True)}
    split_of = {f"{split}_repetition": (split, "repetition") for split in ("forget", "retain")}
    return evaluated(found | {split_of[name]: value for name, value in values.items()}, method=method)


RATIOS = ("truth_ratio_raw", "truth_ratio_reference")


def test_a_blessing_of_a_broken_model_is_marked() -> None:
    sound, broken = quality_of("npo", 0.78), quality_of("ga", 0.4)
    found = compare([quality_of(kept=0.8), sound, broken])
    quality = cell(found, "GA", "forget_quality")
    assert quality["mean"] == cell(found, "NPO", "forget_quality")["mean"] > 0.05
    assert "beside Original it lost answers" in quality["caution"]
    assert "ROUGE-L 0.80 to 0.40" in quality["caution"]
    assert cell(found, "NPO", "forget_quality")["caution"] == cell(found, "GA", "rr")["caution"] == ""
    assert any(note.startswith("GA, seed 0: Forget quality is no good sign") for note in found.notes)
    assert "§ the model is damaged" in legend(found)
    marked = table(found).set_index("Setting")["Forget quality"]
    assert (marked["GA"][-1], marked["NPO"][-1]) == ("§", quality_text(quality["mean"])[-1])
    rows = long(found).query("column == 'forget_quality' and setting == 'GA'")
    assert rows["note"].str.contains("damaged").all()
    assert not long(found).query("setting == 'NPO'")["note"].str.contains("damaged").any()


def quality_text(value: float) -> str:
    return f"{value:.2g}"


def test_a_rejected_model_needs_no_mark() -> None:
    broken = quality_of("ga", 0.4)
    far = broken.values["value"].where(broken.values["metric"] != "truth_ratio_raw", 9.0)
    found = compare([quality_of(), replace(broken, values=broken.values.assign(value=far))])
    quality = cell(found, "GA", "forget_quality")
    assert quality["mean"] < 1e-6
    assert quality["caution"] == ""


def test_extraction_strength_stands_on_both_sides() -> None:
    strengths = {("forget", "extraction_strength"): [0.1, 0.2], ("retain", "extraction_strength"): [0.8, 0.6]}
    found = compare([evaluated(strengths)])
    good = {column.key: column.good for column in found.columns}
    assert (good["extraction_strength"], good["retain_extraction_strength"]) == ("low", "high")
    assert cell(found, "Original", "retain_extraction_strength")["mean"] == pytest.approx(0.7)


def test_accuracy_is_by_embeddings_where_all_runs_have_them() -> None:
    far, near = ([1.0] * 20 + [0.0] * 20), ([1.0] * 30 + [0.0] * 10)
    by_words = {("forget", "accuracy"): far}
    both = [{**seeded(level, 0), **by_words, ("forget", "accuracy_embedding"): near} for level in (0.9, 0.3)]
    runs = [evaluated(both[0]), evaluated(both[1], method="ga")]
    found = compare(runs)
    assert cell(found, "GA", "ua")["mean"] == pytest.approx(0.25)
    assert cell(found, "GA", "ua_rouge")["mean"] == pytest.approx(0.5)
    # It stands beside, and takes no part in the mean.
    averaged = [cell(found, "GA", key)["mean"] for key in ("ua", "mia", "rr")]
    assert cell(found, "GA", "completeness")["mean"] == pytest.approx(np.mean(averaged))
    models = zip(runs, ("MiniLM", "mpnet"), strict=True)
    of_two_models = [replace(run, settings={**run.settings, "embedding_model": name}) for run, name in models]
    assert cell(compare(of_two_models), "GA", "ua")["mean"] == pytest.approx(0.5)
    one_alone = compare([runs[0], evaluated(seeded(0.3, 0) | by_words, method="ga")])
    assert cell(one_alone, "GA", "ua")["mean"] == pytest.approx(0.5)
    assert "ua_rouge" not in {column.key for column in one_alone.columns}


def test_what_cannot_be_compared_is_refused() -> None:
    run = evaluated(seeded(0.9, 0, 5))
    with pytest.raises(UserError, match="no evaluation to compare"):
        compare([], 0)
    with pytest.raises(UserError, match="different suites: Original was asked custom, Original was asked tofu"):
        compare([run, evaluated(seeded(0.9, 0, 5), suite="tofu")], 0)
    others = {name: [f"other-{at}" for at in range(5)] for name in ("forget", "retain")}
    with pytest.raises(UserError, match="no forget sample in common"):
        compare([run, evaluated(seeded(0.5, 1, 5), method="ga", ids=others)], 0)
    # A retain set that all share is no bridge between forget sets that do not meet.
    bridged = {"forget": [f"other-{at}" for at in range(5)]}
    with pytest.raises(UserError, match="no forget sample in common"):
        compare([run, evaluated(seeded(0.5, 1, 5), method="ga", ids=bridged)], 0)


def test_models_whose_folders_have_one_name_are_told_apart_all_the_same() -> None:
    found = compare(
        [evaluated(seeded(level, 0), model=f"/{place}/model") for place, level in (("a", 0.9), ("b", 0.3))]
    )
    labels = [group.label for group in found.groups]
    assert len(set(labels)) == 2
    first, second = (cell(found, label, "rr")["mean"] for label in labels)
    assert first < 0.2 < 0.6 < second


def test_the_chosen_baseline_is_not_replaced_by_its_repetition() -> None:
    chosen, repeated = evaluated(seeded(0.9, 0)), evaluated(seeded(0.3, 0))
    found = compare([repeated, evaluated(seeded(0.5, 1), method="ga"), chosen], 2)
    assert cell(found, "Original", "rr")["mean"] < 0.2


def test_a_method_at_another_rate_is_no_partner() -> None:
    plain = evaluated(seeded(0.5, 0), method="npo", learning_rate=1e-5)
    weighted = evaluated(seeded(0.3, 0), method="npo", sampler="mrd", learning_rate=1e-3)
    found = compare([evaluated(seeded(0.9, 0)), plain, weighted])
    assert set(found.differences["against"]) == {"Original"}


def test_one_seed_in_common_makes_no_pair_of_groups() -> None:
    ours = [evaluated(seeded(0.5, seed), method="ga", seed=seed) for seed in (0, 1, 2)]
    theirs = [evaluated(seeded(0.3, seed), method="npo", seed=seed) for seed in (2, 3, 4)]
    found = row(compare([*ours, *theirs]), "NPO", "rr", "GA")
    means = [
        np.mean(
            [
                np.mean(1 - np.asarray(r.values.query("split == 'forget' and metric == 'rouge'")["value"]))
                for r in runs
            ]
        )
        for runs in (theirs, ours)
    ]
    assert found["difference"] == pytest.approx(means[0] - means[1])


def test_seeds_that_only_one_has_are_named() -> None:
    ours = [evaluated(seeded(0.5, seed), method="ga", seed=seed) for seed in (0, 1, 2)]
    theirs = [evaluated(seeded(0.3, seed), method="npo", seed=seed) for seed in (0, 1)]
    assert any("left out: 2" in note for note in compare([*ours, *theirs]).notes)


def test_a_task_of_one_run_each_says_nothing_of_its_noise() -> None:
    prompts = {("seen", "rouge"): np.linspace(0.2, 0.6, 20)}
    fewer = {("seen", "rouge"): np.linspace(0.1, 0.5, 20) ** 1.1}
    task = {"piqa": {"acc": 0.7}}
    runs = [
        evaluated(prompts, suite="whp", harness=task),
        evaluated(fewer, suite="whp", method="ga", harness=task),
    ]
    found = compare(runs)
    for column in ("utility", "average"):
        assert np.isnan(row(found, "GA", column)["p"])
        assert not row(found, "GA", column)["marked"]
    assert np.isfinite(row(found, "GA", "completeness")["p"])


def test_a_file_of_aggregates_alone_is_compared_in_what_it_has() -> None:
    alone = parse(
        "TOFU_EVAL.json", b'{"forget_quality": {"agg_value": 0.01}, "forget_Q_A_ROUGE": {"agg_value": 0.2}}'
    )
    assert "without values per sample" in alone.notes[0]
    assert cell(compare([alone]), "TOFU_EVAL", "forget_quality")["mean"] == 0.01
    assert len(compare([evaluated(seeded(0.9, 0)), alone]).groups) == 2


def test_files_of_one_name_are_two_files() -> None:
    first, second = (
        parse("TOFU_EVAL.json", b'{"forget_quality": {"agg_value": %s}}' % value) for value in (b"0.01", b"0.5")
    )
    assert len(compare([first, second]).groups) == 2


def test_files_of_other_sizes_are_not_paired_by_index() -> None:
    def of(count: int) -> Evaluated:
        samples = ", ".join(f'"{i}": {{"score": 0.5}}' for i in range(count))
        content = f'{{"forget_Q_A_ROUGE": {{"agg_value": 0.5, "value_by_index": {{{samples}}}}}}}'
        return parse(f"{count}.json", content.encode())

    with pytest.raises(UserError, match="no forget sample in common"):
        compare([of(40), of(4)])


def file_of(name: str, values: Sequence[float | None], utility: float) -> Evaluated:
    samples = {str(at): {"prob": value} for at, value in enumerate(values)}
    mean = float(np.mean([value for value in values if value is not None]))
    content = {
        "forget_Q_A_Prob": {"agg_value": mean, "value_by_index": samples},
        "model_utility": {"agg_value": utility},
        "mia_loss": {"agg_value": 0.7},
    }
    return parse(f"{name}.json", json.dumps(content).encode())


def test_a_sample_that_one_run_lacks_is_shown_of_none() -> None:
    whole = [0.9] * 10 + [0.1] * 10
    runs = [file_of("pa", whole, 0.62), file_of("pb", [*[None] * 10, *whole[10:]], 0.31)]
    found = compare(runs)
    shown = [cell(found, name, "probability") for name in ("pa", "pb")]
    assert [each["mean"] for each in shown] == pytest.approx([0.1, 0.1])
    assert [(each["n"], each["undefined"]) for each in shown] == [(10, 0), (10, 10)]
    assert row(found, "pb", "probability", "pa")["difference"] == pytest.approx(0)
    assert any("10 undefined in pb" in note for note in found.notes)


def test_what_a_file_states_is_shown_and_what_is_shown_nowhere_is_named() -> None:
    found = compare([file_of("pa", [0.5] * 20, 0.62), file_of("pb", [0.4] * 20, 0.31)])
    assert [cell(found, name, "model_utility")["mean"] for name in ("pa", "pb")] == [0.62, 0.31]
    assert row(found, "pb", "model_utility", "pa")["difference"] == pytest.approx(-0.31)
    assert np.isnan(row(found, "pb", "model_utility", "pa")["p"])
    notes = " ".join(found.notes)
    assert "model_utility as the file states it" in notes
    assert "in no column here: mia_loss_unseen (forget)" in notes


def test_a_run_without_any_value_takes_no_sample_from_the_others() -> None:
    broken = evaluated({("forget", "rouge"): np.full(20, np.nan)}, method="ga")
    found = compare([evaluated({("forget", "rouge"): np.full(20, 0.5)}), broken])
    assert cell(found, "Original", "rr")["n"] == 20
    assert np.isnan(cell(found, "GA", "rr")["mean"])
    assert any("20 undefined in GA" in note for note in found.notes)
