"""The difficulty map and the distribution of MRD, both downloadable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from analysis.difficulty import measures_in
from analysis.figures import difficulty as figures
from analysis.statistics.bootstrap import Estimate
from pages.shell import layout, session
from pages.shell.charts import chart, sample_chart
from pages.shell.downloads import figure_download
from pages.shell.inputs import select


def axis(table: pd.DataFrame) -> str:
    """Let the user choose the column of the table that the map shows MRD against."""
    titles = figures.AXIS_TITLES | figures.titles_of(measures_in(table))
    chosen: str = select("Difficulty map: MRD against", titles, "map_axis", bind=session.IN_URL)
    return chosen


def difficulty_map(
    table: pd.DataFrame, samples: pd.DataFrame, selected: str, against: str, tie: Callable[[str], Estimate]
) -> None:
    """Show the map; a click selects, a box filters.

    Args:
        table: All samples of the run.
        samples: Those that the filters leave.
        selected: The sample that is marked.
        against: Column of the vertical axis.
        tie: Returns how a column of the table goes with MRD.
    """
    measures = measures_in(table)
    title = (figures.AXIS_TITLES | figures.titles_of(measures))[against]
    figure = figures.difficulty_map(samples, against, None, whole=table, title=title)
    alt = f"Difficulty map of {len(samples)} samples: MRD against {title}"
    # The points are sent once: from sample to sample only the ring is.
    with layout.layers("map_layers"):
        sample_chart(figure, "map", "on the map", alt, is_narrow=True)
        over = figures.ring_over(figure, samples, against, selected)
        chart(over, "ring", f"A ring on the difficulty map around sample {selected}", is_narrow=True)
    ringed = partial(figures.difficulty_map, samples, against, selected, whole=table, title=title)
    figure_download(ringed, "difficulty_map")
    if against != figures.UNCERTAINTY:
        correlation = figures.tie_in_words(tie(against), f"MRD with {title}, over the whole set")
        meaning = next((measure.help for measure in measures if measure.name == against), "")
        st.caption(f"{correlation} {meaning}")


def all_of(table: pd.DataFrame, samples: pd.DataFrame, against: str) -> dict[str, Callable[[], Any]]:
    """Return what draws the figures of a run, by the names of their files; its arguments are those of the map."""
    title = (figures.AXIS_TITLES | figures.titles_of(measures_in(table)))[against]
    return {
        "difficulty_map": partial(figures.difficulty_map, samples, against, None, whole=table, title=title),
        "distribution": partial(figures.distribution, samples),
        "relative_se": partial(figures.relative_se_histogram, table),
    }


def distribution(samples: pd.DataFrame) -> None:
    """Show how MRD is distributed over the samples that the filters leave."""
    figure = figures.distribution(samples)
    chart(figure, "distribution", f"Histogram of MRD over {len(samples)} samples", "distribution")
