"""The least-squares slope of one measurement on another, with its interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import REPLICATES, ROUNDING, SEED, Estimate, Statistic, estimate
from mrd_core.arrays import FloatArray, ratio


class Slope(NamedTuple):
    """Least-squares lines: y = through_origin · x, and y = with_intercept · x + intercept."""

    through_origin: Estimate
    with_intercept: Estimate
    intercept: Estimate


def slope(x: npt.ArrayLike, y: npt.ArrayLike, replicates: int = REPLICATES, seed: int = SEED) -> Slope:
    """Return the least-squares slope of y on x, through the origin and with an intercept.

    Pairs with a value that is not finite are left out.

    Args:
        x: Shape (N,).
        y: Shape (N,).
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    points = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    points = points[:, np.isfinite(points).all(axis=0)]
    a, b = points[:, np.lexsort(points)]

    lines: tuple[Statistic, ...] = (
        lambda counts: ratio(counts @ (a * b), counts @ a**2),
        lambda counts: _steepness(counts, a, b),
        lambda counts: (counts @ b - _steepness(counts, a, b) * (counts @ a)) / counts.sum(axis=1),
    )
    return Slope(*(estimate(line, a.size, replicates, seed) for line in lines))


def _steepness(counts: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the slope of b on a with an intercept in each replicate, shape (B,); NaN where a does not vary."""
    total, sum_a, sum_b = counts.sum(axis=1), counts @ a, counts @ b
    spread = counts @ a**2 - sum_a**2 / total
    varies = spread > ROUNDING * (counts @ a**2)
    return ratio(counts @ (a * b) - sum_a * sum_b / total, np.where(varies, spread, 0))
