"""Shares of samples with 95 % intervals that say something where none or all of few samples count.

A bootstrap of nought out of four is nought each time, as if that were known of four hundred.
"""

from __future__ import annotations

import math

from scipy import stats

from analysis.statistics.bootstrap import UNDEFINED, Estimate


def share(count: int, n: int) -> Estimate:
    """Return `count` of n samples as a share, with Wilson's interval (1927); undefined of none."""
    if not n:
        return UNDEFINED
    low, high = stats.binomtest(count, n).proportion_ci(method="wilson")
    return Estimate(count / n, float(low), float(high), n)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return one share less another with the interval of Newcombe (1998, method 10), from those of Wilson.

    It takes the two for independent; of the same samples, whose shares go together, it is on the wide side.
    """
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    value = first.value - second.value
    return Estimate(value, value - below, value + above, first.n)
