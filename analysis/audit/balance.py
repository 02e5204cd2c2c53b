"""Fair forget sets: as hard as the pool or as a given set, or hard, middle and easy ones with all else alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.audit.candidates import Candidates
from analysis.audit.columns import LENGTH
from analysis.audit.config import BalanceConfig
from analysis.audit.draw import Problem, alike
from analysis.difficulty import TERCILES
from analysis.sets import unknown
from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError
from mrd_core.scoring.measures import MEASURES

# Standardised differences up to here count as balanced (Austin 2009).
SMALL = 0.1
# What a column is to a set.
BALANCED, STRATIFIED, OBSERVED = "balanced", "stratified", "observed"
# Random sets that a drawn one is held against.
RANDOM_SETS = 1000
# Strata by a column of which it is not declared at which end the hard samples are.
THIRDS = ("low", "middle", "high")
# The spread of a column counts half as much as its mean.
_SPREAD = 0.5


@dataclass(frozen=True)
class FairSet:
    """A forget set that was drawn.

    Attributes:
        name: "" where it is the only one.
        sample_ids: Its samples, in the order of the pool.
        exact: Whether no other choice from the same candidates is closer to the target.
    """

    name: str
    sample_ids: tuple[str, ...]
    exact: bool


@dataclass(frozen=True)
class Balance:
    """Sets that were drawn, and how they stand to what they were to be like.

    Attributes:
        sets: The sets.
        table: A row per set and column: set, column, title, role (balanced, stratified, or observed: not drawn
            by), target and mean, difference (of the means, over the pool's standard deviation), random_difference
            (its absolute value in the median of 1,000 random sets of the same candidates) and variance_ratio (of
            the set to the target).
        notes: What a reader must know, in sentences.
    """

    sets: tuple[FairSet, ...]
    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """How well it went."""
        asked = self.table[self.table["role"] == BALANCED]
        sizes = sorted({len(each.sample_ids) for each in self.sets})
        count = "1 forget set" if len(self.sets) == 1 else f"{len(self.sets)} forget sets"
        text = f"Drawn: {count} of {' to '.join(map(str, sizes[:: max(1, len(sizes) - 1)]))} samples."
        if asked.empty:
            return text
        most, random = asked["difference"].abs().max(), asked["random_difference"].max()
        text += f" Largest standardised difference {most:.2g}; of a random set {random:.2g} in the median."
        off = asked[asked["difference"].abs() > SMALL]
        if off.empty:
            return text
        places = [f"{row.set} in {row.title}".strip() for row in off.itertuples()]
        return f"{text} Not balanced (above {SMALL:g}): {', '.join(places)}."


class _Plan(NamedTuple):
    """What sets are drawn from, and by which columns.

    Attributes:
        stratum: "" without strata.
        groups: The groups that can be drawn, in ascending order.
        names: The columns in which the sets are balanced.
    """

    stratum: str
    groups: npt.NDArray[np.intp]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Pool:
    """The samples to draw from, their groups, and what sets are to be like.

    Attributes:
        values: A row per sample: the columns to balance.
        groups: Number of each sample's group, shape (N,).
        eligible: Whether it can be drawn with its group, shape (N,).
        model: Which samples the sets are to be like, shape (N,).
    """

    values: pd.DataFrame
    groups: npt.NDArray[np.intp]
    eligible: BoolArray
    model: BoolArray

    def per_group(self, features: FloatArray) -> FloatArray:
        """Return the sums over the samples of each group, shape (G, F), of features of shape (N, F)."""
        sums = np.zeros((int(self.groups.max()) + 1, features.shape[1]))
        np.add.at(sums, self.groups, features)
        return sums


def balanced(candidates: Candidates, config: BalanceConfig) -> Balance:
    """Draw forget sets.

    Args:
        candidates: The pool; those that are chosen are what the sets are to be like, and are not drawn themselves.
            Where none is, the sets are to be like the pool.
        config: How many, how large and by which columns.

    Raises:
        UserError: There is no such column, the pool is too small, sets of that size would break groups, or the
            runs of pool and given set cannot be compared.
    """
    if candidates.obstacle:
        raise UserError("The given set", f"cannot be matched. {candidates.obstacle}", "Or name another one.")
    ids, names = candidates.columns.frame["sample_id"], config.columns or _default(candidates)
    candidates.columns.require(names)
    pool = _pool(candidates, names)
    random, sets = np.random.default_rng(config.seed), list[FairSet]()
    rows: list[dict[str, object]] = []
    for plan in _plans(pool, names, config, candidates.columns.difficulty):
        problem = _problem(pool, plan, config, grouped=candidates.grouped)
        beside = [random.choice(plan.groups, problem.groups, replace=False) for _ in range(RANDOM_SETS)]
        for number, drawn in enumerate(alike(problem, config.sets, random), 1):
            name = "-".join(filter(None, (plan.stratum, str(number) if config.sets > 1 else "")))
            inside = np.isin(candidates.groups, plan.groups[drawn.places])
            sets.append(FairSet(name, tuple(ids[inside]), drawn.exact))
            rows += _rows(candidates, pool, plan.names, (name, inside), beside)
    return Balance(tuple(sets), pd.DataFrame(rows), tuple(_notes(sets, pool, candidates, config)))


def _default(candidates: Candidates) -> tuple[str, ...]:
    return candidates.columns.difficulty[0], LENGTH


def _pool(candidates: Candidates, names: tuple[str, ...]) -> _Pool:
    """Return what is drawn from and what sets are to be like, by samples that have a value of all columns."""
    values = candidates.columns.frame[list(names)]
    complete = values.notna().all(axis=1).to_numpy()
    broken = np.isin(candidates.groups, candidates.groups[~complete])
    model = candidates.chosen & complete if candidates.chosen.any() else complete
    if not model.any():
        raise UserError(
            "The columns " + ", ".join(names),
            "are known of no sample together.",
            "Leave one of them out (--columns).",
        )
    return _Pool(values, candidates.groups, ~broken & ~candidates.chosen, model)


def _plans(
    pool: _Pool, names: tuple[str, ...], config: BalanceConfig, difficulty: tuple[str, ...]
) -> Iterator[_Plan]:
    """Yield what sets are drawn from; strata are thirds of the groups by their mean of the first column."""
    free = np.unique(pool.groups[pool.eligible])
    if config.design == "matched":
        yield _Plan("", free, names)
        return
    ones = np.ones((len(pool.values), 1))
    sums = pool.per_group(np.hstack([pool.values[[names[0]]].fillna(0).to_numpy(), ones]))[free]
    order = np.argsort(sums[:, 0] / sums[:, 1], kind="stable")
    strata = TERCILES if names[0] in difficulty else _strata(names[0])
    for name, third in zip(strata, np.array_split(free[order], len(TERCILES)), strict=True):
        yield _Plan(name, np.sort(third), names[1:])


def _strata(column: str) -> tuple[str, ...]:
    """Return what the thirds by a column are called, the smallest values first."""
    harder = MEASURES[column].harder if column in MEASURES else "unknown"
    return {"small": TERCILES, "large": TERCILES[::-1], "unknown": THIRDS}[harder]


def _problem(pool: _Pool, plan: _Plan, config: BalanceConfig, *, grouped: bool) -> Problem:
    """Return what is to be drawn for each set of a plan."""
    scaled = _standardised(pool.values[list(plan.names)].to_numpy(np.float64))
    spread = _SPREAD * _standardised(scaled**2)
    features = np.nan_to_num(np.hstack([scaled, spread, np.ones((len(scaled), 1))]))
    per_group = pool.per_group(features)[plan.groups]
    sizes, wanted = per_group[:, -1], config.size * config.sets
    count = _count(sizes, config.size, grouped=grouped) if len(sizes) else 0
    if sizes.sum() < wanted or len(sizes) < count * config.sets:
        where = f" from the stratum {plan.stratum!r}" if plan.stratum else ""
        raise UserError(
            f"--size {config.size}",
            f"takes {wanted} samples for {config.sets} sets, and there are {int(sizes.sum())} to draw{where}.",
            "Draw smaller sets (--size) or fewer (--sets), or score a larger pool.",
        )
    return Problem(per_group[:, :-1], sizes, features[pool.model, :-1].mean(axis=0), config.size, count)


def _count(sizes: FloatArray, size: int, *, grouped: bool) -> int:
    """Return how many groups a set of this size has."""
    if not grouped:
        return size
    if np.ptp(sizes) == 0 and size % sizes[0]:
        each = int(sizes[0])
        near = sorted({max(each, size // each * each), size // each * each + each})
        raise UserError(
            f"--size {size}",
            f"is no multiple of {each}, the samples of each group.",
            f"Use {' or '.join(map(str, near))}, or leave --group out.",
        )
    return max(1, round(size / float(sizes.mean())))


def _rows(
    candidates: Candidates,
    pool: _Pool,
    balanced_names: tuple[str, ...],
    named: tuple[str, BoolArray],
    random: list[npt.NDArray[np.intp]],
) -> Iterator[dict[str, object]]:
    """Yield the figures of a set: of the columns that it was drawn by, and of what else an audit looks at.

    Args:
        candidates: The pool.
        pool: The same, to draw from.
        balanced_names: The columns in which it is balanced.
        named: Its name, and which samples it has, shape (N,).
        random: Groups of random sets.
    """
    set_name, inside = named
    columns = candidates.columns
    names = list(dict.fromkeys([*pool.values, *columns.audited]))
    values = columns.frame[names]
    defined = values.notna().to_numpy()
    filled = np.hstack([values.fillna(0).to_numpy(), defined])
    per_group = pool.per_group(filled)
    sums = np.array([per_group[groups].sum(axis=0) for groups in random])
    means = sums[:, : len(names)] / np.maximum(sums[:, len(names) :], 1)
    for place, name in enumerate(names):
        column = values[name]
        model, spread = column[pool.model], column[pool.eligible | pool.model].std() or np.nan
        yield {
            "set": set_name,
            "column": name,
            "title": columns.titles[name],
            "role": BALANCED if name in balanced_names else STRATIFIED if name in pool.values else OBSERVED,
            "target": model.mean(),
            "mean": column[inside].mean(),
            "difference": (column[inside].mean() - model.mean()) / spread,
            "random_difference": float(np.median(np.abs(means[:, place] - model.mean()))) / spread,
            "variance_ratio": column[inside].var() / (model.var() or np.nan),
        }


def _notes(sets: list[FairSet], pool: _Pool, candidates: Candidates, config: BalanceConfig) -> Iterator[str]:
    yield from candidates.caveats
    if not_known := unknown.caveat(candidates.accuracies):
        yield not_known
    if lacking := int(pool.values.isna().any(axis=1).sum()):
        yield f"{lacking} samples lack a value; they, and their groups, are drawn for no set."
    if any(len(each.sample_ids) != config.size for each in sets):
        yield f"Groups differ in size, so that no set of whole groups has exactly the {config.size} samples asked."
    how = "all choices were tried" if all(each.exact for each in sets) else f"a search with seed {config.seed}"
    together = "; all sets together, and then shared out" if config.sets > 1 else ""
    yield f"How they were drawn: {how}{together}."


def _standardised(values: FloatArray) -> FloatArray:
    """Return columns with mean 0 and standard deviation 1, 0 where they do not vary; NaN stays."""
    with np.errstate(invalid="ignore"):
        spread = np.nanstd(values, axis=0)
    scaled: FloatArray = (values - np.nanmean(values, axis=0)) / np.where(spread > 0, spread, 1)
    return scaled
