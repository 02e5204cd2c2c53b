"""Effects of a sample's properties on its MRD, each with an interval that knows how well MRD was measured.

Every interval is a 95 % bootstrap interval over two sources of chance at once: which samples were in the set,
and which noise was drawn. All samples share the draws, so a replicate resamples whole draws, which moves all
samples together, and then resamples samples. Noise that samples share is counted once, and resampling samples
alone would not see it. A sample's own noise of variance e² is counted three times: it has spread the measured
values, it spreads those of a replicate again, and it moves the replicate's mean. So intervals err on the wide
side: the interval of a mean by a factor √(1 + 2q) where e² is the share q of the variance of MRD over samples,
which is 10 % at a reliability of 0.9 and nothing to speak of in a run that met its precision target.

The added noise also pulls replicates: |mean| upwards, rank correlations towards 0. They are therefore moved
back, so that they average to the measured value; and since the bootstrap of few values is too narrow, limits
are widened as Student's t widens those of a mean of as many, by 22 % for ten samples and 2 % for a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics.bootstrap import (
    REPLICATES,
    SEED,
    UNDEFINED,
    Estimate,
    in_chunks,
    percentile_estimate,
    picked,
    resamples,
    widening,
)
from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.scoring.draws import Units

# Terms of the rank regression: how much of a feature must be defined, how much of its variance must not follow
# from the terms before it, and how many samples a term needs.
DEFINED_SHARE = 0.9
OWN_VARIANCE = 0.01
CASES_PER_TERM = 5
# Below it a p-value, corrected for the number of tests, is no chance.
SIGNIFICANCE = 0.05

# What is drawn independently under one seed.
_DRAWS, _OTHER_DRAWS, _SAMPLES, _OTHER_SAMPLES = range(4)
_SIGNED = (-1.0, 1.0)
_ANY = (-np.inf, np.inf)
_POSITIVE = (0.0, np.inf)


@dataclass(frozen=True, eq=False)
class Measured:
    """The MRD of N samples, and the draws that it is the mean of.

    Attributes:
        units: What the score before |·| is made of, see `Draws.units`; NaN for a sample without a scored token.
    """

    units: Units

    @cached_property
    def mrd(self) -> FloatArray:
        """The score, shape (N,)."""
        return _mrd(self.units)

    @cached_property
    def defined(self) -> BoolArray:
        """Which samples have an MRD, shape (N,)."""
        return np.isfinite(self.mrd)


@dataclass(frozen=True)
class GroupComparison:
    """How the MRD of a high group differs from that of a low group.

    Attributes:
        n_high: Samples in the high group.
        n_low: Samples in the low group.
        p: Two-sided Mann–Whitney. It takes the samples' noise for independent; the intervals do not.
        mean_high: Mean MRD of the high group.
        mean_low: Mean MRD of the low group.
        median_high: Median MRD of the high group.
        median_low: Median MRD of the low group.
        difference: Mean of the high group less that of the low group.
        median_difference: The same of the medians.
        cliffs_delta: P(high > low) − P(high < low) for a sample from each group, in [−1, 1].
    """

    n_high: int
    n_low: int
    p: float
    mean_high: Estimate
    mean_low: Estimate
    median_high: Estimate
    median_low: Estimate
    difference: Estimate
    median_difference: Estimate
    cliffs_delta: Estimate


@dataclass(frozen=True)
class Term:
    """One term of a rank regression.

    Attributes:
        name: The feature.
        coefficient: Standardised: by how many standard deviations the rank of MRD moves with one of the
            feature's rank, all other terms held.
        alone: The same without the other terms, which is the Spearman correlation.
        vif: Variance inflation factor, 1 where the other terms say nothing about this one.
    """

    name: str
    coefficient: Estimate
    alone: Estimate
    vif: float


@dataclass(frozen=True)
class RankRegression:
    """What remains of each feature's tie to MRD when the others, length among them, are held.

    Attributes:
        terms: The terms, length first.
        r2: Share of the variance of MRD's ranks that they explain; NaN without a term.
        n: Samples used: those with an MRD and every term defined.
        dropped: Why a feature is no term, by name.
    """

    terms: tuple[Term, ...]
    r2: float
    n: int
    dropped: dict[str, str]


def compare_groups(
    measured: Measured, high: BoolArray, low: BoolArray, replicates: int = REPLICATES, seed: int = SEED
) -> GroupComparison:
    """Compare two groups of samples of one run.

    The order of the samples does not matter.

    Args:
        measured: The run's N samples; those without an MRD are left out.
        high: Which samples are in the high group, shape (N,).
        low: Which are in the low group, shape (N,).
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: A group has no sample with an MRD.
    """
    sides = [measured.units.at(measured.defined & group) for group in (high, low)]
    return _compare(*sides, shared_draws=True, replicates=replicates, seed=seed)


def compare_sets(
    first: Measured, second: Measured, replicates: int = REPLICATES, seed: int = SEED
) -> GroupComparison:
    """Compare all samples of two runs, the first as the high group; their draws are taken for independent.

    Raises:
        ValueError: A run has no sample with an MRD.
    """
    sides = [run.units.at(run.defined) for run in (first, second)]
    return _compare(*sides, shared_draws=False, replicates=replicates, seed=seed)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979); NaN stays NaN and does not count."""
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full(len(values), np.nan)
    order = np.argsort(values)[: np.isfinite(values).sum()]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return [float(value) for value in corrected]


