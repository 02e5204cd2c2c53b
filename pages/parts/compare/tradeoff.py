"""Completeness against utility: a point a run, and the way there where a run was evaluated on it."""

from __future__ import annotations

import streamlit as st

from analysis.comparison.columns import COMPLETENESS, UTILITY
from analysis.comparison.paths import on_the_way
from analysis.comparison.table import Comparison
from analysis.figures import comparison as figures
from pages.shell.charts import chart, data_beneath

NEEDED = {COMPLETENESS, UTILITY}


def show(comparison: Comparison) -> None:
    """Show the trade-off of the runs, its data beneath."""
    if not {column.key for column in comparison.columns} >= NEEDED:
        st.info(
            "A trade-off needs completeness and utility, and one of them was not measured here.",
            icon=":material/scatter_plot:",
        )
        return
    alt = "Completeness against utility, a point a run"
    # With what runs were evaluated to be on the way.
    figure = figures.tradeoff(comparison, on_the_way(comparison))
    chart(figure, "compare_tradeoff", alt, "compare_tradeoff")
    runs = comparison.runs[comparison.runs["column"].isin(NEEDED)]
    data_beneath(runs, "compare_tradeoff", "Completeness and utility of each run")
