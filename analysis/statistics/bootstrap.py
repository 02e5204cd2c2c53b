"""The bootstrap: how often each case is drawn, and the 95 % intervals that follow from it.

A replicate is a vector of counts, how often each of n cases (samples, or draws of noise) was drawn, and a
statistic is a function of such counts: a thousand replicates are a matrix product, and what is measured on the
same cases is resampled together. Counts of ones give what was measured.

Intervals are of two kinds. A statistic of samples alone has its jackknife, and gets the bias-corrected and
accelerated interval (BCa; Efron, 1987), whose normal quantiles are those of Student's t with n − 1 degrees of
freedom. Where draws of noise are resampled too, or several sets at once, there is no such jackknife: the
percentiles are moved so that the replicates average to the value, and widened as Student's t widens those of a
mean of n values. Replicates in which a statistic is undefined are left out; where they are the majority there is
no interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from mrd_core.arrays import FloatArray

# From counts, shape (B, n), to values, shape (B,) or (B, …).
Statistic = Callable[[FloatArray], FloatArray]

REPLICATES = 1000
# Fixed, so that a table reads the same each time it is looked at.
SEED = 20250410
# With fewer samples nothing is said of what is known of samples alone.
LEAST_SAMPLES = 4
# Variance, as a share, below which what is left of a variable is rounding.
ROUNDING = 1e-9

# Replicates are worked on in chunks of so many values: 8 MB an array.
_CHUNK_VALUES = 1_000_000


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval, from n samples, n_censored of them censored; NaN: undefined."""

    value: float
    low: float
    high: float
    n: int = 0
    n_censored: int = 0

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval exists and 0 lies outside."""
        return self.low > 0 or self.high < 0

    def columns(self, value: str, prefix: str = "") -> dict[str, float]:
        """Return the value and the ends of its interval as a table has them: `value`, PREFIXlow, PREFIXhigh."""
        return {value: self.value, f"{prefix}low": self.low, f"{prefix}high": self.high}


UNDEFINED = Estimate(np.nan, np.nan, np.nan)


# Every statistic of an experiment is of the same counts, which take longer to draw than most statistics do.
@lru_cache(maxsize=2)
def resamples(n: int, replicates: int, seed: int | tuple[int, ...]) -> FloatArray:
    """Return how often each of n cases is drawn, shape (replicates, n), which cannot be written to."""
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates).astype(np.float64)
    counts.flags.writeable = False
    return counts


def in_chunks(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of so many rows that arrays of this width are small."""
    size = max(1, _CHUNK_VALUES // max(width, 1))
    yield from (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def picked(counts: FloatArray) -> npt.NDArray[np.intp]:
    """Return the cases that were drawn, each as often as it was, shape (B, n) as the counts."""
    rows, n = counts.shape
    return np.repeat(np.tile(np.arange(n), rows), counts.astype(np.intp).ravel()).reshape(rows, n)


def left_out(statistic: Statistic, n: int) -> FloatArray:
    """Return the jackknife values of a statistic of n samples, shape (n,)."""
    chunks = (1 - np.eye(rows.stop - rows.start, n, rows.start) for rows in in_chunks(n, n))
    return np.concatenate([statistic(counts) for counts in chunks])


def estimate(statistic: Statistic, n: int, replicates: int, seed: int, n_censored: int = 0) -> Estimate:
    """Return a statistic of n samples with its BCa interval; undefined with fewer than `LEAST_SAMPLES`."""
    value = float(statistic(np.ones((1, n)))[0]) if n >= LEAST_SAMPLES else np.nan
    if not np.isfinite(value):
        return UNDEFINED._replace(n=n, n_censored=n_censored)
    counts = resamples(n, replicates, seed)
    drawn = np.concatenate([statistic(counts[rows]) for rows in in_chunks(replicates, n)])
    return Estimate(value, *bca_limits(value, drawn, left_out(statistic, n)), n, n_censored)


def mean_estimate(values: npt.ArrayLike, replicates: int = REPLICATES, seed: int = SEED) -> Estimate:
    """Return the mean of the values that are finite, shape (N,), with its BCa interval."""
    finite = np.asarray(values, dtype=np.float64)
    # Sorted, so that the interval does not depend on the order of a file.
    finite = np.sort(finite[np.isfinite(finite)])
    return estimate(lambda counts: counts @ finite / counts.sum(axis=1), finite.size, replicates, seed)


def bca_limits(value: float, replicates: FloatArray, jackknife: FloatArray) -> tuple[float, float]:
    """Return the BCa limits of a value from its replicates, shape (B,), and its jackknife values, shape (n,)."""
    defined = _majority(replicates)
    if not defined.size:
        return np.nan, np.nan
    # Replicates of a perfect correlation differ from it by rounding alone.
    distance = np.where(np.abs(defined - value) < ROUNDING, 0, defined - value)
    below = (np.mean(distance < 0) + np.mean(distance <= 0)) / 2
    bias = special.ndtri(np.clip(below, 1 / defined.size, 1 - 1 / defined.size))
    ends = np.array([-1.0, 1.0]) * special.stdtrit(jackknife.size - 1, 0.975)
    corrected = bias + (bias + ends) / (1 - acceleration(jackknife) * (bias + ends))
    low, high = np.quantile(defined, special.ndtr(corrected))
    return float(low), float(high)


def acceleration(jackknife: FloatArray) -> float:
    """Return Σ u³ / (6 (Σ u²)^1.5), u the mean of the jackknife values less each; 0 where they do not vary."""
    defined = jackknife[np.isfinite(jackknife)]
    influence = defined.mean() - defined if defined.size else np.zeros(1)
    square = float((influence**2).sum())
    return float((influence**3).sum() / (6 * square**1.5)) if square > ROUNDING**2 else 0.0


def percentile_estimate(
    value: float, replicates: FloatArray, n: int, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """Return a value with the central 95 % of its replicates, moved so that they average to it and widened.

    Args:
        value: What was measured.
        replicates: Shape (B,).
        n: Samples that it rests on.
        bounds: What the value can be.
    """
    defined = _majority(replicates)
    if not (np.isfinite(value) and defined.size):
        return Estimate(float(value), np.nan, np.nan, n)
    ends = np.quantile(defined - defined.mean(), [0.025, 0.975])
    low, high = np.clip(value + widening(n) * ends, *bounds)
    return Estimate(float(value), float(low), float(high), n)


def widening(n: int, freedom: float | None = None) -> float:
    """Return what turns the 95 % limits of a bootstrapped mean of n values into those of Student's t.

    The bootstrap's variance is s²(n − 1)/n², and its tails are normal. One value says nothing of its spread.

    Args:
        n: How many values.
        freedom: Degrees of freedom, where the mean is part of a sum of several; n − 1 otherwise.
    """
    if n == 1:
        return 1.0
    return float(np.sqrt(n / (n - 1)) * special.stdtrit(freedom or n - 1, 0.975) / special.ndtri(0.975))


def _majority(replicates: FloatArray) -> FloatArray:
    """Return the replicates that are defined, none where they are not the majority."""
    defined = replicates[np.isfinite(replicates)]
    return defined if 2 * defined.size > replicates.size else defined[:0]