def spearman(x: FloatArray, measured: Measured, replicates: int = REPLICATES, seed: int = SEED) -> Estimate:
    """Return the Spearman correlation of a feature with MRD over the samples where both are defined.

    Args:
        x: The feature, shape (N,), NaN where undefined.
        measured: The N samples.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        The correlation; NaN with fewer than 3 samples, or where either is constant.
    """
    both = measured.defined & np.isfinite(x)
    if both.sum() < 3:
        return UNDEFINED
    order = np.lexsort((x[both], measured.mrd[both]))
    x, observed, units = x[both][order], measured.mrd[both][order], measured.units.at(both).at(order)
    weights = draw_weights(units, replicates, (seed, _DRAWS))
    counts = resamples(x.size, replicates, (seed, _SAMPLES))
    drawn = []
    for rows in in_chunks(*counts.shape):
        places = picked(counts[rows])
        mrd = np.take_along_axis(np.abs(weights[rows] @ units.values), places, axis=1)
        drawn.append(_rank_correlation(x[places], mrd))
    point = _rank_correlation(x[None], observed[None])[0]
    return percentile_estimate(point, np.concatenate(drawn), x.size, _SIGNED)


def spearman_between(
    first: Measured, second: Measured, replicates: int = REPLICATES, seed: int = SEED
) -> Estimate:
    """Return the Spearman correlation of the MRD of two runs over the samples where both are defined.

    The draws of the runs are taken for independent.

    Args:
        first: The N samples of a run.
        second: The same samples, in the same order, of another one.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        The correlation; NaN with fewer than 3 samples, or where either is constant.
    """
    both = first.defined & second.defined
    if both.sum() < 3:
        return UNDEFINED
    order = np.lexsort((first.mrd[both], second.mrd[both]))
    units = [run.units.at(both).at(order) for run in (first, second)]
    weights = [draw_weights(of, replicates, (seed, place)) for place, of in enumerate(units)]
    counts, drawn = resamples(int(both.sum()), replicates, (seed, _SAMPLES)), []
    for rows in in_chunks(*counts.shape):
        places = picked(counts[rows])
        sides = [np.abs(each[rows] @ of.values) for each, of in zip(weights, units, strict=True)]
        drawn.append(_rank_correlation(*(np.take_along_axis(mrd, places, axis=1) for mrd in sides)))
    point = _rank_correlation(first.mrd[both][None], second.mrd[both][None])[0]
    return percentile_estimate(point, np.concatenate(drawn), int(both.sum()), _SIGNED)


def correlations(features: pd.DataFrame) -> pd.DataFrame:
    """Return the Spearman correlations of numeric columns, each over the rows where both are defined.

    NaN where a column is constant.
    """
    return features.astype(np.float64).corr(method="spearman", min_periods=3)


