"""Which units a score run draws, and in which order: pairs and sign probes, as their precision asks for.

Between two looks at the units nothing is decided. What is drawn next follows from the values of the units so far,
in their order, and from constants of the plan, so that a run draws the same units whoever draws them, and after
whatever interruption. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mrd_core.scoring.config import EstimatorConfig, Normalisation
from mrd_core.scoring.cost import passes_of, usual_evaluations
from mrd_core.scoring.draws import Draws, Units

# Before the first look. Split halves need four pairs and two probes.
FIRST_PAIRS, FIRST_PROBES = 4, 1
FIRST_ALONE = 8
# Of a preview, which has units of probes alone: before the first look, and in all.
FIRST_PREVIEW, MOST_PREVIEW = 2, 8
# From one look to the next: so many units, or an eighth of those drawn so far.
STEP, STEP_ALONE, STEP_SHARE = 2, 4, 8


@dataclass(frozen=True, order=True)
class UnitKey:
    """One unit of a score run: a pair of evaluations (or a plain one), or a unit of sign probes."""

    kind: Literal["pair", "probe"]
    index: int

    @property
    def stem(self) -> str:
        """The name of its file, without the ending."""
        return f"{self.index:06d}" if self.kind == "pair" else f"probe-{self.index:06d}"


@dataclass(frozen=True)
class Wanted:
    """What the process that leads a run says to those that draw beside it.

    Attributes:
        units: The units between the last look and the next, in their order.
        ahead: Index of the first pair behind those that were ever wanted.
        is_all: Whether no unit is needed any more.
    """

    units: tuple[UnitKey, ...]
    ahead: int
    is_all: bool = False

    @classmethod
    def after(cls, drawn: list[UnitKey], wanted: list[UnitKey]) -> Wanted:
        """Return what is wanted when these units were drawn."""
        pairs = (key.index for key in (*drawn, *wanted) if key.kind == "pair")
        return cls(tuple(wanted), 1 + max(pairs, default=-1), is_all=not wanted)


@dataclass(frozen=True)
class Schedule:
    """The order of the units of a run.

    Attributes:
        config: Cap on evaluations, scope and mode.
        probe_cost: What a unit of probes costs, in forward passes; 0 where there are none.
    """

    config: EstimatorConfig
    probe_cost: float

    @property
    def pair_cost(self) -> int:
        """What a pair (or a plain evaluation) costs, in forward passes."""
        return self.config.evaluations_per_unit

    @property
    def cap(self) -> int:
        """The most pairs there can be."""
        return 0 if self.config.preview else self.config.draws // self.pair_cost

    @property
    def most(self) -> float:
        """What the run costs at its cap, in forward passes; probes beside pairs are not counted."""
        return MOST_PREVIEW * self.probe_cost if self.config.preview else self.cap * self.pair_cost

    @property
    def usual(self) -> float:
        """Where runs usually stop, in forward passes."""
        passes = passes_of(self.config, 1, usual_evaluations(self.config))
        return passes["draws"] + passes["probes"]

    def ahead(self, wanted: Wanted) -> Iterator[UnitKey]:
        """Yield the pairs that may be wanted next."""
        return (UnitKey("pair", index) for index in range(wanted.ahead, self.cap))

    def first(self) -> list[UnitKey]:
        """Return what is drawn before the first look."""
        if self.config.preview:
            return self._probes(0, FIRST_PREVIEW)
        if not self.probe_cost:
            return self._pairs(0, FIRST_ALONE if self.config.mode == "antithetic" else 2 * FIRST_ALONE)
        return self._probes(0, FIRST_PROBES) + self._pairs(0, FIRST_PAIRS)

    def following(self, drawn: list[UnitKey], draws: Draws) -> list[UnitKey]:
        """Return what is drawn next, given everything that was drawn; nothing at the cap."""
        if self.config.preview:
            return self._probes(len(drawn), min(1, MOST_PREVIEW - len(drawn)))
        pairs = sum(key.kind == "pair" for key in drawn)
        if pairs >= self.cap:
            return []
        if not self.probe_cost:
            return self._pairs(pairs, STEP_ALONE * (2 // self.pair_cost))
        units = draws.units(self.config.scope, Normalisation.MEAN)
        by_pair, by_probe = _relative_variances(units)
        probes = len(drawn) - pairs
        signs = units.sizes[1] // probes
        following: list[UnitKey] = []
        for _ in range(max(STEP, len(drawn) // STEP_SHARE)):
            # What one more unit takes off the variance of the score, for what it costs.
            of_pair = by_pair / (pairs * (pairs + 1)) / self.pair_cost
            of_probe = by_probe / (signs * probes * (probes + 1)) / self.probe_cost
            if of_probe > of_pair or pairs >= self.cap:
                following.append(UnitKey("probe", probes))
                probes += 1
            else:
                following.append(UnitKey("pair", pairs))
                pairs += 1
        return following

    def cost(self, keys: list[UnitKey]) -> float:
        """Return what units cost, in forward passes."""
        return sum(self.pair_cost if key.kind == "pair" else self.probe_cost for key in keys)

    @staticmethod
    def _probes(begin: int, count: int) -> list[UnitKey]:
        return [UnitKey("probe", index) for index in range(begin, begin + count)]

    def _pairs(self, begin: int, count: int) -> list[UnitKey]:
        return [UnitKey("pair", index) for index in range(begin, min(begin + count, self.cap))]


def _relative_variances(units: Units) -> tuple[float, float]:
    """Return the variance of one pair and of one probe, over the squared score: medians over the samples."""
    with np.errstate(divide="ignore", invalid="ignore"):
        by_part = [part.var(axis=0, ddof=1) / units.mean**2 for part in units.parts]
    medians = [float(np.nanmedian(np.where(np.isfinite(values), values, np.nan))) for values in by_part]
    return medians[0], medians[1]
