"""A comparison to take along: data, tables of the columns that are chosen, the shell command."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from analysis.comparison.long import MEANINGS
from analysis.comparison.table import Comparison, with_columns
from analysis.export import comparison as comparison_export
from analysis.export.inspect_log import NOT_INSTALLED, available, inspect_logs
from mrd_core.errors import UserError
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.settings.command import shown
from pages.parts.compare.choice import ComparedRuns
from pages.shell import commands, redaction
from pages.shell.downloads import archive, download

COLUMNS = "compare_columns"
DATA_HELP = (
    "All figures, none rounded: a row for each run and column, each setting and column, and each difference, with "
    "value, 95 % interval, p, n, seeds and what is marked. What its columns say stands below, and in the Parquet "
    "file itself."
)


def show(chosen: ComparedRuns, comparison: Comparison) -> None:
    """Offer data and table as files, the table to copy, and the commands that write them all."""
    row = st.container(horizontal=True, vertical_alignment="center")
    columns, intervals = _choose(comparison)
    tabled = with_columns(comparison, columns)
    markdown = partial(comparison_export.table, tabled, "markdown", intervals=intervals)
    latex = partial(comparison_export.table, tabled, "latex", intervals=intervals)
    _download(row, "Data (CSV)", partial(comparison_export.data_csv, comparison), "comparison.csv", DATA_HELP)
    _download(
        row, "Data (Parquet)", partial(comparison_export.data_parquet, comparison), "comparison.parquet", DATA_HELP
    )
    _download(row, "Table (Markdown)", markdown, "comparison.md")
    _download(row, "Table (LaTeX)", latex, "comparison.tex")
    _offer_samples(row, chosen)
    copy = st.expander("To copy", icon=":material/content_copy:", key="compare_copy", on_change="rerun")
    if copy.open:
        with copy:
            st.code(latex(), language="latex")
            st.code(markdown(), language="markdown")
    with st.expander("What the data say, and the same from the shell", icon=":material/terminal:"):
        _explain(chosen, columns, intervals=intervals)


def _offer_samples(row: Any, chosen: ComparedRuns) -> None:
    """Offer what each evaluation says of every sample, in the forms that other programs read."""
    if not chosen.runs:
        return
    paths = {run.id: EvaluationFiles(run.directory).openunlearning for run in chosen.runs}
    results = [(f"{run_id}_EVAL.json", path) for run_id, path in paths.items() if path.exists()]
    if results:
        _download(
            row,
            "OpenUnlearning (ZIP)",
            lambda: archive((name, path.read_bytes()) for name, path in results),
            "openunlearning.zip",
            "A result file of OpenUnlearning for each run: figures by sample, no texts",
        )
    texts = not redaction.is_on()

    def logs() -> bytes:
        contents = inspect_logs((run.directory for run in chosen.runs), texts=texts)
        return archive((name, content()) for name, content in contents.items())

    about, is_there = "A log of Inspect (.eval) for each run, which `inspect view` opens", available()
    help_text = about if is_there else f"{about}. {UserError(*NOT_INSTALLED)}"
    _download(row, "Inspect logs (ZIP)", logs, "inspect.zip", help_text, disabled=not is_there)
    redaction.offer(row)


def _choose(comparison: Comparison) -> tuple[list[str], bool]:
    """Let the user choose the columns of the tables, none for all, and whether they have intervals."""
    titles = {column.key: column.title for column in comparison.columns}
    if COLUMNS in st.session_state:
        # What was chosen of another comparison may not be in this one.
        st.session_state[COLUMNS] = [key for key in st.session_state[COLUMNS] if key in titles]
    place = st.container(horizontal=True, vertical_alignment="bottom")
    columns = place.multiselect(
        "Columns of the tables",
        list(titles),
        format_func=titles.__getitem__,
        key=COLUMNS,
        placeholder="All",
        help="Of the tables in Markdown and LaTeX; the data have all",
    )
    return columns, place.toggle("With 95 % intervals", key="compare_intervals")


def _explain(chosen: ComparedRuns, columns: list[str], *, intervals: bool) -> None:
    """Show what the columns of the data say, and the commands that write all files; they can name no upload."""
    meanings = pd.DataFrame({"Column": list(MEANINGS), "What it says": list(MEANINGS.values())})
    st.dataframe(meanings, hide_index=True, alt="Every column of the data with what it says")
    if chosen.uploads:
        st.caption("Result files that were uploaded lie nowhere that a command could name.")
        return
    baseline = chosen.runs[0].directory
    options = ["--columns", ",".join(columns)] if columns else []
    options += ["--intervals"] if intervals else []
    directories = [run.directory for run in chosen.runs]
    texts = ["--without-texts"] if redaction.is_on() else []
    commands.show(shown("compare", *directories, "--baseline", baseline, *options, "--out", "comparison"))
    commands.show(shown("export", "inspect", *directories, *texts, "--out", "logs"))


def _download(
    row: Any, label: str, content: Any, name: str, help_text: str | None = None, *, disabled: bool = False
) -> None:
    download(row, label, content, name, f"compare_{name}", "tertiary", help_text, disabled=disabled)
