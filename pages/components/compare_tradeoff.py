"""Completeness against utility: a point a run, and the way there where a run was evaluated on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import comparison_figures as figures
from analysis.comparison import Comparison
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.runs.directory import read_config
from mrd_core.unlearning.files import UnlearningFiles
from pages.components.charts import figure_download
from pages.components.unlearn_charts import csv_download

NEEDED = {"completeness", "utility"}


def show(found: Comparison) -> None:
    """Show the trade-off of the runs, its data beneath."""
    if not has_both(found):
        st.info(
            "A trade-off needs completeness and utility, and one of them was not measured here.",
            icon=":material/scatter_plot:",
        )
        return
    figure = figure_of(found)
    st.plotly_chart(figure, key="compare_tradeoff", alt="Completeness against utility, a point a run")
    figure_download(figure, "compare_tradeoff")
    runs = found.runs[found.runs["column"].isin(NEEDED)]
    table = st.expander("Table", icon=":material/table:", key="compare_tradeoff_table", on_change="rerun")
    if table.open:
        with table:
            st.dataframe(runs, hide_index=True, placeholder="–", alt="Completeness and utility of each run")
            csv_download(st.container(), runs, "compare_tradeoff")


def has_both(found: Comparison) -> bool:
    """Tell whether completeness and utility were both measured."""
    return {column.key for column in found.columns} >= NEEDED


def figure_of(found: Comparison) -> Any:
    """Return the figure, with what runs were evaluated to be on the way."""
    rows = [row | {"run": name} for name, directory in _unlearned(found) for row in _on_the_way(directory)]
    return figures.tradeoff(found, pd.DataFrame(rows) if rows else None)


def _unlearned(found: Comparison) -> Iterator[tuple[str, Path]]:
    """Yield the name of each run that something was unlearned in, and where."""
    for group in found.groups:
        for run in group.runs:
            if run.origin == "run" and run.seed is not None:
                directory = read_config(run.source, EvaluateConfig).unlearn_run
                if directory is not None:
                    yield group.name_of(run), directory


def _on_the_way(directory: Path) -> list[dict[str, float]]:
    """Return what was measured on the way and has both sides."""
    measured = UnlearningFiles(directory).read_evaluations()
    wanted = ("step", *sorted(NEEDED))
    return [{name: row[name] for name in wanted} for row in measured if set(wanted) <= set(row)]
