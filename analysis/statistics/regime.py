"""Where MRD grows as the square of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd


@dataclass(frozen=True, eq=False)
class Regime:
    """Where MRD grows as σ².

    Attributes:
        low: Smallest σ of the regime; NaN where there is none.
        high: Largest σ of the regime.
        table: A row per σ, ascending: sigma, ratio (median over samples of MRD/σ²), inside.
    """

    low: float
    high: float
    table: pd.DataFrame


def quadratic_regime(sigmas: npt.ArrayLike, mrd: npt.ArrayLike, tolerance: float = 0.1) -> Regime:
    """Return where MRD/σ² is constant: the longest stretch of σ, by its ratio of ends, of at least two values.

    Constant means that the largest and the smallest MRD/σ² of a sample within the stretch differ by no more than
    the tolerance, relative to the smallest, for half of the samples or more.

    Args:
        sigmas: The S noise scales, shape (S,).
        mrd: MRD at each, shape (S,) or (S, N) for N samples.
        tolerance: Relative, 0.1 for 10 %.
    """
    order = np.argsort(sigmas)
    scales = np.asarray(sigmas, dtype=np.float64)[order]
    scores = np.asarray(mrd, dtype=np.float64)[order].reshape(len(scales), -1)
    ratios = scores / scales[:, None] ** 2
    ratios = ratios[:, np.isfinite(ratios).any(axis=0)]
    stretches = []
    for first, last in combinations(range(len(scales)), 2):
        least, most = (extreme(ratios[first : last + 1], axis=0) for extreme in (np.min, np.max))
        if np.mean((least > 0) & (most <= least * (1 + tolerance))) >= 0.5:
            stretches.append((scales[last] / scales[first], first, last))
    _, first, last = max(stretches, default=(0.0, len(scales), -1))
    inside = (np.arange(len(scales)) >= first) & (np.arange(len(scales)) <= last)
    low, high = (scales[first], scales[last]) if inside.any() else (np.nan, np.nan)
    table = pd.DataFrame({"sigma": scales, "ratio": pd.DataFrame(ratios).median(axis=1), "inside": inside})
    return Regime(float(low), float(high), table)
