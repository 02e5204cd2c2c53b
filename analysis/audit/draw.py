"""Drawing the groups whose means come closest to a target: all choices tried where they are few, else a search."""

from __future__ import annotations

from itertools import combinations, islice
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mrd_core.arrays import FloatArray

# So many choices are all tried; beyond that a search begins anew so often, and looks at so many exchanges at once.
MOST_CHOICES = 100_000
RESTARTS = 4
EXCHANGES = 50_000
# Of a search by a sample of exchanges: so many samples without a better one end it.
_PATIENCE = 3
_AT_ONCE = 10_000
_GAIN = 1e-12

Places = npt.NDArray[np.intp]


class Drawn(NamedTuple):
    """Groups that were drawn.

    Attributes:
        places: Theirs among the candidates, in ascending order.
        distance: Euclidean distance of their means from the target.
        exact: Whether no other choice comes closer.
    """

    places: Places
    distance: float
    exact: bool


class Problem(NamedTuple):
    """What is to be drawn.

    Attributes:
        sums: Of each of G groups the sums of F features over its samples, shape (G, F).
        sizes: Samples of each group, shape (G,).
        target: What the means are to be, shape (F,).
        size: Samples that are wanted in all.
        groups: How many of them are drawn.
    """

    sums: FloatArray
    sizes: FloatArray
    target: FloatArray
    size: int
    groups: int

    def loss(self, sums: FloatArray, sizes: FloatArray) -> FloatArray:
        """Return the squared distance from the target, shape (B,), of sums of shape (B, F) over so many samples.

        A set of another size than was wanted is as far off as by that share.
        """
        off = ((sums / sizes[:, None] - self.target) ** 2).sum(axis=1)
        loss: FloatArray = off + (sizes / self.size - 1) ** 2
        return loss


def closest(problem: Problem, random: np.random.Generator) -> Drawn:
    """Draw the groups that come closest to the target, or nearly so where they are too many to try all.

    Without a feature all choices are alike, and chance decides.
    """
    if exact := problem.target.size > 0 and comb(len(problem.sizes), problem.groups) <= MOST_CHOICES:
        places = _best_of_all(problem)
    else:
        found = [_searched(problem, random) for _ in range(RESTARTS)]
        places = min(found, key=lambda each: float(_loss_of(problem, each[None])[0]))
    places = np.sort(places)
    return Drawn(places, float(np.sqrt(_loss_of(problem, places[None])[0])), exact)


def alike(problem: Problem, sets: int, random: np.random.Generator) -> list[Drawn]:
    """Draw several sets, no group in two of them, that come equally close to the target.

    All their groups are drawn together and then shared out: drawn one after the other, each would take what the
    next needs.
    """
    if sets == 1:
        return [closest(problem, random)]
    together = problem._replace(size=problem.size * sets, groups=problem.groups * sets)
    left = closest(together, random).places
    target = problem.sums[left].sum(axis=0) / problem.sizes[left].sum()
    drawn = []
    for _ in range(sets):
        share = closest(
            problem._replace(sums=problem.sums[left], sizes=problem.sizes[left], target=target), random
        )
        places = left[share.places]
        distance = float(np.sqrt(_loss_of(problem, places[None])[0]))
        drawn.append(Drawn(places, distance, exact=False))
        left = np.delete(left, share.places)
    return drawn


def _loss_of(problem: Problem, choices: Places) -> FloatArray:
    return problem.loss(problem.sums[choices].sum(axis=1), problem.sizes[choices].sum(axis=1))


def _best_of_all(problem: Problem) -> Places:
    every = combinations(range(len(problem.sizes)), problem.groups)
    best, least = np.arange(problem.groups), np.inf
    for part in iter(lambda: list(islice(every, _AT_ONCE)), []):
        choices = np.array(part)
        losses = _loss_of(problem, choices)
        if losses.min() < least - _GAIN:
            best, least = choices[losses.argmin()], losses.min()
    return best


def _searched(problem: Problem, random: np.random.Generator) -> Places:
    """Exchange groups for others, each time the pair that gains most, until none gains."""
    order = random.permutation(len(problem.sizes))
    inside, outside = order[: problem.groups], order[problem.groups :]
    if not len(outside):
        return inside
    loss, idle = float(_loss_of(problem, inside[None])[0]), 0
    while idle < _PATIENCE:
        leaving, coming = _exchanges(len(inside), len(outside), random)
        losses = problem.loss(
            problem.sums[inside].sum(axis=0) - problem.sums[inside[leaving]] + problem.sums[outside[coming]],
            problem.sizes[inside].sum() - problem.sizes[inside[leaving]] + problem.sizes[outside[coming]],
        )
        best = losses.argmin()
        if losses[best] < loss - _GAIN:
            out, into = leaving[best], coming[best]
            inside[out], outside[into] = outside[into], inside[out]
            loss, idle = float(losses[best]), 0
        else:
            # All exchanges were looked at, or another sample may have a better one.
            idle += _PATIENCE if len(losses) == len(inside) * len(outside) else 1
    return inside


def _exchanges(inside: int, outside: int, random: np.random.Generator) -> tuple[Places, Places]:
    """Return pairs of places within and without, all of them or a sample."""
    pairs = inside * outside
    chosen = np.arange(pairs) if pairs <= EXCHANGES else random.integers(pairs, size=EXCHANGES)
    leaving, coming = np.divmod(chosen, outside)
    return leaving, coming
