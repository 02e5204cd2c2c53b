"""The paper's claims beside what this model shows, and a verdict only where the data allow one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.characteristics.strata import (
    CRITERIA,
    SMALLEST_GROUP,
    Criterion,
    Threshold,
    feature_of,
    in_words,
    level,
    numbers,
    stratify,
)
from analysis.statistics.bootstrap import REPLICATES, UNDEFINED, Estimate
from analysis.statistics.groups import SIGNIFICANCE, GroupComparison, Measured, compare_groups, holm, spearman
from mrd_core.runs.files import json_value
from mrd_core.scoring.config import Normalisation

Verdict = Literal["agrees", "disagrees", "cannot tell"]

_UNCOMPARED = GroupComparison(0, 0, np.nan, *[UNDEFINED] * 7)
# What the JSON says of a claim.
_JSON = (
    *("n_high", "n_low", "difference", "low", "high", "cliffs_delta", "p_holm"),
    *("verdict", "feature", "rule", "level", "reason"),
)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, held against one model.

    Attributes:
        criterion: What the claim is about.
        feature: Column that measured it; None where there is none.
        level: The value above which a sample is high; NaN without a feature.
        rule: Where high begins, in words.
        n_high: Samples with an MRD in the high group.
        n_low: Samples with an MRD in the low group.
        comparison: Of the two groups; None where one is empty.
        spearman: Of the feature with MRD; None without a feature.
        p_holm: Mann–Whitney p corrected for the number of criteria tested; NaN where it was not tested.
        verdict: Whether the model shows what the paper says.
        reason: Why, with the figures, as a clause without a full stop.
    """

    criterion: Criterion
    feature: str | None
    level: float
    rule: str
    n_high: int
    n_low: int
    comparison: GroupComparison | None
    spearman: Estimate | None
    p_holm: float
    verdict: Verdict
    reason: str

    @property
    def testable(self) -> bool:
        """Whether both groups are large enough for a verdict."""
        return min(self.n_high, self.n_low) >= SMALLEST_GROUP


def judge(
    table: pd.DataFrame,
    measured: Measured,
    thresholds: Mapping[str, Threshold],
    averages: Mapping[str, float],
    replicates: int = REPLICATES,
) -> list[Claim]:
    """Hold every claim against a scored set, in the order of `CRITERIA`.

    A claim gets a verdict only where three things hold: the 95 % interval of the difference in means excludes
    0, Holm's p over the criteria that could be tested is below 0.05, and Cliff's delta has the sign of the
    difference.

    Args:
        table: A row per sample, the features as columns.
        measured: The same samples in the same order.
        thresholds: By criterion; a missing one is the paper's.
        averages: The training corpus's average by column, where it is known.
        replicates: Bootstrap replicates.
    """
    claims = [
        _compared(
            criterion, table, measured, thresholds.get(criterion.name, criterion.default), averages, replicates
        )
        for criterion in CRITERIA
    ]
    corrected = holm([claim.comparison.p if claim.comparison and claim.testable else np.nan for claim in claims])
    return [_decided(replace(claim, p_holm=p)) for claim, p in zip(claims, corrected, strict=True)]


def claims_frame(by_normalisation: Mapping[Normalisation, list[Claim]]) -> pd.DataFrame:
    """Return one row per criterion and normalisation, for a table or a file.

    Columns: criterion, normalisation, feature, rule, level, n_high, n_low, mean_high, mean_low, difference,
    low, high (of the difference, 95 %), median_high, median_low, cliffs_delta, cliffs_low, cliffs_high,
    spearman, spearman_low, spearman_high, p, p_holm, paper_says, this_model, verdict, reason.
    """
    rows = [
        {"criterion": claim.criterion.name, "normalisation": str(normalisation)} | _figures(claim) | _words(claim)
        for normalisation, claims in by_normalisation.items()
        for claim in claims
    ]
    return pd.DataFrame(rows)


def as_json(by_normalisation: Mapping[Normalisation, list[Claim]], chosen: Normalisation) -> dict[str, Any]:
    """Return an object by criterion: the claim under `chosen`, and under each one in `by_normalisation`."""
    return {
        claim.criterion.name: _flat(claim)
        | {"by_normalisation": {str(name): _flat(claims[at]) for name, claims in by_normalisation.items()}}
        for at, claim in enumerate(by_normalisation[chosen])
    }


