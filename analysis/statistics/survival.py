"""How many samples are still as they were after so many steps: Kaplan and Meier's estimate with its band."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

COLUMNS = ["step", "still", "low", "high", "n"]


def survival(times: npt.ArrayLike, censored: npt.ArrayLike, steps: Sequence[int]) -> pd.DataFrame:
    """Return the share of samples to which nothing has happened yet after each of these steps.

    Args:
        times: Step at which it happened, or up to which it had not, shape (N,).
        censored: To which nothing happened, shape (N,).
        steps: Those that are looked at.

    Returns:
        Columns step, still, low, high (95 %, on the log-log scale; NaN where nothing or everything has happened,
        since there is no such interval), n; no rows without samples.
    """
    ended, kept = np.asarray(times, dtype=np.float64), np.asarray(censored, dtype=bool)
    if not ended.size:
        return pd.DataFrame(columns=COLUMNS)
    estimated = stats.ecdf(stats.CensoredData.right_censored(ended, kept)).sf
    with warnings.catch_warnings():
        # It says of each NaN that it is one.
        warnings.simplefilter("ignore", RuntimeWarning)
        # Its ends are functions of the step.
        band: Any = estimated.confidence_interval(method="log-log")
    at = np.asarray(steps, dtype=np.float64)
    still = estimated.evaluate(at)
    inside = (still > 0) & (still < 1)
    low, high = (np.where(inside, edge.evaluate(at), np.nan) for edge in (band.low, band.high))
    return pd.DataFrame({"step": at, "still": still, "low": low, "high": high, "n": ended.size})
