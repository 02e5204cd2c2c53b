"""What evaluations say of one another: completeness, utility and their price, with the noise of samples and seeds.

Runs are compared by setting: the seeds of one are its spread and are never ranked. A difference is marked where it
is larger than its noise, corrected by Holm's method for the columns that it was looked for in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.columns import (
    AVERAGE,
    COMPLETENESS,
    FORGET_QUALITY,
    LEADING,
    UTILITY,
    Column,
    ForgetQuality,
    HarmonicMean,
    HarnessMean,
    Mean,
    Perplexity,
    Statistic,
    declared,
)
from analysis.comparison.evaluated import COSTS, Evaluated
from analysis.comparison.groups import Group, by_seed, differing, grouped, partner, prepared, seeds_left_out
from analysis.comparison.kept import ROUGE, KeptAnswers
from analysis.comparison.replicates import (
    POSITIVE,
    SHARE,
    UNBOUNDED,
    Difference,
    View,
    difference,
    limits,
    paired_noise,
    shared_samples,
    unpaired_noise,
    views,
)
from analysis.comparison.signal import without_signal
from analysis.statistics.bootstrap import UNDEFINED
from analysis.statistics.groups import SIGNIFICANCE, holm
from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.evaluation.metrics import METRICS
from mrd_core.evaluation.soundness import caution

_RUN_COLUMNS = ["group", "run", "seed", "column", "value", "low", "high", "n", "undefined", "caution"]
_CELL_COLUMNS = ["group", "column", "mean", "sd", "seeds", "low", "high", "n", "undefined", "each", "caution"]
_DIFFERENCE_COLUMNS = [
    *("group", "against", "column", "difference", "low", "high", "p", "p_holm", "marked", "better"),
    *("seeds", "n"),
]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was found of several evaluations.

    Attributes:
        baseline: Label of the group that the others are held against.
        groups: The baseline first.
        settings: Those that differ: setting, and a column for each group by its label.
        columns: What was compared, in the order of a table.
        cells: A row per group and column: group, column, mean (over seeds; of forget quality the median), sd (over
            seeds; NaN with one), seeds (runs that have it), low, high (95 % of the mean, over samples), n (samples
            with a value; the fewest of the sets it is from), undefined (samples without one, over runs), each (the
            value of each run), caution (why the value is no good sign although it looks like one; "" elsewhere).
        runs: A row per run and column: group, run (its name), seed, column, value, low, high (95 %, over
            samples), n, undefined, caution.
        differences: A row per group, other group and column: group, against (a label), column, difference (group
            less the other), low, high (95 %, over samples and seeds), p (two-sided), p_holm (over the columns),
            marked (larger than the noise), better (whether it points to the good end), seeds (pairs), n.
        costs: group, and for each of `COSTS` the mean and, under `NAME_sd`, the spread over seeds.
        notes: What a reader must know, in sentences.
    """

    baseline: str
    groups: list[Group]
    settings: pd.DataFrame
    columns: list[Column]
    cells: pd.DataFrame
    runs: pd.DataFrame
    differences: pd.DataFrame
    costs: pd.DataFrame
    notes: list[str]

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """Every frame by its name: what the exports hold."""
        return {name: frame for name, frame in vars(self).items() if isinstance(frame, pd.DataFrame)}


