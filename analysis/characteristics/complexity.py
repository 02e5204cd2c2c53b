"""The index of semantic complexity: one number from the parts that mean something for this forget set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from analysis.features import Feature

DEFINED_SHARE = 0.9

# The index as a column. It is made of other columns, so it is not computed as the features are.
COMPLEXITY = Feature(
    name="semantic_complexity",
    title="Semantic complexity",
    unit="SD",
    bins="quantiles",
    direction="more complex",
    help="Mean of the standardised lexical and syntactic measures that most samples (90 %) have.",
    group="semantic_complexity",
)


@dataclass(frozen=True, eq=False)
class Complexity:
    """The index and how it came about.

    Attributes:
        values: One per sample, in standard deviations; NaN where no part is defined.
        parts: The parts that entered.
        left_out: Part → why it did not enter ("defined for 9 % of the samples").
        length_correlation: Spearman's ρ of the index with length; NaN below 3 samples or where either is constant.
    """

    values: pd.Series[float]
    parts: tuple[str, ...]
    left_out: Mapping[str, str]
    length_correlation: float


def complexity_index(
    features: pd.DataFrame, parts: Sequence[str], length: pd.Series[float] | pd.Series[int]
) -> Complexity:
    """Average the standardised parts of each sample.

    A part enters where it is defined for at least 90 % of the samples and varies; it is centred and divided by its
    standard deviation (over the N samples, not N − 1). A sample that lacks a part averages over its others.

    Args:
        features: N rows with a column per part; larger means more complex.
        parts: The columns that may enter.
        length: One value per row, with the index of `features`.
    """
    left_out = {}
    for part in parts:
        defined, count = features[part].dropna(), len(features)
        if len(defined) < count and len(defined) / count < DEFINED_SHARE:
            # Rounded down: 89.9 % must not read as the 90 % that would have been enough.
            left_out[part] = f"defined for {100 * len(defined) // count} % of the samples"
        elif defined.nunique() < 2:
            left_out[part] = f"the same for all {len(defined)} samples that it is defined for"
    used = [part for part in parts if part not in left_out]
    chosen = features[used].astype("float64")
    values = ((chosen - chosen.mean()) / chosen.std(ddof=0)).mean(axis=1)
    pairs = pd.DataFrame({"index": values, "length": length}).dropna()
    correlated = len(pairs) >= 3 and pairs.nunique().min() >= 2
    rho = float(stats.spearmanr(pairs["index"], pairs["length"]).statistic) if correlated else float("nan")
    return Complexity(values, tuple(used), left_out, rho)
