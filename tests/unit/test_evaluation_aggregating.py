"""From samples to sets, on values that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrd_core.evaluation.aggregates import UTILITY_PARTS
from mrd_core.evaluation.aggregating import Aggregate, aggregates, as_results, without_power
from mrd_core.evaluation.metrics import METRICS
from mrd_core.evaluation.sets import EvaluationSet, Role, Sets

NAN = float("nan")


def suite(**roles: Role) -> Sets:
    return Sets(tuple(EvaluationSet(name, name, role, "answers", pd.DataFrame()) for name, role in roles.items()))


def values(**given: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        (split, f"{split}{i}", metric, value)
        for split, metrics in given.items()
        for metric, of_samples in metrics.items()
        for i, value in enumerate(of_samples)
    ]
    return pd.DataFrame(rows, columns=["split", "sample_id", "metric", "value"])


def found(table: pd.DataFrame, sets: Sets) -> dict[tuple[str, str], Aggregate]:
    return {(one.split, one.metric): one for one in aggregates(table, sets)}


def test_a_mean_leaves_out_what_is_undefined_and_counts_it() -> None:
    given = found(values(forget={"rouge": [1.0, NAN, 0.5]}), suite(forget="forget"))
    assert given["forget", "rouge"] == Aggregate("forget", "rouge", 0.75, 2, 1)
    assert given["forget", "rr"].value == pytest.approx(0.25)


def test_a_metric_that_no_sample_has_is_undefined() -> None:
    one = found(values(forget={"rouge": [NAN, NAN]}), suite(forget="forget"))["forget", "rouge"]
    assert math.isnan(one.value)
    assert one.as_json["value"] is None
    assert (one.n, one.undefined) == (0, 2)


def test_perplexity_weighs_samples_by_their_tokens() -> None:
    table = values(texts={"nll": [2.0, 1.0, NAN], "answer_tokens": [1.0, 3.0, 0.0]})
    one = found(table, suite(texts="general"))["texts", "perplexity"]
    assert one.value == pytest.approx(math.exp(5 / 4))
    assert (one.n, one.undefined) == (2, 1)


def test_attacks_hold_the_forget_set_against_retained_and_unseen_samples() -> None:
    scores = {"forget": [3.0, 1.0] * 2, "retain": [2.0, 0.0] * 2, "held_out": [4.0, 4.0] * 2}
    table = values(**{split: {"mia_min_k": of_samples} for split, of_samples in scores.items()})
    given = found(table, suite(forget="forget", retain="retain", held_out="unseen"))
    assert given["forget", "mia_min_k_retain"].value == 3 / 4
    assert given["forget", "mia_min_k_unseen"].value == 0.0


def test_general_sets_stand_in_for_unseen_samples() -> None:
    scores = {"forget": [3.0, 1.0] * 2, "real_authors": [2.0] * 2, "world_facts": [0.0] * 2}
    table = values(**{split: {"mia_loss": of_samples} for split, of_samples in scores.items()})
    given = found(table, suite(forget="forget", real_authors="general", world_facts="general"))
    assert given["forget", "mia_loss_unseen"].value == 3 / 4
    assert ("forget", "mia_loss_retain") not in given


def test_forget_quality_is_the_test_of_the_raw_ratios() -> None:
    ours, theirs = np.linspace(0.1, 0.9, 9), np.linspace(0.5, 2.0, 9)
    table = values(forget={"truth_ratio_raw": list(ours), "truth_ratio_reference": list(theirs)})
    one = found(table, suite(forget="forget"))["forget", "forget_quality"]
    assert one.value == pytest.approx(stats.ks_2samp(ours, theirs).pvalue)


PARTS = {
    "retain": {"probability": [0.9], "rouge": [0.8], "truth_ratio": [0.7]},
    "real_authors": {"probability_normalised": [0.6], "rouge": [0.5], "truth_ratio": [0.4]},
    "world_facts": {"probability_normalised": [0.3], "rouge": [0.2], "truth_ratio": [0.1]},
}
ROLES: dict[str, Role] = {"retain": "retain", "real_authors": "general", "world_facts": "general"}


def test_model_utility_is_the_harmonic_mean_of_nine() -> None:
    one = found(values(**PARTS), suite(**ROLES))["retain", "model_utility"]
    assert one.value == pytest.approx(9 / sum(10 / i for i in range(1, 10)))


def test_without_one_of_the_nine_there_is_no_model_utility() -> None:
    less = {split: metrics for split, metrics in PARTS.items() if split != "world_facts"}
    assert ("retain", "model_utility") not in found(values(**less), suite(**ROLES))


def test_a_result_file_has_the_names_and_the_samples_of_its_format() -> None:
    table = values(**PARTS)
    results = as_results(table, aggregates(table, suite(**ROLES)))
    assert {METRICS[metric].file_names[split] for split, metric in UTILITY_PARTS} <= set(results)  # type: ignore[index]
    assert results["ra_Q_A_ROUGE"].aggregate == 0.5
    assert results["ra_Q_A_ROUGE"].samples == {"0": {"score": 0.5}}
    assert results["model_utility"].samples == {}


def test_a_result_file_has_raw_truth_ratios_and_attacks_the_other_way_round() -> None:
    table = values(
        forget={"truth_ratio": [0.5, 0.25], "truth_ratio_raw": [2.0, 4.0], "mia_loss": [3.0, 1.0] * 2},
        held_out={"mia_loss": [2.0] * 4},
    )
    results = as_results(table, aggregates(table, suite(forget="forget", held_out="unseen")))
    ratio = results["forget_truth_ratio"]
    assert ratio.aggregate == pytest.approx(0.375)
    assert ratio.samples == {"0": {"score": 2.0}, "1": {"score": 4.0}}
    assert results["mia_loss"].aggregate == 0.5


def test_forget_quality_is_of_the_samples_that_both_models_have() -> None:
    ours, theirs = [0.1, 0.2, 0.3, 0.4], [0.15, 0.25, 0.35, 0.45]
    table = values(forget={"truth_ratio_raw": [*ours, 5.0], "truth_ratio_reference": theirs})
    one = found(table, suite(forget="forget"))["forget", "forget_quality"]
    assert one.value == pytest.approx(stats.ks_2samp(ours, theirs).pvalue)
    assert (one.n, one.undefined) == (4, 1)


@pytest.mark.parametrize(
    ("n", "words"),
    [(1, "1 samples in the smaller set are too few"), (3, "too few"), (4, "few (below 30)"), (30, None)],
)
def test_forget_quality_of_a_few_samples_proves_nothing(n: int, words: str | None) -> None:
    same = [float(each) for each in range(n)]
    measured = aggregates(
        values(forget={"truth_ratio_raw": same, "truth_ratio_reference": same}), suite(forget="forget")
    )
    quality = next(each for each in measured if each.metric == "forget_quality")
    assert math.isnan(quality.value) == (n < 4)
    warnings = without_power(measured)
    assert warnings == [] if words is None else words in warnings[0]