class Table:
    """The columns of runs and their replicates; a sample that one of them lacks is left out of all.

    What is undefined is not so by chance: a mean over what a run happens to have is nothing to hold
    others against.

    Attributes:
        runs: What is compared, samples aligned.
        groups: The baseline first.
        notes: In sentences.
        whole: What each run has of the samples that all were asked.
        views: What it has of those that have a value in all of them, metric by metric.
    """

    def __init__(self, runs: Sequence[Evaluated], baseline: int) -> None:
        self.runs, suite, self.notes = prepared(runs, baseline)
        self.groups = grouped(self.runs, runs[baseline].group)
        self.ids = shared_samples(self.runs)
        self.whole = views(self.runs, self.ids)
        self.views = {run: view.restricted(self.whole.values()) for run, view in self.whole.items()}
        declarations = list(declared(suite, self.runs))
        baselines = [self.views[run] for run in self.groups[0].runs]
        self._declared, notes = without_signal(declarations, baselines)
        self.notes += notes

    @cached_property
    def measured(self) -> Mapping[Evaluated, Mapping[str, FloatArray]]:
        """Every column of every run by its key, shape (1 + R,)."""
        return {run: self.replicates(self.views[run]) for run in self.runs}

    @cached_property
    def columns(self) -> list[Column]:
        """Every column, means after what they are of."""
        columns = [each.column for each in self._declared]
        sides = {side: [column for column in columns if column.side == side] for side in (COMPLETENESS, UTILITY)}
        means = []
        for side, parts in sides.items():
            titles = [column.title for column in parts if column.signal]
            if titles:
                text = f"Mean of {', '.join(titles)}."
                means.append(Column(side, side.capitalize(), "mean", "", "high", True, text))
        if len(means) == 2:
            text = "Mean of completeness and utility."
            means.append(Column(AVERAGE, "Average", "mean", "", "high", True, text))
        leading, others = ([column for column in columns if column.side == side] for side in (LEADING, "other"))
        return [*leading, *sides[COMPLETENESS], *sides[UTILITY], *means, *others]

    @cached_property
    def statistics(self) -> Mapping[str, Statistic]:
        """What columns that are no means of others are, by key."""
        return {each.column.key: each.statistic for each in self._declared}

    def replicates(self, view: View) -> dict[str, FloatArray]:
        """Return every column of a view by key: what was measured and its replicates, shape (1 + R,)."""
        columns = {key: statistic(view) for key, statistic in self.statistics.items()}
        for column in self.columns:
            if column.side == "mean":
                columns[column.key] = np.mean([columns[part] for part in self.parts(column.key)], axis=0)
        return columns

    def replicates_of(self, view: View, key: str) -> FloatArray:
        """Return one column of a view, shape (1 + R,)."""
        if not (parts := self.parts(key)):
            return self.statistics[key](view)
        mean: FloatArray = np.mean([self.replicates_of(view, part) for part in parts], axis=0)
        return mean

    def parts(self, key: str) -> list[str]:
        """Return the columns that a mean is of; none of any other column."""
        if key == AVERAGE:
            return [COMPLETENESS, UTILITY]
        return [column.key for column in self.columns if column.side == key and column.signal]

    def leaves(self, key: str) -> list[Statistic]:
        """Return what a column is made of in the end: its own statistic, or those of its parts."""
        parts = self.parts(key)
        return [leaf for part in parts for leaf in self.leaves(part)] if parts else [self.statistics[key]]

    def rests_on_tasks(self, key: str) -> bool:
        """Tell whether tasks of the harness are part of a column: their samples are not known."""
        return any(isinstance(leaf, HarnessMean) for leaf in self.leaves(key))

    def bounds(self, key: str) -> tuple[float, float]:
        """Return what values of a column can be."""
        leaves = self.leaves(key)
        if any(METRICS[leaf.metric].unit for leaf in leaves if isinstance(leaf, Mean)):
            return UNBOUNDED
        return POSITIVE if any(isinstance(leaf, Perplexity) for leaf in leaves) else SHARE

    def size(self, view: View, key: str) -> int:
        """Return the samples that a column has a value of: the fewest of the sets that it is from, 0 for none."""
        counts: dict[str, int] = {}
        for leaf in self.leaves(key):
            for split, metric in leaf.inputs:
                most = counts.get(split, len(self.ids.get(split, ())))
                counts[split] = min(view.defined((split, metric)), most)
        return min((count for count in counts.values() if count), default=0)

    def flaws(self, run: Evaluated) -> tuple[str, ...]:
        """Return what shows that the model of a run is damaged, lost answers beside the baseline's included."""
        before = self.groups[0].runs[0]
        splits = [split for split in run.splits("retain") if (split, ROUGE) in self.views[run].values]
        for key in ((split, ROUGE) for split in splits if before.is_original and run is not before):
            series = (pd.Series(self.views[one].values.get(key, np.empty(0))) for one in (before, run))
            kept = KeptAnswers.between(*series)
            if kept is not None and kept.are_lost:
                return (*run.flaws, f"beside {self.groups[0].label} it lost answers. {kept.sentence}".rstrip("."))
        return run.flaws

    def caution(self, run: Evaluated, key: str) -> str:
        """Return why the value of a run in a column is no good sign although it looks like one; "" elsewhere."""
        return caution(float(self.measured[run][key][0]), self.flaws(run)) if key == FORGET_QUALITY else ""

    def undefined(self, run: Evaluated, key: str) -> int:
        """Return the samples of which a run itself has no value, over all that a column is made of."""
        inputs = {each for leaf in self.leaves(key) for each in leaf.inputs}
        return sum(map(self.whole[run].undefined_of, inputs))


def default_baseline(runs: Sequence[Evaluated]) -> int:
    """Return the place of the first evaluation of a model that nothing was unlearned from, or 0."""
    return next((place for place, run in enumerate(runs) if run.is_original), 0)


