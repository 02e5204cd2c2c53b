"""The section on evaluations: what a model still knows of the forget set, and what it has kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.comparison.columns import COMPLETENESS, UTILITY
from analysis.comparison.evaluated import Evaluated, read
from analysis.comparison.strata import by_stratum
from analysis.comparison.table import Comparison, compare, default_baseline
from analysis.export.comparison import IS_DAMAGED, by_difficulty
from analysis.export.comparison import tasks as tasks_of
from analysis.report.content import Cell, Chart, Column, Section, Table, interval, number, rows_of
from analysis.report.runs import Member
from analysis.statistics.bootstrap import Estimate
from mrd_core.errors import UserError
from mrd_core.evaluation.soundness import DAMAGE_MARK


def evaluations(members: Sequence[Member]) -> dict[str, Section]:
    """Return a section for each suite that was asked, by its name."""
    by_suite: dict[str, list[Evaluated]] = {}
    for run in (read(member.directory) for member in members):
        by_suite.setdefault(run.suite, []).append(run)
    return {f"evaluations_{suite}": _section(suite, runs) for suite, runs in by_suite.items()}


def _section(suite: str, runs: list[Evaluated]) -> Section:
    place, title = default_baseline(runs), f"What is left after unlearning, by the suite {suite}"
    try:
        comparison = compare(runs, place)
    except UserError as error:
        return Section(title=title, text=(f"These evaluations cannot be compared. {error.cause}",))
    told, tasks, settings = _of_strata(runs, place), tasks_of(comparison), comparison.settings
    tradeoff = Chart(
        form="points",
        title="Completeness against utility, a point a run (up and right is better)",
        alt="Completeness of forgetting against what utility is left, a point a run",
        table="runs",
        x=UTILITY,
        y=(COMPLETENESS,),
        group="setting",
        unit="Completeness",
    )
    has_both = {COMPLETENESS, UTILITY} <= {column.key for column in comparison.columns}
    return Section(
        title=title,
        text=(f"The others are held against {comparison.baseline}.", *told),
        parts={
            "values": _values(comparison),
            **({"differences": _differences(comparison)} if len(comparison.differences) else {}),
            **({"tradeoff": tradeoff} if has_both else {}),
            **({"tasks": rows_of(tasks, "Tasks of lm-evaluation-harness")} if len(tasks) else {}),
            **({"settings": rows_of(settings, "Settings that differ")} if len(settings) else {}),
            "runs": _runs(comparison),
        },
        notes=tuple(comparison.notes),
    )


def _of_strata(runs: Sequence[Evaluated], place: int) -> list[str]:
    """Return in sentences whether hard and easy samples changed differently; none where that cannot be asked."""
    try:
        return by_difficulty(by_stratum(runs, place, COMPLETENESS), "Completeness")
    except UserError as error:
        return [f"Nothing is said by difficulty: {error.cause}"] if len(runs) > 1 else []


def _values(comparison: Comparison) -> Table:
    """Return a row per column and a column per setting: means with their intervals over samples."""
    rows: dict[str, dict[str, Cell]] = {column.key: {} for column in comparison.columns}
    for row in comparison.cells.to_dict(orient="records"):
        if row["column"] in rows:
            rows[row["column"]][row["group"]] = interval(Estimate(row["mean"], row["low"], row["high"]))
            rows[row["column"]] |= {f"{row['group']}, spread over seeds": number(row["sd"])}
            # Settings that were not asked have no value, and no samples.
            rows[row["column"]]["n"] = max(row["n"], rows[row["column"]].get("n", 0))
    return Table(
        caption=f"Means over samples and seeds [95 % over samples]{_legend(comparison)}",
        head="Measure",
        columns={
            **{group.label: Column(title=group.label, form=".3f") for group in comparison.groups},
            "n": Column(title="Samples"),
        },
        rows=rows,
        titles={column.key: f"{column.title}{_mark(comparison, column.key)}" for column in comparison.columns},
    )


def _mark(comparison: Comparison, key: str) -> str:
    """Return the mark of a column that has a value which is no good sign although it looks like one."""
    cells = comparison.cells
    return f" {DAMAGE_MARK}" if (cells.loc[cells["column"] == key, "caution"] != "").any() else ""


def _legend(comparison: Comparison) -> str:
    doubted = comparison.cells[comparison.cells["caution"] != ""]
    return f"; {DAMAGE_MARK} of {', '.join(doubted['group'])} {IS_DAMAGED}" if len(doubted) else ""


def _differences(comparison: Comparison) -> Table:
    titles = {column.key: column.title for column in comparison.columns}
    rows: dict[str, dict[str, Cell]] = {
        f"{row['group']} less {row['against']}: {titles.get(row['column'], row['column'])}": {
            "difference": interval(Estimate(row["difference"], row["low"], row["high"])),
            "p_holm": number(row["p_holm"]),
            "shows": ("better" if row["better"] else "worse") if row["marked"] else "cannot tell",
        }
        for row in comparison.differences.to_dict(orient="records")
    }
    return Table(
        caption="Differences, and whether they are larger than the noise of samples and seeds",
        head="Setting and measure",
        columns={
            "difference": Column(title="Difference [95 %]", form="+.3f"),
            "p_holm": Column(title="p (Holm)", form=".2g"),
            "shows": Column(title="Shows"),
        },
        rows=rows,
    )


def _runs(comparison: Comparison) -> Table:
    def rows() -> Iterator[tuple[str, dict[str, Cell]]]:
        for run, values in comparison.runs.groupby("run", sort=False):
            of_run: dict[str, Cell] = {
                str(row["column"]): number(row["value"]) for row in values.to_dict(orient="records")
            }
            yield str(run), of_run | {"setting": str(values["group"].iloc[0])}

    return Table(
        caption="Every run by itself",
        head="Run",
        columns={column.key: Column(title=column.title, form=".3f") for column in comparison.columns}
        | {"setting": Column(title="Setting")},
        rows=dict(rows()),
        is_listed=False,
    )
