"""The difficulty map and the distribution of MRD, both downloadable."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from analysis.difficulty import measures_in
from analysis.figures import difficulty as figures
from analysis.statistics.bootstrap import Estimate
from pages.shell.charts import chart, sample_chart
from pages.shell.inputs import select

AXIS_WIDTH = 380


def show(table: pd.DataFrame, samples: pd.DataFrame, selected: str, tie: Callable[[str], Estimate]) -> None:
    """Show the map beside the distribution; a click on the map selects, a box filters.

    Args:
        table: All samples of the run.
        samples: Those that the filters leave.
        selected: The sample that is marked.
        tie: Returns how a column of the table goes with MRD.
    """
    measures = measures_in(table)
    titles = figures.AXIS_TITLES | figures.titles_of(measures)
    axis = select("Difficulty map: MRD against", titles, "map_axis", width=AXIS_WIDTH)
    left, right = st.columns([3, 2])
    with left:
        figure = figures.difficulty_map(samples, axis, selected, whole=table, title=titles[axis])
        alt = f"Difficulty map of {len(samples)} samples: MRD against {titles[axis]}"
        sample_chart(figure, "map", "on the map", alt, "difficulty_map")
        if axis != figures.UNCERTAINTY:
            correlation = figures.tie_in_words(tie(axis), f"MRD with {titles[axis]}, over the whole set")
            meaning = next((measure.help for measure in measures if measure.name == axis), "")
            st.caption(f"{correlation} {meaning}")
    with right:
        figure = figures.distribution(samples, selected)
        chart(figure, "distribution", f"Histogram of MRD over {len(samples)} samples", "distribution")
