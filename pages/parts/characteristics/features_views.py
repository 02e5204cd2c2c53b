"""Single features: two against each other with MRD as colour, and each one's distribution and meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.characteristics.complexity import COMPLEXITY
from analysis.characteristics.judgement import LENGTH, Judgement
from analysis.characteristics.runs import Characterised
from analysis.difficulty import measures_in
from analysis.figures import characteristics as figures
from analysis.figures.difficulty import titles_of
from pages.parts.characteristics.claims_tables import CHART_WIDTH
from pages.shell import filters, session
from pages.shell.downloads import figure_download


def scatter(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:  # noqa: ARG001
    """Show two features or measures of difficulty against each other, MRD as colour; points select."""
    measures = titles_of(measures_in(found.table))
    named = measures | figures.axis_titles(found.about)
    names = [LENGTH, *(name for name in found.about.features if found.table[name].notna().any())]
    names += ["mrd", *(name for name in measures if name not in names)]
    left, right = st.columns(2)
    x = _feature(left, "Across", names, named, LENGTH)
    y = _feature(right, "Up", names, named, COMPLEXITY.name)
    selected = None if len(shown) == len(found.table) else set(shown["sample_id"])
    key = f"scatter_{session.charts_epoch()}"
    figure = figures.scatter(found.table, x, y, named, selected)
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(filters.take_points, key, "from two features"),
        selection_mode=("points", "box", "lasso"),
        alt=f"{named[x]} against {named[y]}, MRD as colour",
    )
    figure_download(figure, "two_features")


def _feature(place: DeltaGenerator, label: str, names: list[str], named: Mapping[str, str], preferred: str) -> str:
    """Let the user choose a feature; no text gives the preferred one where none could be read."""
    index = names.index(preferred) if preferred in names else 0
    return place.selectbox(
        label, names, index=index, format_func=named.__getitem__, key=f"scatter_{label.lower()}"
    )


def correlations(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:  # noqa: ARG001
    """Show how MRD, length and the criteria go together."""
    named = figures.feature_titles(found.about)
    figure = figures.heat_map(judgement.correlations, named)
    st.plotly_chart(figure, key="heat_map", alt="Spearman correlations of MRD, length and the criteria")
    figure_download(figure, "correlations")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(judgement.correlations.rename(index=named, columns=named), alt="The same as a table")


def features(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:
    """Show one feature: what it counts, how it is distributed, where it is undefined."""
    about, named = found.about, figures.feature_titles(found.about)
    name = st.selectbox("Feature", list(about.features), format_func=named.__getitem__, key="feature")
    described = about.features[name]
    levels = {claim.feature: claim.level for claim in judgement.shown}
    figure = figures.feature_histogram(
        shown[name], described["title"], described["unit"], described["bins"], levels.get(name, math.nan)
    )
    row = st.container(horizontal=True)
    with row.container(width=CHART_WIDTH):
        st.plotly_chart(figure, key="feature_histogram", alt=f"Distribution of {named[name]}")
        figure_download(figure, name)
    with row.container():
        st.markdown(described["help"])
        st.markdown(f"A large value: {described['direction']}.")
        st.markdown(f"Undefined for {about.undefined[name]} of {len(found.table)} samples.")
        if name in about.training_averages:
            st.markdown(f"Average over the training corpus: {about.training_averages[name]:.4g}.")
        if name in about.complexity_parts:
            st.markdown("Part of the complexity index.")
        elif name in about.complexity_left_out:
            st.markdown(f"Not part of the complexity index: {about.complexity_left_out[name]}.")
