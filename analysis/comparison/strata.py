"""What unlearning does to hard and to easy samples: metrics by tercile of MRD, and change against MRD.

Small MRD means hard. The terciles are those of the samples that are compared; a difference that is one of hard
samples alone, or of easy ones, is an interaction, and has an interval of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.comparison.columns import COMPLETENESS, LEADERS, Auc, Column, Mean
from analysis.comparison.evaluated import Evaluated
from analysis.comparison.groups import Group, by_seed
from analysis.comparison.replicates import UNBOUNDED, Difference, View, limits
from analysis.comparison.table import Table, compared_pairs, over_seeds
from analysis.difficulty import EASY, HARD, TERCILES, tercile
from analysis.statistics.censored import spearman
from analysis.statistics.groups import SIGNIFICANCE, holm
from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError
from mrd_core.scoring.columns import MRD_ANSWER_MEAN

COLUMN = MRD_ANSWER_MEAN
# What changes of a sample are shown by, the first that there is.
CHANGED = (*LEADERS, "rr")
MEMBERSHIP = "Membership score (Min-k%)"
# Columns of an attack.
_ATTACKS = frozenset({"mia", "mia_unseen"})
CONTRAST = f"{HARD} − {EASY}"
VALUE, DIFFERENCE, INTERACTION = PARTS = ("value", "difference", "interaction")

_COLUMNS = ["part", "group", "against", "stratum", "value", "low", "high", "p", "p_holm", "marked", "n", "seeds"]
_CHANGE_COLUMNS = ["group", "against", "split", "sample_id", "mrd", "tercile", "before", "after", "change"]


def by_stratum(
    runs: Sequence[Evaluated], baseline: int, metric: str = "completeness", column: str = COLUMN
) -> pd.DataFrame:
    """Return a metric of the forget set by tercile of difficulty, and how groups differ there.

    Columns: part, group, against, stratum, value, low, high (95 %), p, p_holm (over the rows of a part), marked
    (larger than the noise), n (samples with a value), seeds. Rows are by part: `value` has a row per group and
    stratum, with the noise of samples; `difference` a row per group, other group (the baseline; of X + MRD also X)
    and stratum, `interaction` one per group and other group, the difference on hard samples less that on easy
    ones, both with the noise of samples and of seeds. Seeds that lack the metric are left out; p is NaN where
    there are not enough values to tell.

    Args:
        runs: What is compared.
        baseline: Place of the run whose group the others are held against.
        metric: Key of a column of the comparison that is of the forget set, or one of its metrics per sample.
        column: Of the scores.

    Raises:
        UserError: As `compare`; no run has scores of these samples, or no such column or metric.
    """
    strata = _Strata.of(Table(runs, baseline), metric, column)
    rows = [*strata.values(), *strata.differences()]
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    frame = frame.sort_values("part", key=lambda parts: parts.map(PARTS.index), kind="stable")
    for part in (DIFFERENCE, INTERACTION):
        tested = frame["part"] == part
        frame.loc[tested, "p_holm"] = holm(list(frame.loc[tested, "p"]))
    return frame.assign(marked=frame["p_holm"] < SIGNIFICANCE).reset_index(drop=True)


def change(runs: Sequence[Evaluated], baseline: int, metric: str = "rr", column: str = COLUMN) -> pd.DataFrame:
    """Return how the value of each forget sample differs from the baseline's, beside its MRD.

    Columns: group, against, split, sample_id, mrd, tercile, before (the baseline's value), after (the group's,
    both means over seeds), change (after less before). A sample that either does not have is left out.

    Arguments and errors as in `by_stratum`; the metric must have a value per sample.
    """
    table = Table(runs, baseline)
    statistic = table.statistics.get(metric) if metric in _keys(table) else _raw(table, metric)
    if isinstance(statistic, Auc):
        # Of a single sample there is the score that the attack ranks by.
        statistic = Mean(statistic.forget[0], statistic.metric)
    if not isinstance(statistic, Mean):
        raise UserError(f"The column {metric}", "has no value for a single sample.", _choose(table))
    _forget_splits(table, metric)
    mrd = _difficulty(table, column, (statistic.split,))
    before = _mean_values(table, table.groups[0], statistic)
    terciles = _terciles(mrd)
    rows: list[tuple[Any, ...]] = []
    for group in table.groups[1:]:
        about = group.label, table.groups[0].label, statistic.split
        after = _mean_values(table, group, statistic)
        for sample, old, new in zip(table.ids[statistic.split], before, after, strict=True):
            if sample in mrd:
                rows.append((*about, sample, mrd[sample], terciles[sample], old, new, new - old))
    return pd.DataFrame(rows, columns=_CHANGE_COLUMNS).dropna(subset=["change"]).reset_index(drop=True)


def column_of_samples(columns: Iterable[Column]) -> Column | None:
    """Return the column by which samples are shown to change: a leading one, RR, or the first of completeness."""
    known = {column.key: column for column in columns}
    chosen = [known[key] for key in CHANGED if key in known]
    return next(iter([*chosen, *(column for column in known.values() if column.side == COMPLETENESS)]), None)


def title_of_samples(column: Column) -> str:
    """Return what a column is of a single sample: of a membership attack, a score."""
    return MEMBERSHIP if column.key in _ATTACKS else column.title


def mrd_of(runs: Iterable[Evaluated], column: str = COLUMN) -> dict[str, float]:
    """Return the MRD of forget samples by id, of the first of the runs that has it; none where none has."""
    for run in runs:
        if run.scores is not None and column in run.scores:
            return dict(zip(run.scores["sample_id"], run.scores[column].astype(np.float64), strict=True))
    return {}


def require_scores(runs: Sequence[Evaluated], column: str) -> None:
    """Refuse runs of which none has this column of MRD beside its values."""
    columns = dict.fromkeys(str(name) for run in runs if run.scores is not None for name in run.scores)
    if not columns:
        raise UserError(
            "The evaluations",
            "have no MRD beside their values.",
            "Evaluate with a score run of the forget set (`--scores`).",
        )
    if column not in columns:
        listed = ", ".join(name for name in columns if name.startswith("mrd_"))
        raise UserError(f"The column {column}", "is not in the scores.", f"Choose one of {listed}.")


def ties(changed: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's ρ of MRD with the change of each group, with its interval over samples.

    Columns: group, against, rho, low, high, n.

    Args:
        changed: See `change`.
    """
    rows = []
    for groups, samples in changed.groupby(["group", "against"], sort=False):
        rho = spearman(samples["mrd"], samples["change"], np.zeros(len(samples)))
        rows.append((*groups, *rho[:4]))
    return pd.DataFrame(rows, columns=["group", "against", "rho", "low", "high", "n"])


