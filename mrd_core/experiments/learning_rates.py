"""A learning rate for each method and optimiser, found by how many updates other samples take.

Nothing is known of difficulty when it is chosen: only the update counts of samples that are not studied, or of
other draws of them, are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mrd_core.experiments.config import Arm, Optimiser, UnlearningExperimentConfig
from mrd_core.experiments.experiment import Done, Measurement
from mrd_core.experiments.files import Row
from mrd_core.unlearning.config import LORA_RATE, SMALL_MODEL

if TYPE_CHECKING:
    from mrd_core.experiments.unlearner import UnlearningResult

# Rates that a search begins with: for small models, and for others.
STARTING_RATES: dict[Optimiser, tuple[float, float]] = {
    "adamw": (3e-5, 3e-6),
    "sgd": (3e-2, 3e-3),
    "normalised-sgd": (2e-2, 2e-3),
    # As AdamW: a step has the size of the rate in each weight.
    "sign-sgd": (3e-5, 3e-6),
}
# Those of which a step has the size of the rate, whatever the gradient's.
SIZED_STEPS: tuple[Optimiser, ...] = ("adamw", "sign-sgd")
MOST_TRIES = 6
# So many of a few that are not forgotten tell enough: the rate is too small.
SURE = 3
# Said where the samples that a rate is found by are not apart from the studied ones.
SHARED = (
    "Too few samples are left beside the studied ones: the learning rate was found by the update counts of some "
    "that are studied too."
)
# How far a rate moves as long as nothing is known on its other side.
FACTOR = 3.0


class Case(NamedTuple):
    """What one learning rate is for: a method, an optimiser and, where it matters, how many samples at a time."""

    arm: Arm
    size: int | None = None

    @property
    def label(self) -> str:
        """What people call it: `GradDiff with SGD, 40 samples`."""
        if self.size is None:
            return self.arm.label
        return f"{self.arm.label}, {'single samples' if self.size == 1 else f'{self.size} samples'}"

    @property
    def words(self) -> str:
        """Its name within the names of units."""
        return " ".join(map(str, (*self.arm, *([] if self.size is None else [self.size]))))

    @property
    def columns(self) -> dict[str, Any]:
        """How rows and facts name it."""
        named: dict[str, Any] = {"method": self.arm.method, "optimiser": self.arm.optimiser}
        return named if self.size is None else named | {"size": self.size}


class Window(NamedTuple):
    """What the median number of updates should be.

    Attributes:
        least: Below it, updates are too coarse a measure.
        aim: The best.
        most: Above it, many samples would reach the cap.
    """

    least: float
    aim: float
    most: float

    @classmethod
    def of(cls, max_updates: int) -> Window:
        """Return 20 … 30 … 60 updates, less where the cap is below 100."""
        share = min(1.0, max_updates / 100)
        return cls(20 * share, 30 * share, 60 * share)


@dataclass(frozen=True)
class Try:
    """What a learning rate has led to.

    Attributes:
        learning_rate: The rate.
        updates: Of each of a few other samples or groups; infinite where it was not forgotten.
        diverged: How many of them diverged.
    """

    learning_rate: float
    updates: tuple[float, ...]
    diverged: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Try:
        """Read what a calibration wrote."""
        counted = [row for row in rows if not row["diverged"]]
        return cls(
            float(rows[0]["learning_rate"]),
            tuple(float(row["updates"]) if row["forgotten"] else math.inf for row in counted),
            len(rows) - len(counted),
        )

    @property
    def median(self) -> float:
        """Median number of updates; infinite where half of them are censored, NaN where all diverged."""
        return float(np.median(self.updates)) if self.updates else math.nan

    @property
    def censored(self) -> int:
        """How many were not forgotten."""
        return sum(map(math.isinf, self.updates))

    @property
    def studied(self) -> int:
        """How many were unlearned."""
        return len(self.updates) + self.diverged

    def verdict(self, window: Window) -> Literal["too large", "too small", "good"]:
        """Return what the rate is; one that makes anything diverge is too large."""
        if self.diverged or self.median < window.least:
            return "too large"
        return "too small" if self.median > window.most else "good"

    def distance(self, window: Window) -> tuple[int, float, int]:
        """Return how bad the rate is: first what diverged, then how far off the aim, then what is censored.

        Where half are censored the median is infinitely far off.
        """
        off = math.inf if math.isnan(self.median) else abs(math.log(max(self.median, 0.5) / window.aim))
        return self.diverged, off, self.censored

    @property
    def outcome(self) -> str:
        """What came of it, in words: `31 updates`."""
        if self.diverged:
            return f"{self.diverged} of {self.studied} diverged"
        if math.isinf(self.median):
            return f"{self.censored} of {self.studied} not forgotten"
        return f"{self.median:g} updates"


def starting_rate(optimiser: Optimiser, parameters: int, *, adapter: bool = False) -> float:
    """Return the learning rate that a search begins with, for a model of so many weights, or an adapter on it."""
    small, large = STARTING_RATES[optimiser]
    rate = small if parameters < SMALL_MODEL else large
    return LORA_RATE * rate if adapter and optimiser in SIZED_STEPS else rate


def next_rate(start: float, tries: Sequence[Try], window: Window) -> float | None:
    """Return the learning rate to try next, or None where the search has ended.

    By a factor as long as all tries were too large, or all too small; then halfway in between, on a logarithmic
    scale.

    Args:
        start: The first rate.
        tries: What was tried so far.
        window: Where to get.
    """
    rates: dict[str, list[float]] = {"too large": [], "too small": [], "good": []}
    for attempt in tries:
        rates[attempt.verdict(window)].append(attempt.learning_rate)
    if len(tries) == MOST_TRIES or rates["good"]:
        return None
    small, large = rates["too small"], rates["too large"]
    if not tries:
        return start
    if not large:
        return max(small) * FACTOR
    if not small:
        return min(large) / FACTOR
    # A rate between a smaller that is too large and a larger that is too small would be no better.
    return math.sqrt(max(small) * min(large)) if max(small) < min(large) else None


def best(tries: Sequence[Try], window: Window) -> Try:
    """Return the try with the fewest that diverged and, of several, the nearest to the aim."""
    return min(tries, key=lambda attempt: attempt.distance(window))


class LearningRates:
    """The learning rates of an experiment: as asked, or found by a search of at most six tries each.

    Args:
        config: Of the experiment.
        cases: What needs a rate of its own.
        parameters: Weights of the model.
        unlearn: Unlearns the other samples of a case at a rate, one after the other; yields of each what names
            it in its row, and how it ended.
        others: What those are, in words: `5 other samples`.
    """

    def __init__(
        self,
        config: UnlearningExperimentConfig,
        cases: Sequence[Case],
        parameters: int,
        unlearn: Callable[[Case, float], Iterable[tuple[dict[str, Any], UnlearningResult]]],
        others: Callable[[Case], str],
    ) -> None:
        self._wished = config.learning_rate
        self._cases = cases
        self._parameters = parameters
        self._is_adapter = config.lora_rank is not None
        self._unlearn = unlearn
        self._others = others
        self._window = Window.of(config.max_updates)

    @cached_property
    def units(self) -> dict[str, Case]:
        """The units of work and the case of each: one for every try that may be needed."""
        if self._wished != "auto":
            return {}
        return {
            f"calibration {case.words} {number + 1}": case for case in self._cases for number in range(MOST_TRIES)
        }

    @property
    def measurements(self) -> dict[str, Measurement]:
        """The units as measurements of a study."""
        return {unit: partial(self.measure, case) for unit, case in self.units.items()}

    def measure(self, case: Case, done: Done) -> list[Row]:
        """Make the next try of a case; no rows where its search has ended before it."""
        start = starting_rate(case.arm.optimiser, self._parameters, adapter=self._is_adapter)
        rate = next_rate(start, self._tries(case, done), self._window)
        if rate is None:
            return []
        rows: list[Row] = []
        for columns, ended in self._unlearn(case, rate):
            rows.append({"part": "calibration", **case.columns, "learning_rate": rate, **columns, **ended.row})
            if Try.of(rows).censored == SURE:
                break
        return rows

    def rate(self, case: Case, done: Done) -> float:
        """Return the learning rate of a case, all of whose units are done."""
        if self._wished != "auto":
            return self._wished
        return best(self._tries(case, done), self._window).learning_rate

    def reasons(self, done: Done) -> dict[str, str]:
        """Return each learning rate and why it was chosen."""
        reasons = {}
        for case in self._cases:
            reason = f"{self.rate(case, done):.3g} (as asked)"
            if self._wished == "auto":
                tries = self._tries(case, done)
                chosen = best(tries, self._window)
                others = (attempt for attempt in tries if attempt is not chosen)
                rest = ", ".join(f"{attempt.learning_rate:.3g}: {attempt.outcome}" for attempt in others)
                also = f"; tried {rest}" if rest else ""
                reason = f"{chosen.learning_rate:.3g} (median of {self._others(case)}: {chosen.outcome}{also})"
            reasons[f"learning rate of {case.label}"] = reason
        return reasons

    def warnings(self, done: Done) -> list[str]:
        """Return what is doubtful about them."""
        if self._wished != "auto":
            return []
        chosen = [(case, best(self._tries(case, done), self._window)) for case in self._cases]
        return [sentence for case, attempt in chosen for sentence in _doubts(case, attempt, self._window)]

    def listed(self, done: Done) -> list[dict[str, Any]]:
        """Return all rates with their tries, as JSON values; a median that is not finite is None."""
        return [
            {
                **case.columns,
                "learning_rate": self.rate(case, done),
                "tries": [
                    {
                        "learning_rate": attempt.learning_rate,
                        "median_updates": attempt.median if math.isfinite(attempt.median) else None,
                        "censored": attempt.censored,
                        "diverged": attempt.diverged,
                    }
                    for attempt in self._tries(case, done)
                ],
            }
            for case in self._cases
        ]

    def _tries(self, case: Case, done: Done) -> list[Try]:
        written = [done.get(unit, ()) for unit, its in self.units.items() if its == case]
        return [Try.of(rows) for rows in written if rows]


def _doubts(case: Case, chosen: Try, window: Window) -> list[str]:
    if chosen.diverged:
        return [f"{case.label}: no learning rate was found at which nothing diverges."]
    if 2 * chosen.censored > chosen.studied:
        return [
            f"{case.label}: at no learning rate that was tried was half of what was unlearned forgotten. The push "
            "of the method may fade before that (saturation)."
        ]
    doubts = []
    if not window.least <= chosen.median <= window.most:
        doubts.append(
            f"{case.label}: at no learning rate that was tried is the median {window.least:g} to {window.most:g} "
            f"updates; at the one that was chosen it is {chosen.median:g}."
        )
    if len(chosen.updates) > 2 and len(set(chosen.updates)) == 1:
        doubts.append(
            f"{case.label}: all that it was chosen by took the same number of updates ({chosen.updates[0]:g})."
        )
    return doubts
