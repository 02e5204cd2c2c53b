"""The difficulty map and the distribution of MRD, both downloadable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from analysis.difficulty import measures_in
from analysis.figures import difficulty as figures
from analysis.statistics.bootstrap import Estimate
from pages.shell import filters, session
from pages.shell.downloads import figure_download

AXIS_WIDTH = 380


def show(table: pd.DataFrame, shown: pd.DataFrame, selected: str, tie: Callable[[str], Estimate]) -> None:
    """Show the map beside the distribution; a click on the map selects, a box filters.

    Args:
        table: All samples of the run.
        shown: Those that the filters leave.
        selected: The sample that is marked.
        tie: Returns how a column of the table goes with MRD.
    """
    measures = measures_in(table)
    titles = figures.AXIS_TITLES | figures.titles_of(measures)
    axis = st.selectbox(
        "Difficulty map: MRD against",
        list(titles),
        format_func=titles.__getitem__,
        key="map_axis",
        width=AXIS_WIDTH,
    )
    left, right = st.columns([3, 2])
    with left:
        _map(table, shown, axis, titles[axis], selected)
        if axis != figures.UNCERTAINTY:
            said = figures.tie_in_words(tie(axis), f"MRD with {titles[axis]}, over the whole set")
            explained = next((measure.help for measure in measures if measure.name == axis), "")
            st.caption(f"{said} {explained}")
    with right:
        _distribution(shown, selected)


def _map(table: pd.DataFrame, shown: pd.DataFrame, axis: str, title: str, selected: str) -> None:
    figure = figures.difficulty_map(shown, axis, selected, whole=table, title=title)
    key = f"map_{session.charts_epoch()}"
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(filters.take_points, key, "on the map"),
        selection_mode=("points", "box", "lasso"),
        alt=f"Difficulty map of {len(shown)} samples: MRD against {title}",
    )
    figure_download(figure, "difficulty_map")


def _distribution(shown: pd.DataFrame, selected: str) -> None:
    figure = figures.distribution(shown, selected)
    st.plotly_chart(figure, key="distribution", alt=f"Histogram of MRD over {len(shown)} samples")
    figure_download(figure, "distribution")