class _Side(NamedTuple):
    """Replicates of two runs on the n samples that both have, each of shape (1 + R,)."""

    values: FloatArray
    others: FloatArray
    n: int

    def less(self, other: _Side) -> _Side:
        """Return the contrast with another stratum."""
        return _Side(self.values - other.values, self.others - other.others, min(self.n, other.n))


@dataclass(frozen=True, eq=False)
class _Strata:
    """A metric of every run on the samples of each stratum.

    Attributes:
        table: What is compared.
        kept: By stratum and forget set, which of its samples are in it.
        replicates: Of the column, or the metric, in a view, shape (1 + R,).
        size: Samples of a view that have a value.
        bounds: What values can be.
    """

    table: Table
    kept: Mapping[str, Mapping[str, BoolArray]]
    replicates: Callable[[View], FloatArray]
    size: Callable[[View], int]
    bounds: tuple[float, float]

    @classmethod
    def of(cls, table: Table, metric: str, column: str) -> _Strata:
        splits = _forget_splits(table, metric)
        terciles = _terciles(_difficulty(table, column, splits))
        kept = {
            stratum: {
                split: np.array([terciles.get(each) == stratum for each in table.ids[split]]) for split in splits
            }
            for stratum in TERCILES
        }
        if metric in _keys(table):
            measures = partial(table.replicates_of, key=metric), partial(table.size, key=metric)
            return cls(table, kept, *measures, table.bounds(metric))
        raw = _raw(table, metric)
        return cls(table, kept, raw, lambda view: view.defined(raw.inputs[0]), UNBOUNDED)

    def values(self) -> Iterator[dict[str, Any]]:
        for group, stratum in product(self.table.groups, TERCILES):
            views = [self._view(run, stratum) for run in group.runs]
            measured = [(self.replicates(view), self.size(view)) for view in views]
            defined = [(values, n) for values, n in measured if np.isfinite(values[0])]
            if defined:
                n = min(n for _, n in defined)
                value = limits(np.mean([values for values, _ in defined], axis=0), n, self.bounds)
                about = {"part": VALUE, "group": group.label, "against": "", "stratum": stratum}
                yield about | value.columns("value") | {"p": np.nan, "n": n, "seeds": len(defined)}

    def differences(self) -> Iterator[dict[str, Any]]:
        for group, against in compared_pairs(self.table.groups):
            pairs, paired = by_seed(group, against)
            sides = {stratum: [self._side(*pair, stratum) for pair in pairs] for stratum in TERCILES}
            sides[CONTRAST] = [hard.less(easy) for hard, easy in zip(sides[HARD], sides[EASY], strict=True)]
            for stratum, of_stratum in sides.items():
                # Of those pairs alone of which both have a value.
                both = [at for at, side in enumerate(of_stratum) if np.isfinite([side[0][0], side[1][0]]).all()]
                contrast, n = Difference.of_unknown_noise(np.nan), 0
                if both:
                    n = min(of_stratum[at].n for at in both)
                    values, others = (np.stack([of_stratum[at][which] for at in both]) for which in (0, 1))
                    contrast = over_seeds([pairs[at] for at in both], values, others, paired, n)
                part = INTERACTION if stratum == CONTRAST else DIFFERENCE
                about = {"part": part, "group": group.label, "against": against.label, "stratum": stratum}
                yield about | contrast.estimate.columns("value") | {"p": contrast.p, "n": n, "seeds": len(both)}

    def _view(self, run: Evaluated, stratum: str) -> View:
        return self.table.views[run].masked(self.kept[stratum])

    def _side(self, run: Evaluated, other: Evaluated, stratum: str) -> _Side:
        view, others = self._view(run, stratum), self._view(other, stratum)
        return _Side(self.replicates(view), self.replicates(others), self.size(view))