def rank_regression(
    features: pd.DataFrame, length: pd.Series, measured: Measured, replicates: int = REPLICATES, seed: int = SEED
) -> RankRegression:
    """Regress the ranks of MRD on the ranks of all features and of length, all standardised.

    Ranks are taken over the samples used and kept when samples are resampled; those of MRD change with the
    resampled draws. A feature is left out, with the reason, that is too sparse, constant, or follows (almost)
    from those before it, and so is every feature beyond the number that the samples suffice for; length
    comes first, the features follow in their order.

    Args:
        features: N rows, a numeric column per feature.
        length: Length of each sample; its name is the name of the term, and replaces a feature of that name.
        measured: The N samples.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    table = features.drop(columns=str(length.name), errors="ignore").astype(np.float64)
    table.insert(0, str(length.name), length.to_numpy(np.float64, na_value=np.nan))
    table = table[measured.defined]
    # Such a column would cost too many samples.
    dropped = {
        str(name): f"defined for {share:.0%} of the samples; {DEFINED_SHARE:.0%} are needed"
        for name, share in table.notna().mean().items()
        if share < DEFINED_SHARE
    }
    table = table.drop(columns=list(dropped))
    complete = table.notna().all(axis=1).to_numpy()
    order = np.argsort(measured.mrd[measured.defined][complete], kind="stable")
    units = measured.units.at(measured.defined).at(complete).at(order)
    ranks = _standardised_ranks(table[complete].to_numpy().T[:, order])
    useless = _dependent(dict(zip(table.columns, ranks, strict=True)))
    names = [name for name in table.columns if name not in useless]
    kept = ranks[[name not in useless for name in table.columns]].T
    terms, r2 = _fit(names, kept, units, replicates, seed) if names else ((), np.nan)
    return RankRegression(terms, r2, int(complete.sum()), dropped | useless)


def _mrd(units: Units) -> FloatArray:
    score: FloatArray = np.abs(units.mean)
    return score


def _compare(high: Units, low: Units, *, shared_draws: bool, replicates: int, seed: int) -> GroupComparison:
    n_high, n_low = high.values.shape[1], low.values.shape[1]
    if not (n_high and n_low):
        raise ValueError("a group without a measured sample has nothing to compare")
    high, low = _in_order(high), _in_order(low)
    # Those of both groups where the draws are the same.
    every = Units(np.hstack([high.values, low.values]), high.sizes) if shared_draws else high
    weights = draw_weights(every, replicates, (seed, _DRAWS))
    others = weights if shared_draws else draw_weights(low, replicates, (seed, _OTHER_DRAWS))
    counts = resamples(n_high, replicates, (seed, _SAMPLES))
    other_counts = resamples(n_low, replicates, (seed, _OTHER_SAMPLES))
    drawn = [
        _group_statistics(
            _resampled(weights[rows] @ high.values, counts[rows]),
            _resampled(others[rows] @ low.values, other_counts[rows]),
        )
        for rows in in_chunks(replicates, n_high + n_low)
    ]
    measured = _mrd(high), _mrd(low)
    point = _group_statistics(measured[0][None], measured[1][None])[:, 0]
    fewer = min(n_high, n_low)
    sizes = (n_high, n_low, n_high, n_low, fewer, fewer, fewer)
    bounds = (_POSITIVE, _POSITIVE, _POSITIVE, _POSITIVE, _ANY, _ANY, _SIGNED)
    intervals = map(percentile_estimate, point, np.concatenate(drawn, axis=1), sizes, bounds)
    p = stats.mannwhitneyu(*measured, alternative="two-sided", axis=None).pvalue
    return GroupComparison(n_high, n_low, float(p), *intervals)


def _group_statistics(high: FloatArray, low: FloatArray) -> FloatArray:
    """Return the statistics of `GroupComparison` in its order, shape (7, B), of values of shape (B, n_g)."""
    means = high.mean(axis=1), low.mean(axis=1)
    medians = np.median(high, axis=1), np.median(low, axis=1)
    # Cliff's delta by way of the rank sum: δ = 2U / (n_high n_low) − 1.
    n_high, n_low = high.shape[1], low.shape[1]
    rank_sum = stats.rankdata(np.hstack([high, low]), axis=1)[:, :n_high].sum(axis=1)
    delta = 2 * (rank_sum - n_high * (n_high + 1) / 2) / (n_high * n_low) - 1
    return np.stack([*means, *medians, means[0] - means[1], medians[0] - medians[1], delta])


def _in_order(units: Units) -> Units:
    """Sort samples by MRD, so that a replicate picks the same ones however the file was sorted."""
    return units.at(np.argsort(_mrd(units), kind="stable"))


def draw_weights(units: Units, replicates: int, seed: tuple[int, int]) -> FloatArray:
    """Return weights, shape (replicates, n), whose product with the values is the score over resampled draws.

    Each part is resampled by itself. The deviations of the weights from even ones are widened, so that the limits
    of a mean are as in `mrd_core.scoring.draws.scores`.
    """
    freedom = float(np.median(units.freedom))
    parts = []
    for place, size in enumerate(units.sizes):
        even = 1 / size
        drawn = resamples(size, replicates, (*seed, place) if place else seed) / size
        parts.append(even + widening(size, freedom) * (drawn - even))
    return np.hstack(parts)


def _resampled(means: FloatArray, counts: FloatArray) -> FloatArray:
    """Return |mean of the units| of the samples that were drawn, shape (B, n) as the means of all samples."""
    return np.take_along_axis(np.abs(means), picked(counts), axis=1)


def _rank_correlation(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the Spearman correlation of each row of `x` with that of `y`; NaN where one is constant."""
    a, b = _standardised_ranks(x), _standardised_ranks(y)
    varies = a.any(axis=1) & b.any(axis=1)
    return np.where(varies, np.mean(a * b, axis=1), np.nan)


