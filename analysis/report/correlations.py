"""Rank correlations with an outcome as a table: of updates, of what comes back, of the change of the weights."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.evidence.measurements import estimate_at
from analysis.report.content import Cell, Column, Table, interval, number

# By column of a report: where a frame has the value, and the prefix of the ends of its interval.
ESTIMATES = {"rho": ("rho", ""), "partial": ("partial", "partial_"), "level": ("level", "level_")}


def correlations(
    frame: pd.DataFrame,
    names: pd.Series[str],
    caption: str,
    head: str,
    columns: dict[str, Column],
    titles: Mapping[str, str] | None = None,
) -> Table:
    """Return a table for charts, which pages do not list.

    Args:
        frame: A row per measure, with a value and its interval for each of `columns` in `ESTIMATES`, and a value
            of every other.
        names: The key of each row.
        caption: What the table shows.
        head: Title of the keys.
        columns: By key.
        titles: Of rows, for people.
    """

    def cell(row: pd.Series, column: str) -> Cell:
        return interval(estimate_at(row, *ESTIMATES[column])) if column in ESTIMATES else number(row[column])

    rows = {
        str(name): {column: cell(row, column) for column in columns}
        for name, (_, row) in zip(names, frame.iterrows(), strict=True)
    }
    return Table(
        caption=caption, head=head, columns=columns, rows=rows, titles=dict(titles or {}), is_listed=False
    )
