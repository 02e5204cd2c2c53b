"""How much the performance of methods moves with the samples chosen, and how often two change places."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

_SPREAD_COLUMNS = ["method", "n", "mean", "sd", "sd_low", "sd_high", "least", "greatest"]
_FLIP_COLUMNS = ["first", "second", "n", "first_wins", "second_wins", "ties", "flips", "share", "low", "high"]


@dataclass(frozen=True, eq=False)
class Flips:
    """How much the choice of the forget set moves methods, and whether it moves their order.

    Attributes:
        spread: A row per method: method, n, mean, sd, sd_low, sd_high (95 %, of normal values; NaN where
            all are the same), least, greatest.
        pairs: A row per two methods: first, second, n, first_wins, second_wins, ties, flips (selections that
            order the two otherwise than most), share, low, high (95 %, Clopper–Pearson; at most one half).
    """

    spread: pd.DataFrame
    pairs: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Balance:
    """What balancing the selections by difficulty changes.

    Attributes:
        spread: A row per method: method, sd_random, sd_balanced, ratio (balanced to random; NaN where
            either does not vary), low, high (95 %, by F, for normal values).
        pairs: A row per two methods: first, second, share_random, share_balanced, p (Fisher's exact test).
    """

    spread: pd.DataFrame
    pairs: pd.DataFrame


def flips(values: pd.DataFrame) -> Flips:
    """Return how much the performance of methods moves over selections, and how often two change places.

    Args:
        values: A row per selection, a column per method; NaN where a run is missing.
    """
    spread, pairs = [], []
    for name, column in values.items():
        each = column.dropna().to_numpy(np.float64)
        n, sd = each.size, np.nan
        if n > 1:
            # Values that are all the same differ from their mean by rounding.
            sd = 0.0 if np.ptp(each) == 0 else each.std(ddof=1)
        # Whole numbers may all be the same by chance: of a spread of 0 nothing is known.
        low, high = (sd or np.nan) * np.sqrt(max(n - 1, 1) / stats.chi2.ppf([0.975, 0.025], max(n - 1, 1)))
        mean, least, greatest = (each.mean(), each.min(), each.max()) if n else (np.nan,) * 3
        spread.append((str(name), n, mean, sd, low, high, least, greatest))
    for first, second in combinations(values.columns, 2):
        difference = (values[first] - values[second]).dropna()
        wins, losses, n = int((difference > 0).sum()), int((difference < 0).sum()), difference.size
        # A tie is no flip.
        flipped, share, low, high = min(wins, losses), np.nan, np.nan, np.nan
        if n:
            share, (low, high) = flipped / n, stats.binomtest(flipped, n).proportion_ci(method="exact")
        row = (str(first), str(second), n, wins, losses, n - wins - losses, flipped)
        pairs.append((*row, share, low, min(high, 0.5)))
    return Flips(pd.DataFrame(spread, columns=_SPREAD_COLUMNS), pd.DataFrame(pairs, columns=_FLIP_COLUMNS))


def balance(random: Flips, balanced: Flips) -> Balance:
    """Compare selections that are balanced by difficulty with random ones, for the methods that both have."""
    spread = random.spread.merge(balanced.spread, on="method", suffixes=("_random", "_balanced"))
    sds = spread[["sd_balanced", "sd_random"]]
    ratio = (sds["sd_balanced"] / sds["sd_random"]).where((sds > 0).all(axis=1))
    degrees = spread["n_balanced"] - 1, spread["n_random"] - 1
    limits = {
        name: ratio / np.sqrt(stats.f.ppf(level, *degrees)) for name, level in (("low", 0.975), ("high", 0.025))
    }
    pairs = random.pairs.merge(balanced.pairs, on=["first", "second"], suffixes=("_random", "_balanced"))
    counts = pairs[["flips_random", "n_random", "flips_balanced", "n_balanced"]].to_numpy(dtype=int)
    p = [stats.fisher_exact(np.array([[a, n - a], [b, m - b]])).pvalue for a, n, b, m in counts]
    return Balance(
        spread[["method", "sd_random", "sd_balanced"]].assign(ratio=ratio, **limits),
        pairs[["first", "second", "share_random", "share_balanced"]].assign(p=p),
    )
