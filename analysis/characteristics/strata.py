"""The paper's criteria, and the two groups of samples that each of them makes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import pandas as pd

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError

# Below it a group's mean says more about its few samples than about the criterion.
SMALLEST_GROUP = 10


class Rule(StrEnum):
    """Where high begins."""

    QUARTILE = "quartile"
    MEAN = "mean"
    MEDIAN = "median"
    FIXED = "fixed"


@dataclass(frozen=True)
class Threshold:
    """A rule, with its value where the user sets one.

    Attributes:
        rule: Where high begins: above the 75th percentile, the average, the median, or a fixed value.
        value: The fixed value; None for every other rule.

    Raises:
        UserError: A fixed rule without a finite value, or a value for a rule that computes its own.
    """

    rule: Rule
    value: float | None = None

    def __post_init__(self) -> None:
        fixed = self.rule is Rule.FIXED
        if fixed and (self.value is None or not math.isfinite(self.value)):
            raise UserError(
                "The fixed threshold", "has no value to divide the samples at.", "Give it a number, such as 3."
            )
        if not fixed and self.value is not None:
            raise UserError(
                f"The threshold {self.value:g}",
                f"does not go with the rule `{self.rule}`, which finds its own.",
                f"Leave the value out, or choose the rule `{Rule.FIXED}`.",
            )


@dataclass(frozen=True)
class Criterion:
    """One property that the paper ties to difficulty (Feng et al., §4.2 and Table 7).

    Attributes:
        name: Key in files and links.
        title: For people.
        high: Name of the group above the threshold.
        low: Name of the group at or below it.
        claim: What the paper says the MRD of the high group is, beside that of the low group.
        claim_text: The same as a sentence.
        default: The paper's threshold.
        features: Columns that measure it, the preferred one first.
        needs: What has to be at hand for any of them to exist.
        paper: MRD of the low and of the high group in Table 7; None where the paper gives no figure.
        note: What else a reader of the claim should know; "" where there is nothing.
    """

    name: str
    title: str
    high: str
    low: str
    claim: Literal["smaller", "larger"]
    claim_text: str
    default: Threshold
    features: tuple[str, ...]
    needs: str
    paper: tuple[float, float] | None
    note: str = ""


CRITERIA = (
    Criterion(
        name="semantic_complexity",
        title="Semantic complexity",
        high="complex",
        low="simple",
        claim="larger",
        claim_text="Complex samples have a larger MRD: they are easier to unlearn.",
        default=Threshold(Rule.QUARTILE),
        features=("semantic_complexity",),
        needs="texts that the language pipeline can read",
        paper=(0.3085, 1.0026),
    ),
    Criterion(
        name="occurrence_frequency",
        title="Occurrence frequency",
        high="frequent",
        low="rare",
        claim="smaller",
        claim_text="Samples that training showed often have a smaller MRD: they are harder to unlearn.",
        default=Threshold(Rule.MEAN),
        features=("occurrences", "training_count", "ngram_frequency"),
        needs="the training corpus, or a column that says how often training showed each sample",
        paper=(0.6374, 0.2529),
    ),
    Criterion(
        name="initial_probability",
        title="Initial generation probability",
        high="probable",
        low="improbable",
        claim="smaller",
        claim_text="Samples that the model generates readily have a smaller MRD: they are harder to unlearn.",
        default=Threshold(Rule.MEAN),
        features=("initial_probability",),
        needs="the probabilities of the score run",
        paper=(0.3481, 0.7689),
        note="The paper contradicts itself: its text says smaller, its Table 7 has the larger MRD for probable "
        "samples. The verdict is on the text.",
    ),
    Criterion(
        name="rare_words",
        title="Rare words",
        high="rare words",
        low="common words",
        claim="larger",
        claim_text="Samples with many rare words have a larger MRD: they are easier to unlearn.",
        default=Threshold(Rule.FIXED, 3),
        features=("rare_words",),
        needs="texts that the language pipeline can read",
        paper=(0.3929, 0.7188),
    ),
    Criterion(
        name="association",
        title="Contextual association",
        high="associated",
        low="apart",
        claim="smaller",
        claim_text="Samples closely tied to others by context have a smaller MRD: they are harder to unlearn.",
        default=Threshold(Rule.QUARTILE),
        features=("association", "hidden_association"),
        needs="the training corpus or retain samples, or the hidden states of the score run",
        paper=None,
        note="A question of the paper's introduction, to which Table 7 has no figure.",
    ),
)


def parsed(text: str) -> tuple[str, Threshold]:
    """Read `criterion=quartile|mean|median|NUMBER`, as a shell option spells a threshold.

    Raises:
        UserError: There is no such criterion, or no such rule.
    """
    name, _, rule = text.partition("=")
    if name not in {criterion.name for criterion in CRITERIA}:
        names = ", ".join(criterion.name for criterion in CRITERIA)
        raise UserError(f"--threshold {text}", "names no criterion.", f"Begin with one of {names}, and `=`.")
    if rule in set(Rule) - {Rule.FIXED}:
        return name, Threshold(Rule(rule))
    try:
        return name, Threshold(Rule.FIXED, float(rule))
    except ValueError as error:
        raise UserError(
            f"--threshold {text}", "has no rule.", f"Write {name}=quartile, mean, median or a number."
        ) from error


def spelt(name: str, threshold: Threshold) -> str:
    """Return what `parsed` reads as this threshold."""
    return f"{name}={threshold.rule if threshold.value is None else repr(threshold.value)}"


def numbers(values: pd.Series) -> FloatArray:
    """Return a column as floats, NaN where it is missing."""
    return pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan)


def level(values: pd.Series, threshold: Threshold, average: float | None = None) -> float:
    """Return the value above which a sample is high.

    Args:
        values: One value per sample; missing ones are left out.
        threshold: The rule.
        average: The training corpus's average, which the rule `mean` prefers to that of the samples.

    Returns:
        The level, in the unit of `values`; NaN where nothing is defined and the rule needs something.
    """
    if threshold.value is not None:
        return threshold.value
    if threshold.rule is Rule.MEAN and average is not None:
        return average
    defined = _defined(values)
    if not defined.size:
        return float("nan")
    if threshold.rule is Rule.MEAN:
        return float(defined.mean())
    return float(np.quantile(defined, 0.75 if threshold.rule is Rule.QUARTILE else 0.5))


def in_words(threshold: Threshold, average: float | None = None) -> str:
    """Say where high begins, for the same arguments as `level`."""
    if threshold.rule is Rule.FIXED:
        return f"above {threshold.value:g}"
    if threshold.rule is Rule.MEAN:
        return f"above the average of {'the samples' if average is None else 'the training corpus'}"
    return {Rule.QUARTILE: "above the 75th percentile", Rule.MEDIAN: "above the median"}[threshold.rule]


def stratify(values: pd.Series, level: float) -> pd.Series[str]:
    """Return "high" where a value is strictly above the level, else "low"; missing where the value is.

    Nothing is known of any sample where the level is NaN.
    """
    floats = numbers(values)
    groups = pd.Series(np.where(floats > level, "high", "low"), index=values.index, dtype="str")
    return groups.mask(np.isnan(floats) | math.isnan(level))


def feature_of(
    criterion: Criterion, table: pd.DataFrame, threshold: Threshold, averages: Mapping[str, float]
) -> str | None:
    """Return the column of `table` that measures the criterion best here.

    That is the first that divides the samples into two groups of at least `SMALLEST_GROUP`; failing that the
    first that varies at all; failing that the first with any value.

    Args:
        criterion: The criterion.
        table: A row per sample; any of the criterion's columns.
        threshold: Where high begins.
        averages: The training corpus's average by column, where it is known.

    Returns:
        The column; None where no column has a value.
    """
    present = [name for name in criterion.features if name in table and _defined(table[name]).size]
    for name in present:
        groups = stratify(table[name], level(table[name], threshold, averages.get(name)))
        if min((groups == "high").sum(), (groups == "low").sum()) >= SMALLEST_GROUP:
            return name
    varying = (name for name in present if np.ptp(_defined(table[name])) > 0)
    return next(varying, None) or next(iter(present), None)


def _defined(values: pd.Series) -> FloatArray:
    floats = numbers(values)
    return floats[~np.isnan(floats)]
