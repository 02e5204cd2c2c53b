"""Is a forget set easier to unlearn than it should be, that is, than random sets from its pool?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from analysis.audit.candidates import Candidates
from analysis.audit.chance import random_sets
from analysis.audit.config import AuditConfig
from analysis.audit.effect import effect
from analysis.characteristics.strata import SMALLEST_GROUP
from analysis.sets import unknown
from analysis.statistics.bootstrap import LEAST_SAMPLES, Estimate
from analysis.statistics.groups import SIGNIFICANCE, holm

LIMITS = (
    "MRD is a measure of difficulty, and whether it predicts unlearning on this model is another question "
    "(`mrd-lens experiment validity`).",
    "The p-values ask whether the set is one of the random sets of its pool; the intervals also hold the noise of "
    "MRD's own draws, and resample whole groups.",
    "A set that is like random ones on average may differ in what is not listed here.",
)


@dataclass(frozen=True)
class Row:
    """A column of the forget set beside the rest of its pool.

    Attributes:
        column: Its name.
        title: For people.
        n_set: Samples of the set with a value.
        n_rest: Those of the rest.
        mean_set: Their mean.
        mean_rest: That of the rest.
        difference: The first less the second.
        delta: Cliff's δ of set and rest.
        p: Two-sided permutation p; NaN, as the two below, where the runs cannot be compared.
        p_holm: The same after Holm's correction over the rows.
        above: Share of random sets with a larger mean.
    """

    column: str
    title: str
    n_set: int
    n_rest: int
    mean_set: float
    mean_rest: float
    difference: Estimate
    delta: Estimate
    p: float
    p_holm: float
    above: float

    @property
    def differs(self) -> bool:
        """Whether the set differs from random ones by more than chance and noise explain."""
        same_way = self.difference.value * self.delta.value > 0
        return self.p_holm < SIGNIFICANCE and self.difference.excludes_zero and same_way


@dataclass(frozen=True)
class Audit:
    """What an audit of a forget set found.

    Attributes:
        rows: A row per column, the difficulty first.
        n_set: Samples of the set.
        n_pool: Samples of the pool, the set among them.
        groups: Groups of the set and of the rest; None where samples stand for themselves.
        draws: Random sets that it was held against.
        exact: Whether these are all that there are.
        sizes: Fewest and most samples of one.
        obstacle: Why there is no verdict, in a sentence; "" where there can be one.
        caveats: What else a reader must know, in sentences.
    """

    rows: tuple[Row, ...]
    n_set: int
    n_pool: int
    groups: tuple[int, int] | None
    draws: int
    exact: bool
    sizes: tuple[int, int]
    obstacle: str
    caveats: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The answer in a word or two: easier, harder, cannot tell, no verdict."""
        row = self.rows[0]
        if self.obstacle:
            return "no verdict"
        if self._shortage or not row.differs:
            return "cannot tell"
        return "easier" if row.difference.value > 0 else "harder"

    @property
    def sentence(self) -> str:
        """The answer, with the figures that it rests on."""
        if self.obstacle:
            return self.obstacle
        if self.verdict == "cannot tell":
            why = self._shortage or "it may be a random set of its pool"
            return f"Cannot tell whether the forget set is easier than it should be: {why}. {self.figures}"
        way = "easier" if self.verdict == "easier" else "harder"
        return f"The forget set is {way} to unlearn than random ones. {self.figures}"

    @property
    def figures(self) -> str:
        """How the difficulty of the set stands among that of random sets, in a sentence."""
        row = self.rows[0]
        ends = [f"{row.difference.value:+.3g}{_ends(row.difference)}", f"{row.delta.value:+.2f}{_ends(row.delta)}"]
        sets = f"all {self.draws:,} sets" if self.exact else f"{self.draws:,} random sets"
        text = (
            f"A random forget set of this size would be easier in {in_hundred(row.above)} of 100 cases (mean MRD "
            f"less that of the rest {ends[0]}, Cliff's δ {ends[1]}, p (Holm) = {row.p_holm:.2g} over {sets}, "
            f"{row.n_set} and {row.n_rest} samples)."
        )
        return text.replace("-", "−")

    @property
    def others(self) -> str:
        """In what else the set differs from random ones, in a sentence; "" where it does not."""
        names = [row.title for row in self.rows[1:] if row.differs]
        return f"It also differs from them in: {', '.join(names)}." if names and not self.obstacle else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, in sentences, the limits of all audits at the end."""
        fewest, most = self.sizes
        uneven = f"Groups differ in size: the random sets have {fewest} to {most} samples."
        return (*self.caveats, *([uneven] if fewest < most else []), *LIMITS)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a table; of each estimate its value and, behind `_low` and `_high`, its interval."""
        records = []
        for row in self.rows:
            record = asdict(row)
            for name in ("difference", "delta"):
                record |= getattr(row, name).columns(name, f"{name}_")
            records.append(record | {"differs": row.differs})
        return pd.DataFrame(records)

    @property
    def _shortage(self) -> str:
        """What there is too little of for a verdict; "" where there is enough."""
        row = self.rows[0]
        if min(row.n_set, row.n_rest) < SMALLEST_GROUP:
            return f"a verdict needs {SMALLEST_GROUP} samples with an MRD in the set and in the rest"
        if self.groups and min(self.groups) < LEAST_SAMPLES:
            return f"a verdict needs {LEAST_SAMPLES} groups in the set and in the rest"
        return ""