def _compared(
    criterion: Criterion,
    table: pd.DataFrame,
    measured: Measured,
    threshold: Threshold,
    averages: Mapping[str, float],
    replicates: int,
) -> Claim:
    """Return the figures of a claim, without its verdict."""
    feature = feature_of(criterion, table, threshold, averages)
    average = averages.get(feature) if feature else None
    values = table[feature] if feature else pd.Series(np.nan, index=table.index)
    border = level(values, threshold, average) if feature else np.nan
    groups = stratify(values, border)
    high, low = ((groups == name).to_numpy(bool) & measured.defined for name in ("high", "low"))
    return Claim(
        criterion=criterion,
        feature=feature,
        level=border,
        rule=in_words(threshold, average),
        n_high=int(high.sum()),
        n_low=int(low.sum()),
        comparison=compare_groups(measured, high, low, replicates) if high.any() and low.any() else None,
        spearman=spearman(numbers(values), measured, replicates) if feature else None,
        p_holm=np.nan,
        verdict="cannot tell",
        reason="",
    )


def _decided(claim: Claim) -> Claim:
    """Return the claim with its verdict and the reason."""
    compared, criterion = claim.comparison, claim.criterion
    if claim.feature is None:
        return replace(claim, reason=f"not measured: it needs {criterion.needs}")
    if compared is None or not claim.testable:
        sides = ((criterion.high, claim.n_high), (criterion.low, claim.n_low))
        group, count = min(sides, key=lambda side: side[1])
        samples = f"{f'only {count}' if count else 'no'} sample{'' if count == 1 else 's'}"
        return replace(claim, reason=f"{samples} in the group “{group}”; a verdict needs {SMALLEST_GROUP}")
    difference, delta, corrected = compared.difference, compared.cliffs_delta, "after Holm's correction"
    doubts = {
        f"the interval of the difference in means, {_range(difference)}, spans 0": not difference.excludes_zero,
        f"p = {claim.p_holm:.2g} {corrected} is not below {SIGNIFICANCE:g}": not claim.p_holm < SIGNIFICANCE,
        f"means and ranks point in different directions (difference {difference.value:.3g}, Cliff's delta "
        f"{delta.value:.2f})": difference.value * delta.value <= 0,
    }
    if any(doubts.values()):
        return replace(claim, reason="; ".join(doubt for doubt, stands in doubts.items() if stands))
    reason = (
        f"{_direction(compared)}: difference in means {_estimate(difference)}, "
        f"Cliff's delta {_estimate(delta)}, p = {claim.p_holm:.2g} {corrected}"
    )
    agrees = (difference.value < 0) == (criterion.claim == "smaller")
    return replace(claim, verdict="agrees" if agrees else "disagrees", reason=reason)


def _direction(comparison: GroupComparison) -> str:
    return "smaller" if comparison.difference.value < 0 else "larger"


def _estimate(interval: Estimate) -> str:
    return f"{interval.value:.3g} {_range(interval)}"


def _range(interval: Estimate) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"


def _words(claim: Claim) -> dict[str, str]:
    """Return what the paper says, in a few words what this model shows, and the verdict with its reason."""
    this_model = "not measured" if claim.feature is None else "too few samples"
    if claim.feature and claim.comparison and claim.testable:
        difference = claim.comparison.difference
        direction = _direction(claim.comparison) if difference.excludes_zero else "no clear difference"
        this_model = f"{direction}: {_estimate(difference)}"
    words = {"paper_says": claim.criterion.claim_text, "this_model": this_model}
    return words | {"verdict": claim.verdict, "reason": claim.reason}


def _figures(claim: Claim) -> dict[str, Any]:
    """Return the figures of a claim as one row, NaN where there are none."""
    compared = claim.comparison or _UNCOMPARED
    return (
        {name: getattr(claim, name) for name in ("feature", "rule", "level", "n_high", "n_low")}
        | {"mean_high": compared.mean_high.value, "mean_low": compared.mean_low.value}
        | compared.difference.columns("difference")
        | {"median_high": compared.median_high.value, "median_low": compared.median_low.value}
        | compared.cliffs_delta.columns("cliffs_delta", "cliffs_")
        | (claim.spearman or UNDEFINED).columns("spearman", "spearman_")
        | {"p": compared.p, "p_holm": claim.p_holm}
    )


def _flat(claim: Claim) -> dict[str, Any]:
    """Return what the JSON says of one claim, null where a figure is undefined."""
    everything = _figures(claim) | _words(claim)
    return {name: json_value(everything[name]) for name in _JSON}
