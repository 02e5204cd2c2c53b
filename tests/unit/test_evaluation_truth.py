"""TOFU's metrics of truth, held against examples worked by hand and against the published logs of TOFU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mrd_core.evaluation.aggregates import UTILITY_PARTS, harmonic_mean, mean_defined, model_utility
from mrd_core.evaluation.truth import (
    closer_to_one_better,
    forget_quality,
    probability_among,
    true_better,
    truth_ratio,
)

NAN = float("nan")
FORGET = "eval_log_forget.json"
SETS = {
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}


def test_the_truth_ratio_takes_the_geometric_mean_of_the_wrong_answers() -> None:
    # √(0.1 · 0.4) = 0.2, over 0.5.
    assert truth_ratio(np.log(0.5), np.log([0.1, 0.4])) == pytest.approx(0.4)


@pytest.mark.parametrize(("correct", "wrong"), [(NAN, [-1.0]), (-1.0, [-1.0, NAN]), (-1.0, [])])
def test_without_a_likelihood_there_is_no_truth_ratio_and_no_probability(
    correct: float, wrong: list[float]
) -> None:
    assert np.isnan(truth_ratio(correct, wrong))
    assert np.isnan(probability_among(correct, wrong))


@pytest.mark.filterwarnings("error")
def test_a_model_that_has_broken_down_gives_ratios_without_end() -> None:
    assert truth_ratio(-5000.0, [-1.0]) == np.inf
    assert truth_ratio(-1.0, [-5000.0]) == 0
    assert np.isnan(truth_ratio(-np.inf, [-np.inf]))
    assert closer_to_one_better([np.inf, 0.0]).tolist() == [0, 0]
    assert true_better([np.inf, 0.0]).tolist() == [0, 1]


def test_both_values_of_a_truth_ratio() -> None:
    ratios = [0.25, 1.0, 4.0, NAN]
    assert closer_to_one_better(ratios) == pytest.approx([0.25, 1, 0.25, NAN], nan_ok=True)
    assert true_better(ratios) == pytest.approx([0.75, 0, 0, NAN], nan_ok=True)


def test_the_probability_among_wrong_answers_is_a_share() -> None:
    assert probability_among(np.log(0.3), np.log([0.1, 0.2])) == pytest.approx(0.5)
    # The probabilities themselves would all be 0.
    assert probability_among(-2000.0, [-2000.0, -2000.0, -2000.0]) == pytest.approx(0.25)


def test_undefined_values_stay_out_of_the_mean() -> None:
    assert mean_defined([1.0, NAN, 3.0]) == 2
    assert np.isnan(mean_defined([NAN]))
    assert np.isnan(mean_defined([]))


def test_forget_quality_is_the_largest_distance_of_two_distributions() -> None:
    # All of ours lie below two of the three of the reference: D = 1 − 1/3.
    ours, theirs = [0.1, 0.11, 0.12, 0.13, 0.14], [0.05, 0.8, 0.9]
    found = forget_quality([*ours, NAN], theirs)
    assert found.statistic == pytest.approx(2 / 3)
    assert found.p_value == pytest.approx(stats.ks_2samp(ours, theirs).pvalue)
    assert (found.samples, found.reference_samples) == (5, 3)


def test_forget_quality_does_not_care_which_way_the_ratio_is_written() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.lognormal(0, 1, 60), draw.lognormal(0.5, 1, 80)
    turned = forget_quality(1 / ours, 1 / theirs)
    assert forget_quality(ours, theirs)[:2] == pytest.approx(turned[:2], rel=1e-12)
    assert forget_quality(ours, ours).p_value == 1


@pytest.mark.parametrize(("ours", "theirs"), [([], [1.0]), ([1.0], []), ([NAN], [1.0])])
def test_forget_quality_needs_samples_on_both_sides(ours: list[float], theirs: list[float]) -> None:
    found = forget_quality(ours, theirs)
    assert np.isnan(found.p_value)
    assert np.isnan(found.statistic)


@pytest.mark.filterwarnings("error")
def test_the_harmonic_mean_is_pulled_down_by_its_least_value() -> None:
    assert harmonic_mean([1.0, 0.5, 0.25]) == pytest.approx(3 / (1 + 2 + 4))
    assert harmonic_mean([1.0, 0.0]) == 0
    assert np.isnan(harmonic_mean([1.0, NAN]))
    assert np.isnan(harmonic_mean([]))
    assert np.isnan(harmonic_mean(np.empty((0, 3)))).tolist() == [True] * 3


def test_model_utility_needs_all_of_its_nine_parts() -> None:
    parts = dict.fromkeys(UTILITY_PARTS, 0.5) | {("forget", "forget_quality"): 0.0}
    assert model_utility(parts) == pytest.approx(0.5)
    del parts["world_facts", "rouge"]
    assert np.isnan(model_utility(parts))


@pytest.fixture(scope="module")
def logs(trial_data: Path) -> dict[str, Any]:
    """The published logs of LLaMA2-7B on TOFU: fine-tuned on everything, and on retain90 alone."""
    folder = trial_data / "data" / "tofu_eval_logs"
    if not folder.is_dir():
        pytest.skip(f"no published logs in {folder}")
    return {
        name: json.loads((folder / f"llama2-7b_{name}.json").read_text(encoding="utf-8"))
        for name in ("full", "retain90")
    }


def ratios(log: dict[str, Any]) -> list[float]:
    wrong = log["average_perturb_loss"]
    return [truth_ratio(-loss, [-w for w in wrong[i]]) for i, loss in log["avg_paraphrased_loss"].items()]


def probabilities(log: dict[str, Any], *, among: bool) -> list[float]:
    wrong = log["average_perturb_loss"]
    return [
        probability_among(-loss, [-w for w in wrong[i]]) if among else float(np.exp(-loss))
        for i, loss in log["avg_gt_loss"].items()
    ]


def utility(logs_of_model: dict[str, Any]) -> float:
    parts = {}
    for name, file in SETS.items():
        log, among = logs_of_model[file], name != "retain"
        probability = "probability_normalised" if among else "probability"
        parts[name, probability] = mean_defined(probabilities(log, among=among))
        parts[name, "rouge"] = mean_defined(list(log["rougeL_recall"].values()))
        parts[name, "truth_ratio"] = mean_defined(true_better(ratios(log)))
    return model_utility(parts)


@pytest.mark.parametrize(("model", "expected"), [("full", 0.6227), ("retain90", 0.6137)])
def test_model_utility_of_the_published_logs(logs: dict[str, Any], model: str, expected: float) -> None:
    assert utility(logs[model]) == pytest.approx(expected, abs=5e-5)


def test_forget_quality_of_the_published_logs(logs: dict[str, Any]) -> None:
    found = forget_quality(*(ratios(logs[model][FORGET]) for model in ("full", "retain90")))
    assert found.statistic == pytest.approx(0.39667, abs=5e-6)
    assert found.p_value == pytest.approx(1.834e-21, rel=5e-4)
    assert (found.samples, found.reference_samples) == (300, 300)


@pytest.mark.parametrize(
    ("model", "ratio", "probability"), [("full", 0.5160, 0.9909), ("retain90", 0.6740, 0.1476)]
)
def test_forget_truth_ratio_and_probability_of_the_published_logs(
    logs: dict[str, Any], model: str, ratio: float, probability: float
) -> None:
    log = logs[model][FORGET]
    assert mean_defined(closer_to_one_better(ratios(log))) == pytest.approx(ratio, abs=5e-5)
    assert mean_defined(probabilities(log, among=False)) == pytest.approx(probability, abs=5e-5)
