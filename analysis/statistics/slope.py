"""The least-squares slope of one measurement on another, with its interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import REPLICATES, ROUNDING, SEED, Estimate, estimate
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

    def at_origin(counts: FloatArray) -> FloatArray:
        return ratio(counts @ (a * b), counts @ a**2)

    def steepness(counts: FloatArray) -> FloatArray:
        total, sum_a, sum_b = counts.sum(axis=1), counts @ a, counts @ b
        spread = counts @ a**2 - sum_a**2 / total
        varies = spread > ROUNDING * (counts @ a**2)
        return ratio(counts @ (a * b) - sum_a * sum_b / total, np.where(varies, spread, 0))

    def height(counts: FloatArray) -> FloatArray:
        level: FloatArray = (counts @ b - steepness(counts) * (counts @ a)) / counts.sum(axis=1)
        return level

    return Slope(*(estimate(line, a.size, replicates, seed) for line in (at_origin, steepness, height)))
