"""Thresholds, groups, and the choice of the column that measures a criterion."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.characteristics.strata import (
    CRITERIA,
    SMALLEST_GROUP,
    Criterion,
    Rule,
    Threshold,
    feature_of,
    in_words,
    level,
    parsed,
    spelt,
    stratify,
)
from mrd_core.errors import UserError

VALUES = pd.Series([1.0, 2.0, 3.0, 10.0, None])
FREQUENCY = next(criterion for criterion in CRITERIA if criterion.name == "occurrence_frequency")


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (Threshold(Rule.QUARTILE), 4.75),
        (Threshold(Rule.MEAN), 4.0),
        (Threshold(Rule.MEDIAN), 2.5),
        (Threshold(Rule.FIXED, 3), 3.0),
    ],
)
def test_each_rule_has_its_level_over_the_defined_values(threshold: Threshold, expected: float) -> None:
    assert level(VALUES, threshold) == expected


def test_the_training_average_stands_in_for_the_samples_only_under_the_mean() -> None:
    assert level(VALUES, Threshold(Rule.MEAN), average=7.5) == 7.5
    assert level(VALUES, Threshold(Rule.MEDIAN), average=7.5) == 2.5
    assert level(VALUES, Threshold(Rule.FIXED, 3), average=7.5) == 3


def test_a_rule_in_words_names_whose_average_it_is() -> None:
    assert in_words(Threshold(Rule.MEAN)) == "above the average of the samples"
    assert in_words(Threshold(Rule.MEAN), 0.5) == "above the average of the training corpus"
    assert in_words(Threshold(Rule.FIXED, 3.0)) == "above 3"
    assert in_words(Threshold(Rule.QUARTILE)) == "above the 75th percentile"
    assert in_words(Threshold(Rule.MEDIAN)) == "above the median"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_fixed_threshold_needs_a_number(value: float | None) -> None:
    with pytest.raises(UserError, match="no value to divide"):
        Threshold(Rule.FIXED, value)


def test_a_rule_that_finds_its_own_level_refuses_one() -> None:
    with pytest.raises(UserError, match="does not go with the rule `mean`"):
        Threshold(Rule.MEAN, 3)


def test_only_what_is_strictly_above_the_level_is_high_and_the_missing_is_in_no_group() -> None:
    counts = pd.Series([2, 3, 4, None], dtype="Int64", index=list("abcd"))
    groups = stratify(counts, 3)
    assert groups.iloc[:3].to_dict() == {"a": "low", "b": "low", "c": "high"}
    assert pd.isna(groups["d"])


def test_without_a_value_there_is_no_level_and_no_group() -> None:
    nothing = pd.Series([None, None], dtype="Float64")
    assert np.isnan(level(nothing, Threshold(Rule.QUARTILE)))
    assert stratify(pd.Series([1.0, 2.0]), float("nan")).isna().all()


def column(low: int, high: int) -> list[float]:
    """Return values of which the mean puts `high` above and `low` below."""
    return [0.0] * low + [1.0] * high


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"occurrences": column(10, 10), "ngram_frequency": column(10, 10)}, "occurrences"),
        ({"occurrences": column(20, 0), "training_count": column(10, 10)}, "training_count"),
        ({"occurrences": column(11, 9), "ngram_frequency": column(10, 10)}, "ngram_frequency"),
        ({"occurrences": column(20, 0), "ngram_frequency": column(11, 9)}, "ngram_frequency"),
        ({"training_count": [None] * 20, "ngram_frequency": column(20, 0)}, "ngram_frequency"),
        ({"training_count": [None] * 20}, None),
        ({"rare_words": column(10, 10)}, None),
    ],
)
def test_the_first_column_that_divides_the_samples_measures_a_criterion(
    columns: dict[str, list[float]], chosen: str | None
) -> None:
    assert feature_of(FREQUENCY, pd.DataFrame(columns), FREQUENCY.default, {}) == chosen


def test_whether_a_column_divides_depends_on_the_training_average() -> None:
    table = pd.DataFrame({"occurrences": column(10, 10), "ngram_frequency": column(10, 10)})
    assert feature_of(FREQUENCY, table, FREQUENCY.default, {"occurrences": 5.0}) == "ngram_frequency"


def test_criteria_are_told_apart_and_agree_with_the_papers_table_where_it_agrees_with_its_text() -> None:
    def table_says(criterion: Criterion) -> str | None:
        if criterion.paper is None:
            return None
        low, high = criterion.paper
        return "smaller" if high < low else "larger"

    assert len({criterion.name for criterion in CRITERIA}) == len(CRITERIA)
    contradicted = [c for c in CRITERIA if table_says(c) != c.claim]
    assert [c.name for c in contradicted] == ["initial_probability", "association"]
    assert all(c.note for c in contradicted)
    assert SMALLEST_GROUP == 10


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("rare_words=5.0", Threshold(Rule.FIXED, 5.0)),
        ("rare_words=median", Threshold(Rule.MEDIAN)),
        ("initial_probability=0.9978561234", Threshold(Rule.FIXED, 0.9978561234)),
    ],
)
def test_a_threshold_is_read_from_the_shell_and_spelt_for_it(text: str, threshold: Threshold) -> None:
    name, found = parsed(text)
    assert found == threshold
    assert spelt(name, found) == text


@pytest.mark.parametrize(
    "text", ["rare_words", "rare_words=", "rare_words=often", "rarity=3", "rare_words=nan", ""]
)
def test_a_threshold_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parsed(text)