def _standardised_ranks(rows: FloatArray) -> FloatArray:
    """Return each row's ranks with mean 0 and variance 1; zeros where it is constant."""
    n = rows.shape[1]
    ranks = stats.rankdata(rows, axis=1) - (n + 1) / 2
    spread = np.sqrt((ranks**2).sum(axis=1, keepdims=True) / max(n, 1))
    standardised: FloatArray = np.divide(ranks, spread, out=np.zeros_like(ranks), where=spread > 0)
    return standardised


def _dependent(ranks: dict[str, FloatArray]) -> dict[str, str]:
    """Name the columns that are constant, (almost) follow from those before them, or are too many.

    What a column has of its own is what Gram–Schmidt leaves of it.
    """
    basis: list[FloatArray] = []
    dropped = {}
    for name, rank in ranks.items():
        own = rank - sum((direction * (direction @ rank) for direction in basis), start=np.zeros_like(rank))
        share = float(own @ own) / rank.size if rank.size else 0.0
        if not rank.any():
            dropped[name] = "constant"
        elif share < OWN_VARIANCE:
            dropped[name] = f"{1 - share:.1%} of its variance follows from the terms before it"
        elif len(basis) == rank.size // CASES_PER_TERM:
            dropped[name] = f"{rank.size} samples suffice for {len(basis)} terms, {CASES_PER_TERM} for each"
        else:
            basis.append(own / np.linalg.norm(own))
    return dropped


def _fit(
    names: list[str], ranks: FloatArray, units: Units, replicates: int, seed: int
) -> tuple[tuple[Term, ...], float]:
    """Fit all terms, ranks of shape (n, k), and return them with R²."""
    n, k = ranks.shape
    products = (ranks[:, :, None] * ranks[:, None, :]).reshape(n, k * k)
    weights = draw_weights(units, replicates, (seed, _DRAWS))
    counts = resamples(n, replicates, (seed, _SAMPLES))
    drawn = [
        _least_squares(
            ranks, products, _standardised_ranks(np.abs(weights[rows] @ units.values)), counts[rows] / n
        )
        for rows in in_chunks(replicates, n)
    ]
    response = _standardised_ranks(_mrd(units)[None])
    point = _least_squares(ranks, products, response, np.full((1, n), 1 / n))[:, 0]
    spread = np.concatenate(drawn, axis=1)
    vif = np.diag(np.linalg.inv(ranks.T @ ranks / n))
    terms = tuple(
        Term(
            name,
            percentile_estimate(point[0, at], spread[0, :, at], n, _ANY),
            percentile_estimate(point[1, at], spread[1, :, at], n, _SIGNED),
            float(vif[at]),
        )
        for at, name in enumerate(names)
    )
    return terms, float(point[0] @ point[1])


def _least_squares(
    ranks: FloatArray, products: FloatArray, response: FloatArray, shares: FloatArray
) -> FloatArray:
    """Return standardised coefficients and simple correlations of each replicate, shape (2, B, k).

    A replicate gives each sample a weight, so that all it needs are weighted moments: two matrix products.
    A term that is constant in a replicate has the coefficient 0 there.

    Args:
        ranks: Terms, shape (n, k).
        products: Products of every two terms, shape (n, k²).
        response: Ranks of MRD, shape (B, n).
        shares: Weight of each sample, shape (B, n), each row summing to 1.
    """
    k = ranks.shape[1]
    means = shares @ ranks
    covariance = (shares @ products).reshape(-1, k, k) - means[:, :, None] * means[:, None, :]
    weighted = shares * response
    mean = weighted.sum(axis=1, keepdims=True)
    variance = (weighted * response).sum(axis=1, keepdims=True) - mean**2
    scale = _positive_root(np.diagonal(covariance, axis1=1, axis2=2))
    correlation = covariance / (scale[:, :, None] * scale[:, None, :])
    simple = (weighted @ ranks - mean * means) / (scale * _positive_root(variance))
    inverse = np.linalg.pinv(correlation, rcond=1e-10, hermitian=True)
    return np.stack([(inverse @ simple[:, :, None])[:, :, 0], simple])


def _positive_root(variance: FloatArray) -> FloatArray:
    """Return the standard deviation, infinite instead of 0, so that dividing by it gives 0."""
    return np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), np.inf)