def compare(runs: Sequence[Evaluated], baseline: int = 0) -> Comparison:
    """Compare evaluations of one suite.

    Args:
        runs: At least one.
        baseline: Place of the run whose group the others are held against.

    Raises:
        UserError: No run, suites that differ, or no sample in common.
    """
    table = Table(runs, baseline)
    return Comparison(
        baseline=table.groups[0].label,
        groups=table.groups,
        settings=differing(table.groups),
        columns=table.columns,
        runs=pd.DataFrame(_run_rows(table), columns=_RUN_COLUMNS),
        cells=pd.DataFrame(_cells(table), columns=_CELL_COLUMNS),
        differences=_differences(table),
        costs=pd.DataFrame([_costs(group) for group in table.groups]),
        notes=[*table.notes, *_cautions(table), *_left_out(table), *_of_files(table), *_notes(table)],
    )


def with_columns(comparison: Comparison, keys: Sequence[str]) -> Comparison:
    """Return the comparison with these columns alone in its tables, in its order; with all where none is named.

    Raises:
        UserError: It has no such column.
    """
    known = {column.key: column for column in comparison.columns}
    if unknown := [key for key in keys if key not in known]:
        raise UserError(
            f"The column '{unknown[0]}'",
            "is none of this comparison.",
            f"Name some of {', '.join(known)}.",
        )
    chosen = [column for key, column in known.items() if key in keys]
    return replace(comparison, columns=chosen or comparison.columns)


def compared_pairs(groups: Sequence[Group]) -> Iterator[tuple[Group, Group]]:
    """Yield each group with the baseline, and with the group that it shares a method with (X + MRD with X)."""
    for group in groups:
        others = dict.fromkeys((groups[0], partner(group, groups)))
        yield from ((group, other) for other in others if other is not None and other is not group)


def over_seeds(
    pairs: Sequence[tuple[Evaluated, Evaluated]], values: FloatArray, others: FloatArray, paired: bool, n: int
) -> Difference:
    """Return the difference of two groups, the mean over pairs of their runs.

    Args:
        pairs: The k pairs.
        values: Replicates of the first run of each, shape (k, 1 + R).
        others: The same of the second.
        paired: Whether the pairs have seeds in common, or one of the groups is a single run.
        n: Samples.
    """
    differences = values - others
    if paired:
        noise = paired_noise(differences[:, 0])
    else:
        # What was measured of each run, which may be in several pairs.
        first, second = (
            np.array(list(dict(zip(runs, replicates[:, 0], strict=True)).values()))
            for runs, replicates in zip(zip(*pairs, strict=True), (values, others), strict=True)
        )
        noise = unpaired_noise(first, second)
    return difference(differences.mean(axis=0), noise, n)


def _run_rows(table: Table) -> Iterator[tuple[Any, ...]]:
    for group in table.groups:
        for run, column in product(group.runs, table.columns):
            key, view = column.key, table.views[run]
            n = table.size(view, key)
            ends = limits(table.measured[run][key], n, table.bounds(key))[:3]
            words = table.caution(run, key)
            yield group.label, group.name_of(run), run.seed, key, *ends, n, table.undefined(run, key), words


def _cells(table: Table) -> Iterator[tuple[Any, ...]]:
    for group, column in product(table.groups, table.columns):
        key = column.key
        runs = [run for run in group.runs if np.isfinite(table.measured[run][key][0])]
        replicates = [table.measured[run][key] for run in runs]
        each = tuple(float(values[0]) for values in replicates)
        n = min((table.size(table.views[run], key) for run in runs), default=0)
        undefined = sum(table.undefined(run, key) for run in group.runs)
        over_runs, sd = UNDEFINED, np.nan
        if each and key == FORGET_QUALITY:
            # p-values have no mean.
            over_runs = UNDEFINED._replace(value=float(np.median(each)))
        elif each:
            over_runs = limits(np.mean(replicates, axis=0), n, table.bounds(key))
            sd = float(np.std(each, ddof=1)) if len(each) > 1 else np.nan
        words = " ".join(dict.fromkeys(filter(None, (table.caution(run, key) for run in group.runs))))
        yield group.label, key, over_runs.value, sd, len(each), *over_runs[1:3], n, undefined, each, words


def _differences(table: Table) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for group, against in compared_pairs(table.groups):
        family = list(_family(table, group, against))
        tested = [row["p"] if row["signal"] else np.nan for row in family]
        for row, corrected in zip(family, holm(tested), strict=True):
            rows.append(row | {"p_holm": corrected, "marked": bool(corrected < SIGNIFICANCE)})
    return pd.DataFrame(rows, columns=_DIFFERENCE_COLUMNS).astype({"marked": bool, "better": bool})


