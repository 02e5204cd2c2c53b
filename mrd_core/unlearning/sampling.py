"""Which samples of the forget set are unlearned next: samplers, and the stream of draws that they make.

A sampler weighs the samples. With replacement the weights are probabilities up to a factor (Feng et al.,
Def. 3.4, Algorithm 2: p_i = MRD_i / Σ_j MRD_j; an epoch is N draws); without, they are the key of a strict
descending order that gives each sample once an epoch, or that order is drawn at random. A `Curriculum` turns a
sampler into a stream of sample ids. Its randomness is a function of (seed, epoch, position), not of a generator's
past: whoever knows the place in the stream and the pool knows the draw, on whatever process, before or after a
resume.

Samples are kept in the order of their ids, so that the order of the rows they came in changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError

IntArray = npt.NDArray[np.int64]
T = TypeVar("T")

# An effective share s is 1 / (1 + CV²), with CV the coefficient of variation of p: 0.95 is a CV of 23 %.
NEARLY_UNIFORM = 0.95

# Second word of the generator's key: what a stream of random numbers is for.
FORGET_STREAM, RETAIN_STREAM = 0, 1


class Place(NamedTuple):
    """A place in the stream of draws, both counted from 0."""

    epoch: int
    position: int


START = Place(0, 0)


@dataclass(frozen=True)
class Pool:
    """The forget set, and which of its samples are still to be unlearned.

    Attributes:
        ids: N sample ids, sorted.
        scores: What the sampler weighs by, MRD or another column, shape (N,); NaN where undefined.
        in_pool: True for the samples still in play, shape (N,).
    """

    ids: tuple[str, ...]
    scores: FloatArray
    in_pool: BoolArray

    @classmethod
    def of(cls, scores: Mapping[str, float]) -> Pool:
        """Return the pool of all samples.

        Raises:
            UserError: A score is infinite.
        """
        ids = tuple(sorted(scores))
        return cls(ids, _scores_of(ids, scores), np.ones(len(ids), dtype=np.bool_))

    @property
    def size(self) -> int:
        """How many samples are still in play."""
        return int(self.in_pool.sum())

    def without(self, ids: Iterable[str]) -> Pool:
        """Return the pool without these samples; those that have left before stay out.

        Raises:
            KeyError: An id is not of this forget set.
        """
        return replace(self, in_pool=self.in_pool & ~self.mask(ids))

    def rescored(self, scores: Mapping[str, float]) -> Pool:
        """Return the pool with new scores, undefined for the samples that `scores` does not name.

        Raises:
            UserError: A score is infinite.
        """
        return replace(self, scores=_scores_of(self.ids, scores))

    def mask(self, ids: Iterable[str]) -> BoolArray:
        """Return True at the places of `ids`, shape (N,)."""
        places = {sample: place for place, sample in enumerate(self.ids)}
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        mask[[places[sample] for sample in ids]] = True
        return mask

    def named(self, mask: BoolArray) -> list[str]:
        """Return the ids where `mask` is true."""
        return [sample for sample, chosen in zip(self.ids, mask, strict=True) if chosen]


def _scores_of(ids: Sequence[str], scores: Mapping[str, float]) -> FloatArray:
    values = np.array([scores.get(sample, np.nan) for sample in ids], dtype=np.float64)
    if np.isinf(values).any():
        worst = ids[int(np.isinf(values).argmax())]
        raise UserError(
            f"The score of sample {worst}", "is infinite.", "Sample by another column, or score the set again."
        )
    return values


@dataclass(frozen=True)
class Sampler:
    """A rule that says which samples come next.

    Attributes:
        name: What the command line and `config.json` call it.
        title: For people.
        help: One line that says what it does.
        formula: In LaTeX.
        with_replacement: Whether a draw leaves its sample in the epoch. If so, the weights are probabilities up
            to a factor, else the order is that of descending weights, ties by id.
        weigh: Weight of every sample at a place in the stream, shape (N,); NaN where undefined. The weights
            of samples outside the pool are not used. It must be a pure function.
        shuffles: Without replacement: whether the order is drawn at random in each epoch instead.
    """

    name: str
    title: str
    help: str
    formula: str
    with_replacement: bool
    weigh: Callable[[Pool, Place], FloatArray]
    shuffles: bool = False

    def shares(self, pool: Pool, place: Place = START) -> FloatArray:
        """Return the expected share of each sample in an epoch's draws: p_i, or 1/N in a strict order.

        Returns:
            Shape (N,); 0 outside the pool.

        Raises:
            UserError: See `probabilities`.
        """
        weights = self.weigh(pool, place) if self.with_replacement else np.ones(len(pool.ids))
        return probabilities(weights, pool.in_pool)


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        sampler.name: sampler
        for sampler in (
            Sampler(
                name="uniform",
                title="Uniform",
                help="Every sample in the pool is equally probable (stochastic gradient ascent, SGA).",
                formula=r"p_i = \frac{1}{N}",
                with_replacement=True,
                weigh=lambda pool, _place: np.ones(len(pool.ids)),
            ),
            Sampler(
                name="shuffled",
                title="Shuffled",
                help="Every sample once an epoch, in an order that is drawn anew each time, as most trainers do.",
                formula=r"i_1, \dots, i_N \text{ a random permutation}",
                with_replacement=False,
                weigh=lambda pool, _place: np.ones(len(pool.ids)),
                shuffles=True,
            ),
            Sampler(
                name="mrd",
                title="MRD-weighted",
                help="The probability is proportional to MRD, so easy samples come more often (CGA).",
                formula=r"p_i = \frac{\mathrm{MRD}_i}{\sum_j \mathrm{MRD}_j}",
                with_replacement=True,
                weigh=lambda pool, _place: pool.scores,
            ),
            Sampler(
                name="easy-to-hard",
                title="Easy to hard",
                help="Each sample once an epoch, the largest MRD first.",
                formula=r"\mathrm{MRD}_{(1)} \ge \mathrm{MRD}_{(2)} \ge \dots \ge \mathrm{MRD}_{(N)}",
                with_replacement=False,
                weigh=lambda pool, _place: pool.scores,
            ),
            Sampler(
                name="hard-to-easy",
                title="Hard to easy",
                help="Each sample once an epoch, the smallest MRD first.",
                formula=r"\mathrm{MRD}_{(1)} \le \mathrm{MRD}_{(2)} \le \dots \le \mathrm{MRD}_{(N)}",
                with_replacement=False,
                weigh=lambda pool, _place: -pool.scores,
            ),
            Sampler(
                name="column",
                title="Weighted by a column",
                help="The probability is proportional to a column of the scores, none of it negative.",
                formula=r"p_i = \frac{w_i}{\sum_j w_j}",
                with_replacement=True,
                weigh=lambda pool, _place: pool.scores,
            ),
            Sampler(
                name="entanglement",
                title="Least entangled first",
                help="Each sample once an epoch, what costs the retain set least first, to first order.",
                formula=r"e_{(1)} \le e_{(2)} \le \dots \le e_{(N)},\quad e_i = "
                r"\frac{1}{M} \sum_{r \in \text{retain}} g_i \cdot g_r",
                with_replacement=False,
                weigh=lambda pool, _place: -pool.scores,
            ),
            Sampler(
                name="entanglement-weighted",
                title="Less entangled more often",
                help="The probability falls with the rank of what a sample costs the retain set, to first order.",
                formula=r"p_i = \frac{N + 1 - \operatorname{rank} e_i}{\sum_j (N + 1 - \operatorname{rank} e_j)}",
                with_replacement=True,
                weigh=lambda pool, _place: _descending_ranks(pool.scores),
            ),
        )
    }
)
# Those that ask for a column of entanglement, which a score run does not measure by itself.
ENTANGLED = frozenset({"entanglement", "entanglement-weighted"})
# Those that go by no column of the scores.
WITHOUT_SCORES = frozenset({"uniform", "shuffled"})


def _descending_ranks(values: FloatArray) -> FloatArray:
    """Return 1 for the largest value and so on, equal ones sharing their mean rank; NaN where there is none."""
    ranks: FloatArray = rankdata(-values, nan_policy="omit")
    return ranks


def probabilities(weights: FloatArray, in_pool: BoolArray) -> FloatArray:
    """Return p_i = w_i / Σ_j w_j over the samples in the pool (Feng et al., Def. 3.4).

    A sample without a weight (NaN: it has no token that could be scored) gets the mean of the defined weights
    of all samples, in the pool or not: it is neither favoured nor left out.

    Args:
        weights: Shape (N,).
        in_pool: Shape (N,).

    Returns:
        Shape (N,); 0 outside the pool.

    Raises:
        UserError: A weight is negative, none is defined, or those in the pool are all zero.
    """
    weights = _filled(weights)
    if (weights < 0).any():
        raise UserError(
            "The sampling weights",
            f"are negative for {int((weights < 0).sum())} of {len(weights)} samples.",
            "Choose a column without negative values; a strict order takes any column.",
        )
    inside = np.where(in_pool, weights, 0.0)
    total = float(inside.sum())
    if total == 0:
        raise UserError(
            "The sampling weights",
            f"are zero for all {int(in_pool.sum())} samples in the pool.",
            "Choose another column, or sample uniformly.",
        )
    p: FloatArray = inside / total
    return p


def _filled(weights: FloatArray) -> FloatArray:
    """Return `weights` with the mean of the defined ones where there is none."""
    defined = ~np.isnan(weights)
    if not defined.any():
        raise UserError(
            "The sampling weights",
            f"are undefined for all {len(weights)} samples.",
            "Choose another column, or sample uniformly.",
        )
    return np.where(defined, weights, weights[defined].mean())


def effective_share(p: FloatArray) -> float:
    """Return the effective sample size 1 / Σ p² (Kish) as a share of the pool.

    Args:
        p: Probabilities of the samples in the pool and of no others, shape (pool size,).

    Returns:
        1 for uniform sampling, 1 / pool size where one sample has all the probability.
    """
    return float(1 / np.square(p).sum() / len(p))


def nearly_uniform(p: FloatArray) -> bool:
    """Tell whether sampling by `p` can hardly differ from uniform: an effective share of at least 0.95.

    That is a standard deviation of p below 23 % of its mean. MRD averaged over tokens is often so.

    Args:
        p: As for `effective_share`.
    """
    return effective_share(p) >= NEARLY_UNIFORM


class Curriculum:
    """The stream of forget samples that a trainer consumes.

    With replacement an epoch is N draws, N being the pool's size at its first draw; in a strict order it is
    every sample in the pool once. Batches span the borders of epochs: every batch has the size that was asked
    for until the pool is empty, so that all processes have work. A batch larger than the pool repeats
    samples; ask for less where that is not wanted.

    A change (`remove`, `reweigh`) acts from the next unread draw, in the middle of an epoch too, and never on
    what was handed out. Processes that make the same calls get the same stream; each works on its `part` of
    every batch.

    Args:
        sampler: The rule.
        scores: Score of each sample by id; NaN where undefined. `uniform` needs the ids only.
        seed: Below 2⁶⁴.

    Attributes:
        pool: The samples, and which are still in play.
        place: Where the next unread draw stands.

    Raises:
        UserError: The sampler cannot weigh these scores, see `probabilities`.
    """

    def __init__(self, sampler: Sampler, scores: Mapping[str, float], seed: int) -> None:
        self._sampler = sampler
        self._seed = seed
        self.pool = Pool.of(scores)
        self.place = START
        self._epoch_size = 0
        self._read = np.zeros(len(self.pool.ids), dtype=np.bool_)
        self._check(self.pool)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to draw: the pool is empty, or all in it have weight zero."""
        return not self._drawable().any()

    def shares(self) -> FloatArray:
        """Return what `Sampler.shares` says of the next draw, shape (N,)."""
        return self._sampler.shares(self.pool, self.place)

    @property
    def effective_share(self) -> float:
        """Effective sample size of the next draw as a share of the pool."""
        return effective_share(self.shares()[self.pool.in_pool])

    def next_batch(self, size: int) -> list[str]:
        """Return the next `size` sample ids, or an empty list when the curriculum is exhausted."""
        return [] if self.exhausted else [self._draw() for _ in range(size)]

    def remove(self, ids: Iterable[str]) -> None:
        """Take forgotten samples out of the pool, from the next unread draw on.

        Raises:
            KeyError: An id is not of this forget set.
        """
        self.pool = self.pool.without(ids)
        self._end_epoch_if_over()

    def reweigh(self, scores: Mapping[str, float]) -> None:
        """Weigh by new scores from the next unread draw on; a strict order sorts what is unread of its epoch.

        Args:
            scores: By id. Samples it does not name, such as those that have left, become undefined.

        Raises:
            UserError: The sampler cannot weigh these scores; nothing has changed then.
        """
        pool = self.pool.rescored(scores)
        self._check(pool)
        self.pool = pool

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, fit for strict JSON (an undefined score is None)."""
        values = zip(self.pool.ids, self.pool.scores.tolist(), strict=True)
        return {
            "seed": self._seed,
            "epoch": self.place.epoch,
            "position": self.place.position,
            "epoch_size": self._epoch_size,
            "scores": {sample: None if np.isnan(score) else score for sample, score in values},
            "removed": self.pool.named(~self.pool.in_pool),
            "read": self.pool.named(self._read),
        }

    @classmethod
    def restore(cls, sampler: Sampler, state: Mapping[str, Any]) -> Curriculum:
        """Return the curriculum as it was when `state` was taken, with the sampler it had."""
        scores = {sample: np.nan if score is None else score for sample, score in state["scores"].items()}
        curriculum = cls(sampler, scores, state["seed"])
        curriculum.pool = curriculum.pool.without(state["removed"])
        curriculum.place = Place(state["epoch"], state["position"])
        curriculum._epoch_size = state["epoch_size"]
        curriculum._read = curriculum.pool.mask(state["read"])
        return curriculum

    def _check(self, pool: Pool) -> None:
        """Raise UserError where the next draw from `pool` would."""
        _filled(self._sampler.weigh(pool, self.place))
        self._sampler.shares(pool, self.place)

    def _weights(self) -> FloatArray:
        return _filled(self._sampler.weigh(self.pool, self.place))

    def _drawable(self) -> BoolArray:
        """Return the samples that the next draw may give, shape (N,)."""
        if self._sampler.with_replacement:
            return self.pool.in_pool & (self._weights() > 0)
        return self.pool.in_pool & ~self._read

    def _draw(self) -> str:
        if self.place.position == 0:
            self._epoch_size = self.pool.size
        if self._sampler.with_replacement:
            # The distribution function inverted at the uniform number of this place.
            distribution = np.cumsum(self.shares())
            uniform = _generator(self._seed, FORGET_STREAM, *self.place).random()
            # To the right of equal values: a sample of weight zero has no step and is never found.
            chosen = int(np.searchsorted(distribution, uniform * distribution[-1], side="right"))
        elif self._sampler.shuffles:
            unread = np.flatnonzero(self._drawable())
            chosen = int(unread[_generator(self._seed, FORGET_STREAM, *self.place).integers(len(unread))])
        else:
            chosen = int(np.where(self._drawable(), self._weights(), -np.inf).argmax())
        self._read[chosen] = True
        self.place = self.place._replace(position=self.place.position + 1)
        self._end_epoch_if_over()
        return self.pool.ids[chosen]

    def _end_epoch_if_over(self) -> None:
        if self.place.position == 0:
            return
        if self._sampler.with_replacement:
            over = self.place.position == self._epoch_size
        else:
            over = not self._drawable().any()
        if over:
            self.place = Place(self.place.epoch + 1, 0)
            self._read = np.zeros_like(self._read)


def retain_partner(seed: int, step: int, slot: int, n_retain: int) -> int:
    """Return which retain sample goes with a slot of a step's batch: uniform over 0 … n_retain − 1.

    It depends on its arguments alone, not on the forget samples drawn, nor on the number of processes when
    `slot` counts through the batch of all processes.

    Args:
        seed: Below 2⁶⁴. The same seed as the curriculum's gives an independent stream.
        step: Optimiser step.
        slot: Place in the step's batch.
        n_retain: Size of the retain set, at least 1.
    """
    return int(_generator(seed, RETAIN_STREAM, step, slot).integers(n_retain))


def _generator(seed: int, stream: int, major: int, minor: int) -> np.random.Generator:
    """Return a generator that is a function of its arguments (Philox: a keyed permutation of a counter)."""
    # The lowest word counts within a generator; the others keep any two apart.
    counter = np.array([0, minor, major, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64), counter=counter))
