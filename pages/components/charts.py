"""The difficulty map and the distribution of MRD, both downloadable."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from analysis import figures
from pages.components import filters, session

AXES = {"relative_se": "its uncertainty", "mean_log_prob": "mean log-probability"}


def show(table: pd.DataFrame, shown: pd.DataFrame, selected: str) -> None:
    """Show the map beside the distribution; a click on the map selects, a box filters.

    Args:
        table: All samples of the run.
        shown: Those that the filters leave.
        selected: The sample that is marked.
    """
    axis = st.segmented_control(
        "Difficulty map: MRD against",
        list(AXES),
        default="relative_se",
        required=True,
        format_func=AXES.__getitem__,
        key="map_axis",
    )
    left, right = st.columns([3, 2])
    with left:
        _map(table, shown, axis, selected)
    with right:
        _distribution(shown, selected)


def _map(table: pd.DataFrame, shown: pd.DataFrame, axis: figures.MapAxis, selected: str) -> None:
    figure = figures.difficulty_map(shown, axis, selected, whole=table)
    key = f"map_{session.charts_epoch()}"
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(filters.take_points, key, "on the map"),
        selection_mode=("points", "box", "lasso"),
        alt=f"Difficulty map of {len(shown)} samples: MRD against {AXES[axis]}",
    )
    figure_download(figure, "difficulty_map")


def _distribution(shown: pd.DataFrame, selected: str) -> None:
    figure = figures.distribution(shown, selected)
    st.plotly_chart(figure, key="distribution", alt=f"Histogram of MRD over {len(shown)} samples")
    figure_download(figure, "distribution")


def figure_download(figure: Any, name: str, label: str = "Figure (HTML)") -> None:
    """Offer a figure as an HTML file that needs no network."""
    st.download_button(
        label,
        lambda: figure.to_html(include_plotlyjs=True),
        file_name=f"{name}.html",
        mime="text/html",
        key=f"download_{name}",
        type="tertiary",
        icon=":material/download:",
        help="The figure as an HTML file that needs no network",
    )