def _family(table: Table, group: Group, against: Group) -> Iterator[dict[str, Any]]:
    """Yield the rows of one group held against another, but for what depends on the other columns."""
    pairs, paired = by_seed(group, against)
    sides = [(table.views[run], table.measured[run], table.measured[other]) for run, other in pairs]
    for column in table.columns:
        key = column.key
        both = [at for at, (_, first, second) in enumerate(sides) if np.isfinite(first[key][0] - second[key][0])]
        if key == FORGET_QUALITY or not both:
            continue
        n = min(table.size(sides[at][0], key) for at in both)
        columns = [sides[at][1:] for at in both]
        values, others = (np.stack([pair[side][key] for pair in columns]) for side in (0, 1))
        contrast = over_seeds([pairs[at] for at in both], values, others, paired, n)
        change, mean = contrast.estimate.value, float(values[:, 0].mean())
        if len(both) == 1 and table.rests_on_tasks(key):
            # One value of a task says nothing of its noise.
            contrast = Difference.of_unknown_noise(change)
        better = column.is_better(mean, mean - change)
        row = {"group": group.label, "against": against.label, "column": key, "p": contrast.p}
        row |= contrast.estimate.columns("difference") | {"signal": column.signal, "better": better}
        yield row | {"seeds": len(both), "n": n}


def _costs(group: Group) -> dict[str, Any]:
    row: dict[str, Any] = {"group": group.label}
    for name in COSTS:
        values = np.array([run.cost.get(name, np.nan) for run in group.runs], dtype=np.float64)
        values = values[np.isfinite(values)]
        row[name] = float(values.mean()) if len(values) else np.nan
        row[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    return row


def _cautions(table: Table) -> Iterator[str]:
    """Say of which runs a high forget quality is no good sign, as far as they do not say so themselves."""
    titles = {column.key: column.title for column in table.columns}
    for run, key in product(table.runs, titles):
        words = table.caution(run, key)
        if words and not any(words in note for note in run.notes):
            yield f"{run.name}: {titles[key]} is no good sign. {words}"


def _left_out(table: Table) -> Iterator[str]:
    """Say which columns leave samples out because a run has no value of them."""
    by_counts: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for column in table.columns:
        counts = [(run.name, table.undefined(run, column.key)) for run in table.runs]
        if column.side != "mean" and len(counts) > 1 and any(count for _, count in counts):
            by_counts.setdefault(tuple(each for each in counts if each[1]), []).append(column.title)
    for lacking, titles in by_counts.items():
        listed = ", ".join(f"{count} undefined in {name}" for name, count in lacking)
        yield f"{', '.join(titles)}: {listed}; compared on the samples that have a value in every run."


def _of_files(table: Table) -> Iterator[str]:
    """Say what of a result file is taken as it stands there, and what is in no column."""
    for run in (each for each in table.runs if each.origin == "file"):
        measured = table.measured[run]
        statistics = [each for key, each in table.statistics.items() if np.isfinite(measured[key][0])]
        used = {key for statistic in statistics for key in statistic.inputs}
        stated = {each.stated for each in statistics if isinstance(each, ForgetQuality | HarmonicMean)}
        frames = (run.values, run.aggregates)
        held = {key for frame in frames for key in zip(frame["split"], frame["metric"], strict=True)}
        if unused := sorted(f"{metric} ({split})" for split, metric in held - used - stated):
            yield f"{run.name}: in no column here: {', '.join(unused)}."
        if by_word := sorted(each[1] for each in stated & held):
            yield f"{run.name}: {', '.join(by_word)} as the file states it, not made anew from its samples."


def _notes(table: Table) -> Iterator[str]:
    """Say what runs lack, which means know nothing of noise, who has one seed, and which seeds are left out."""
    sides = [column for column in table.columns if column.side in (COMPLETENESS, UTILITY)]
    for run in table.runs:
        lacking = [column for column in sides if not np.isfinite(table.measured[run][column.key][0])]
        if lacking:
            means = " and ".join(dict.fromkeys(column.side for column in lacking if column.signal)) or "none"
            listed = ", ".join(column.title for column in lacking)
            yield f"{run.name}: no value of {listed}; means without one: {means}."
    for group, column in product(table.groups, table.columns):
        endless = [run for run in group.runs if np.isinf(table.measured[run][column.key][0])]
        if endless:
            names = ", ".join(group.name_of(run) for run in endless)
            yield f"{column.title}: infinite in {names}, which is in no mean."
    for column in sides:
        if isinstance(table.statistics[column.key], HarnessMean):
            yield f"{column.title}: its samples are not known, so its noise is that of seeds alone."
    alone = [group.label for group in table.groups if len(group.seeds) == 1]
    if alone:
        yield (
            f"One seed: {', '.join(alone)}. How much another seed would change is not known; the noise is that "
            "of the samples."
        )
    for group, against in compared_pairs(table.groups):
        if left := seeds_left_out(group, against):
            yield (
                f"{group.label} and {against.label} are compared on the seeds that both have; left out: "
                f"{', '.join(map(str, left))}."
            )