def _keys(table: Table) -> set[str]:
    return {column.key for column in table.columns}


def _forget_splits(table: Table, metric: str) -> tuple[str, ...]:
    """Return the forget sets that a column or metric is of."""
    leaves = table.leaves(metric) if metric in _keys(table) else [_raw(table, metric)]
    forget = {split for run in table.runs for split in run.splits("forget")}
    splits = dict.fromkeys(split for leaf in leaves for split, _ in leaf.inputs if split in forget)
    if not splits:
        raise UserError(f"The column {metric}", "says nothing of the forget set.", _choose(table))
    return tuple(splits)


def _raw(table: Table, metric: str) -> Mean:
    """Return the mean of a metric per sample over the forget set that has it."""
    for run in table.runs:
        for split in run.splits("forget"):
            if table.views[run].defined((split, metric)):
                return Mean(split, metric)
    raise UserError(f"The metric {metric}", "was not measured on the forget set.", _choose(table))


def _choose(table: Table) -> str:
    forget = {split for run in table.runs for split in run.splits("forget")}
    return f"Choose one of {', '.join(column.key for column in table.columns if column.split in forget)}."


def _difficulty(table: Table, column: str, splits: Sequence[str]) -> dict[str, float]:
    """Return the MRD of the shared samples that have one, by id; the baseline's, if it has it."""
    require_scores(table.runs, column)
    values = mrd_of((*table.groups[0].runs, *table.runs), column)
    mrd = {
        each: values[each]
        for split in splits
        for each in table.ids[split]
        if np.isfinite(values.get(each, np.nan))
    }
    if not mrd:
        raise UserError(
            "The score run",
            f"has no MRD of the samples of {', '.join(splits)}.",
            "Evaluate with a score run of the same forget set.",
        )
    return mrd


def _terciles(mrd: Mapping[str, float]) -> dict[str, str]:
    """Return the tercile of each sample by rank, ties by id."""
    ranked = sorted(mrd, key=lambda sample: (mrd[sample], sample))
    return {sample: tercile(rank, len(ranked)) for rank, sample in enumerate(ranked)}


def _mean_values(table: Table, group: Group, statistic: Mean) -> FloatArray:
    """Return the mean over seeds of each sample, NaN where a seed lacks it, shape (n,)."""
    missing = np.full(len(table.ids[statistic.split]), np.nan)
    values = [table.views[run].values.get(statistic.inputs[0], missing) for run in group.runs]
    return statistic.of_sample(np.mean(values, axis=0))
