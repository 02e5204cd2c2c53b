"""By how much a forget set differs from the rest of its pool, with intervals that keep groups together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import (
    REPLICATES,
    SEED,
    Estimate,
    in_chunks,
    percentile_estimate,
    resamples,
)
from analysis.statistics.groups import draw_weights
from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.scoring.draws import Units


class Effect(NamedTuple):
    """A column of a set beside that of the rest.

    Attributes:
        difference: Mean of the set less that of the rest.
        delta: Cliff's δ: how often a sample of the set has more than one of the rest, less how often it has less.
    """

    difference: Estimate
    delta: Estimate


def effect(
    values: FloatArray, chosen: BoolArray, groups: npt.NDArray[np.intp], units: Sequence[Units] = ()
) -> Effect:
    """Return how the set differs from the rest in a column, with 95 % bootstrap intervals.

    Whole groups are resampled, of the set and of the rest apart; of a side of one group nothing is known of its
    spread, so that there is no interval.

    Args:
        values: Shape (N,), NaN where undefined.
        chosen: Which samples are the set, shape (N,).
        groups: Number of each sample's group, shape (N,).
        units: Draws of noise that the values are |the means| of, for its samples one run after the other; they
            are resampled, too. None for values without noise.
    """
    defined = np.isfinite(values)
    sides = [defined & chosen, defined & ~chosen]
    weights, sizes = zip(*(_weights(groups[side], place) for place, side in enumerate(sides)), strict=True)
    sizes_within = [int(side.sum()) for side in sides]
    if not min(sizes_within):
        nothing = Estimate(np.nan, np.nan, np.nan, 0)
        return Effect(nothing, nothing)
    even = [np.ones((1, size)) for size in sizes_within]
    observed = _statistics(values[None, sides[0]], even[0], values[None, sides[1]], even[1])[:, 0]
    drawn = np.hstack(
        [
            _statistics(noisy[:, sides[0]], weights[0][rows], noisy[:, sides[1]], weights[1][rows])
            for rows, noisy in _replicated(values, units)
        ]
    )
    if min(sizes) < 2:
        drawn = np.full_like(drawn, np.nan)
    difference, delta = (percentile_estimate(*each, min(sizes)) for each in zip(observed, drawn, strict=True))
    return Effect(difference, delta._replace(low=max(delta.low, -1.0), high=min(delta.high, 1.0)))


def _weights(groups: npt.NDArray[np.intp], place: int) -> tuple[FloatArray, int]:
    """Return how often each sample of a side is drawn with its group, shape (REPLICATES, n), and its groups."""
    names, members = np.unique(groups, return_inverse=True)
    counts = resamples(len(names), REPLICATES, (SEED, place)) if len(names) else np.ones((REPLICATES, 0))
    return counts[:, members], len(names)


def _replicated(values: FloatArray, units: Sequence[Units]) -> Iterator[tuple[slice, FloatArray]]:
    """Yield replicates with their values, shape (B, N), or (1, N) where the values have no noise."""
    drawn = [draw_weights(each, REPLICATES, (SEED, 2 + place)) for place, each in enumerate(units)]
    for rows in in_chunks(REPLICATES, values.size):
        noisy = [np.abs(weights[rows] @ each.values) for weights, each in zip(drawn, units, strict=True)]
        yield rows, np.hstack(noisy) if noisy else values[None]


def _statistics(high: FloatArray, w_high: FloatArray, low: FloatArray, w_low: FloatArray) -> FloatArray:
    """Return difference of the weighted means and Cliff's δ, shape (2, B), of values of one row or of B."""
    totals = w_high.sum(axis=1), w_low.sum(axis=1)
    difference = (w_high * high).sum(axis=1) / totals[0] - (w_low * low).sum(axis=1) / totals[1]
    rows = zip(high, w_high[:, None], low, w_low[:, None], strict=True) if len(high) > 1 else None
    delta = [_delta(*row) for row in rows] if rows else [_delta(high[0], w_high, low[0], w_low)]
    return np.stack([difference, np.concatenate(delta) / (totals[0] * totals[1])])


def _delta(high: FloatArray, w_high: FloatArray, low: FloatArray, w_low: FloatArray) -> FloatArray:
    """Return Σ_ij v_i w_j sign(x_i − y_j), shape (B,), of values x, y and weights v, w of shape (B, n)."""
    order = np.argsort(low)
    below = np.cumsum(np.hstack([np.zeros((len(w_low), 1)), w_low[:, order]]), axis=1)
    ends = [np.searchsorted(low[order], high, side) for side in ("left", "right")]
    wins: FloatArray = below[:, ends[0]] + below[:, ends[1]] - below[:, -1:]
    delta: FloatArray = (w_high * wins).sum(axis=1)
    return delta
