"""A comparison to take along: its table in three forms, and a report with the figures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import streamlit as st

from analysis.comparison.table import Comparison
from analysis.export import comparison as comparison_export
from mrd_core.errors import UserError
from pages.parts.compare import difficulty, tradeoff
from pages.parts.compare.choice import ComparedRuns
from pages.shell.downloads import download

Form = Literal["csv", "markdown", "latex"]
FORMS: dict[Form, tuple[str, str]] = {
    "csv": ("CSV", "csv"),
    "markdown": ("Markdown", "md"),
    "latex": ("LaTeX", "tex"),
}


def show(chosen: ComparedRuns, comparison: Comparison) -> None:
    """Offer the table as a file and to copy, and the report."""
    row = st.container(horizontal=True)
    for form, (title, ending) in FORMS.items():
        content = partial(comparison_export.table, comparison, form)
        _download(row, f"Table ({title})", content, f"comparison.{ending}")
    _download(
        row,
        "Report (HTML)",
        lambda: comparison_export.page(comparison, dict(_figures(chosen, comparison)), datetime.now(UTC)),
        "comparison.html",
    )
    copy = st.expander("To copy", icon=":material/content_copy:", key="compare_copy", on_change="rerun")
    if copy.open:
        with copy:
            st.code(comparison_export.table(comparison, "latex"), language="latex")
            st.code(comparison_export.table(comparison, "markdown"), language="markdown")


def _download(row: Any, label: str, content: Any, name: str) -> None:
    download(row, label, content, name, f"compare_{name}", "tertiary")


def _figures(chosen: ComparedRuns, comparison: Comparison) -> Iterator[tuple[str, Any]]:
    """Yield those figures that can be drawn of what was measured, by what they show."""
    if tradeoff.has_both(comparison):
        yield "Completeness against utility", tradeoff.figure_of(comparison)
    columns = difficulty.of_forget_set(comparison)
    if columns:
        # Without scores there is nothing to hold against difficulty.
        try:
            yield from difficulty.figures_of(chosen, columns, next(iter(columns)))
        except UserError:
            return
