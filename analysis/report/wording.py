"""Figures and runs of a report as people read them: what page and Markdown have in common."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.export.files import NOTHING
from analysis.report.content import Cell, Column, Interval, Report, Table
from mrd_core.runs.kind import kind_named


def head_of(report: Report) -> str:
    """Return who made a report, when and with what, in a line."""
    made = f"{report.generated:%Y-%m-%d %H:%M} UTC"
    by = f" by {report.by}" if report.by else ""
    return f"Made {made}{by}. {', '.join(f'{name} {version}' for name, version in report.programs.items())}."


def listed_runs(report: Report) -> Table:
    """Return the runs of a report as a table, with the settings that differ from the defaults."""
    return Table(
        caption="What it rests on, with all settings that differ from the defaults",
        head="Run",
        columns={
            "kind": Column(title="Kind"),
            "title": Column(title="Title"),
            "when": Column(title="Ended [UTC]"),
            "settings": Column(title="Settings"),
        },
        rows={
            name: {
                "kind": kind_named(run.kind).label,
                "title": run.title,
                "when": run.when,
                "settings": ", ".join(f"{setting} = {value}" for setting, value in run.settings.items()),
            }
            for name, run in report.runs.items()
        },
    )


def shown_rows(table: Table) -> Iterator[list[str]]:
    """Yield the rows of a table as texts: what it is called, and a cell for each column."""
    for key, row in table.rows.items():
        yield [
            table.titles.get(key, key),
            *(shown(row.get(name), column) for name, column in table.columns.items()),
        ]


def shown(cell: Cell, column: Column) -> str:
    """Return a cell as text, a value beside its interval."""
    if isinstance(cell, Interval):
        ends = f" [{_number(cell.low, column)}, {_number(cell.high, column)}]" if cell.low is not None else ""
        return f"{_number(cell.value, column)}{ends}"
    if isinstance(cell, str):
        return cell or NOTHING
    return _number(cell, column)


def _number(value: float | None, column: Column) -> str:
    if value is None:
        return NOTHING
    is_whole = isinstance(value, int) and not column.form.endswith("f")
    return f"{value:{',' if is_whole else column.form}}".replace("-", "−")