def audited(candidates: Candidates, config: AuditConfig) -> Audit:
    """Hold a forget set against random ones of its pool, by everything that is known of the samples."""
    columns, chosen, groups = candidates.columns, candidates.chosen, candidates.groups
    names = columns.audited
    values = columns.frame[names].to_numpy(np.float64)
    chance = random_sets(values, chosen, groups, config.draws, config.seed)
    # Of what cannot be compared no row may look like a finding.
    told = np.array([chance.p, holm(list(chance.p)), chance.above])
    obstacle, caveats = candidates.obstacle, candidates.caveats
    if not_known := unknown.caveat(candidates.accuracies):
        if unknown.is_much(candidates.accuracies):
            obstacle = obstacle or unknown.no_verdict(not_known)
        else:
            caveats += (not_known,)
    if obstacle:
        told[:] = np.nan
    rows = [_row(candidates, *row) for row in zip(names, *told, strict=True)]
    counts = [len(np.unique(groups[side])) for side in (chosen, ~chosen)]
    return Audit(
        tuple(rows),
        int(chosen.sum()),
        len(chosen),
        (counts[0], counts[1]) if candidates.grouped else None,
        len(chance.drawn),
        chance.exact,
        chance.sizes,
        obstacle,
        caveats,
    )


def _row(candidates: Candidates, name: str, p: float, p_holm: float, above: float) -> Row:
    """Return a row with its p, the same by Holm, and the share of random sets above."""
    columns, chosen = candidates.columns, candidates.chosen
    values = columns.frame[name]
    differing = effect(values.to_numpy(), chosen, candidates.groups, candidates.units.get(name, ()))
    inside, outside = values[chosen], values[~chosen]
    counts = int(inside.count()), int(outside.count())
    means = float(inside.mean()), float(outside.mean())
    return Row(name, columns.titles[name], *counts, *means, *differing, float(p), float(p_holm), float(above))


def in_hundred(share: float) -> str:
    """Return in how many of a hundred cases something happens, in words where that would round to none or all."""
    if share < 0.005:
        return "fewer than 1"
    return "more than 99" if share > 0.995 else f"{100 * share:.0f}"


def _ends(estimate: Estimate) -> str:
    return "" if np.isnan(estimate.low) else f" [{estimate.low:+.3g}, {estimate.high:+.3g}]"
