"""How many updates each sample took, from the raw rows of predictive validity: an outcome per arm.

An arm is a method with an optimiser. Of repeats the median counts, over those that did not diverge. A repeat
that reached the cap took more than that many, so the median is exact while fewer than half are censored; where
half or more are, the sample is censored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

# Fewer different numbers, or a smaller ratio of the largest to the smallest, and there is little to predict.
FEW_DISTINCT = 5
NARROW_RATIO = 1.5


class Spread(NamedTuple):
    """How updates vary over the samples of an arm; the figures are NaN without samples.

    `distinct` counts different outcomes, all censored samples being one; `runs` and `diverged` count repeats.
    """

    n: int
    n_censored: int
    runs: int
    diverged: int
    distinct: int
    least: float
    median: float
    greatest: float

    @property
    def varies(self) -> bool:
        """Whether there is something to predict."""
        return self.distinct >= FEW_DISTINCT and self.greatest >= NARROW_RATIO * max(self.least, 1)


def per_sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per sample: sample_id, updates (median), censored, repeats, least, greatest.

    Args:
        rows: Repeats of one arm: sample_id, updates, forgotten, diverged.
    """
    kept = rows[~rows["diverged"] & rows["updates"].notna()]
    each = kept.groupby("sample_id", sort=False)
    updates = each["updates"]
    table = pd.DataFrame(
        {
            "updates": updates.median(),
            "censored": (each["forgotten"].mean() <= 0.5).astype(bool),
            "repeats": updates.size(),
            "least": updates.min(),
            "greatest": updates.max(),
        }
    )
    return table.reset_index()


def with_something_to_forget(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without those that were forgotten before the first update, unless there are no others.

    What the model does not know takes no update, however hard the sample is: such rows say nothing of difficulty.
    """
    kept = rows[~(rows["forgotten"] & (rows["updates"] == 0))]
    return kept if len(kept) else rows


def spread(rows: pd.DataFrame, outcomes: pd.DataFrame) -> Spread:
    """Return how the updates of an arm vary, from its rows and what `per_sample` made of them."""
    ran = outcomes["updates"]
    return Spread(
        n=len(outcomes),
        n_censored=int(outcomes["censored"].sum()),
        runs=len(rows),
        diverged=int(rows["diverged"].sum()),
        distinct=int(ran.mask(outcomes["censored"], np.inf).nunique()),
        least=float(ran.min()),
        median=float(ran.median()),
        greatest=float(ran.max()),
    )


def until(rows: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return the rows as if each run had ended when MA was first below another threshold.

    Args:
        rows: With `trace`, MA before each update and after the last; a row without one is left out.
        threshold: Above that of the runs, or they say nothing of it where they ended.
    """
    traced = rows[rows["trace"].map(lambda trace: isinstance(trace, list | np.ndarray) and len(trace) > 0)]
    reached = traced["trace"].map(lambda trace: updates_until(trace, threshold))
    ends = traced["trace"].map(len) - 1
    updates = reached.where(reached.notna(), ends).astype(np.float64)
    return traced.assign(updates=updates, forgotten=reached.notna())


def updates_until(trace: Sequence[float], threshold: float) -> float:
    """Return the number of updates after which MA was first below the threshold; NaN where it never was."""
    below = np.flatnonzero(np.asarray(trace, dtype=np.float64) < threshold)
    return float(below[0]) if below.size else np.nan


def repeats(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return updates, and which are censored, with a row per sample and a column per repeat; NaN if diverged."""
    kept = rows[~rows["diverged"]].drop_duplicates(["sample_id", "repeat"])
    updates = kept.pivot(index="sample_id", columns="repeat", values="updates")
    forgotten = kept.pivot(index="sample_id", columns="repeat", values="forgotten")
    return updates, forgotten.eq(False)


def mean_rank(updates: pd.DataFrame, censored: pd.DataFrame) -> pd.Series[float]:
    """Return the mean over arms of the rank of each sample's updates as a share of the samples, in (0, 1].

    Args:
        updates: A row per sample, a column per arm; samples that lack one are left out.
        censored: Of the same shape; censored samples are tied above all others.
    """
    complete = updates.mask(censored, np.inf).dropna()
    ranks = stats.rankdata(complete.to_numpy(np.float64), axis=0) / max(len(complete), 1)
    return pd.Series(ranks.mean(axis=1), index=complete.index, dtype=np.float64)
