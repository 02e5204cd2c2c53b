"""How a forget set stands among random sets of its size from its pool."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import ROUNDING, in_chunks
from mrd_core.arrays import BoolArray, FloatArray

_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Chance:
    """What random sets have of M columns.

    Attributes:
        observed: Mean of the set less that of the rest, shape (M,).
        drawn: The same of random sets, shape (B, M).
        exact: Whether these are all sets that there are.
        sizes: Fewest and most samples of a random set.
    """

    observed: FloatArray
    drawn: FloatArray
    exact: bool
    sizes: tuple[int, int]

    @property
    def above(self) -> FloatArray:
        """Which share of random sets has a larger mean, shape (M,); NaN where the set has none."""
        larger = (self.drawn > self.observed + self._rounding).sum(axis=0)
        return np.where(np.isfinite(self.observed), larger / self._defined, np.nan)

    @property
    def p(self) -> FloatArray:
        """Two-sided p, twice that of the nearer side, shape (M,); NaN where the set has no mean.

        Where not all sets were taken, the set itself counts as one more.
        """
        own = 0 if self.exact else 1
        sides = (self.drawn <= self.observed + self._rounding, self.drawn >= self.observed - self._rounding)
        nearer = np.minimum(*(side.sum(axis=0) for side in sides))
        return np.where(
            np.isfinite(self.observed), np.minimum(1, 2 * (own + nearer) / (own + self._defined)), np.nan
        )

    @property
    def _defined(self) -> FloatArray:
        """How many random sets have a mean."""
        defined: FloatArray = np.maximum(np.isfinite(self.drawn).sum(axis=0), 1).astype(np.float64)
        return defined

    @property
    def _rounding(self) -> FloatArray:
        """What tells equal means from different ones."""
        scale: FloatArray = ROUNDING * np.nan_to_num(np.abs(self.drawn)).max(axis=0)
        return scale


def random_sets(
    values: FloatArray, chosen: BoolArray, groups: npt.NDArray[np.intp], draws: int, seed: int
) -> Chance:
    """Hold a set against random ones, of as many groups: all there are, where they are no more than `draws`.

    Args:
        values: Shape (N, M), NaN where undefined; such samples are in no mean.
        chosen: Which samples are the set, whole groups, shape (N,).
        groups: Number of each sample's group, from 0, shape (N,).
        draws: Random sets.
        seed: Of their draw.
    """
    count = int(groups.max()) + 1
    defined = np.isfinite(values)
    # Of each group the sums, the number of defined values, and at the end its samples.
    per_sample = np.hstack([np.where(defined, values, 0), defined, np.ones((len(values), 1))])
    per_group = np.zeros((count, per_sample.shape[1]))
    np.add.at(per_group, groups, per_sample)
    in_set = np.zeros((1, count))
    in_set[0, groups[chosen]] = 1
    wanted = int(in_set.sum())
    exact = comb(count, wanted) <= draws
    if exact:
        every = combinations(range(count), wanted)
        parts = iter(lambda: list(islice(every, _AT_ONCE)), [])
        sums = [_marked(np.array(part), count) @ per_group for part in parts]
    else:
        random = np.random.default_rng(seed)
        sums = [
            _marked(random.random((rows.stop - rows.start, count)).argpartition(wanted, axis=1)[:, :wanted], count)
            @ per_group
            for rows in in_chunks(draws, count)
        ]
    drawn, total = np.concatenate(sums), per_group.sum(axis=0)
    sizes = drawn[:, -1]
    return Chance(
        _differences(in_set @ per_group, total)[0],
        _differences(drawn, total),
        exact,
        (int(sizes.min()), int(sizes.max())),
    )


def _marked(picks: npt.NDArray[np.intp], count: int) -> FloatArray:
    """Return for each of B draws which of so many groups it has, shape (B, count)."""
    marks = np.zeros((len(picks), count))
    np.put_along_axis(marks, picks, 1, axis=1)
    return marks


def _differences(drawn: FloatArray, total: FloatArray) -> FloatArray:
    """Return mean of the drawn less mean of the rest, shape (B, M), of sums, counts and size as above."""
    columns = (drawn.shape[1] - 1) // 2
    rest = total - drawn
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [side[:, :columns] / side[:, columns:-1] for side in (drawn, rest)]
    difference: FloatArray = means[0] - means[1]
    return difference
