"""From values of samples to a value of a set: means, perplexity, areas under ROC curves, model utility.

Each is a function of values, shape (n,), and of counts, shape (B, n): how often each sample is drawn. Counts of
ones give what was measured, those of a bootstrap its replicates. Values that are NaN are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from mrd_core.arrays import FloatArray, ratio

# The nine parts of TOFU's model utility: a set and a metric of its samples.
UTILITY_PARTS: tuple[tuple[str, str], ...] = (
    ("retain", "probability"),
    ("retain", "rouge"),
    ("retain", "truth_ratio"),
    ("real_authors", "probability_normalised"),
    ("real_authors", "rouge"),
    ("real_authors", "truth_ratio"),
    ("world_facts", "probability_normalised"),
    ("world_facts", "rouge"),
    ("world_facts", "truth_ratio"),
)

SIGNIFICANCE = 0.05


def can_differ(first: int, second: int) -> bool:
    """Tell whether two sets of so many samples can differ significantly at all.

    Even without overlap they do so by chance with p = 2 / C(n + m, n), two-sided, in the Kolmogorov–Smirnov test
    as in the rank test that goes with an AUC. Three samples a side are too few (p = 0.1), four are enough (0.029).
    """
    return min(first, second) > 0 and 2 / math.comb(first + second, first) < SIGNIFICANCE


def mean(values: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the mean of the samples that are drawn, shape (B,); NaN where none is."""
    known = ~np.isnan(values)
    values, counts = values[known], counts[:, known]
    return ratio((counts * values).sum(axis=1), counts.sum(axis=1))


def perplexity(nll: FloatArray, tokens: FloatArray, counts: FloatArray) -> FloatArray:
    """Return exp of the mean NLL over all tokens, shape (B,); samples without a token count for nothing.

    Args:
        nll: Mean NLL of each sample [nats per token], shape (n,).
        tokens: Tokens that it is the mean of, shape (n,).
        counts: Shape (B, n).
    """
    known = ~np.isnan(nll) & (tokens > 0)
    nll, tokens, counts = nll[known], tokens[known], counts[:, known]
    with np.errstate(over="ignore"):
        value: FloatArray = np.exp(ratio((counts * (tokens * nll)).sum(axis=1), (counts * tokens).sum(axis=1)))
    return value


def auc(first: FloatArray, counts: FloatArray, other: FloatArray, other_counts: FloatArray) -> FloatArray:
    """Return P(score of the first set > score of the other) + half of P(equal), shape (B,).

    NaN where the sets are so small that no AUC of theirs could be told from 0.5, see `can_differ`.

    Args:
        first: Scores of the first set, shape (n,).
        counts: Shape (B, n).
        other: Scores of the other set, shape (m,).
        other_counts: Shape (B, m).
    """
    known, other_known = ~np.isnan(first), ~np.isnan(other)
    first, counts = first[known], counts[:, known]
    other, other_counts = other[other_known], other_counts[:, other_known]
    if not can_differ(len(first), len(other)):
        return np.full(len(counts), np.nan)
    order = np.argsort(other, kind="stable")
    none = np.zeros((len(other_counts), 1))
    passed = np.concatenate([none, other_counts[:, order].cumsum(axis=1)], axis=1)
    below, at_most = (passed[:, np.searchsorted(other[order], first, side)] for side in ("left", "right"))
    wins = (counts * (below + at_most)).sum(axis=1) / 2
    return ratio(wins, counts.sum(axis=1) * other_counts.sum(axis=1))


def harmonic_mean(parts: ArrayLike) -> FloatArray:
    """Return the harmonic mean over the first axis of values from 0 up: 0 where one is 0, NaN where one is NaN."""
    values: FloatArray = np.asarray(parts, dtype=np.float64)
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    with np.errstate(divide="ignore"):
        return np.asarray(len(values) / (1 / values).sum(axis=0))


def mean_defined(values: ArrayLike) -> float:
    """Return the mean of the values that are not NaN, and NaN where there is none."""
    samples: FloatArray = np.asarray(values, dtype=np.float64)
    return float(mean(samples, np.ones((1, samples.size)))[0])


def model_utility(means: Mapping[tuple[str, str], float]) -> float:
    """Return the harmonic mean of the nine `UTILITY_PARTS`; NaN where one of them is missing or NaN."""
    return float(harmonic_mean([means.get(part, float("nan")) for part in UTILITY_PARTS]))
