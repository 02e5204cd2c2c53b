"""Single features: two against each other with MRD as colour, and each one's distribution and meaning."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis import characteristic_figures as figures
from analysis.characteristics import Characterised
from analysis.judgement import LENGTH, Judgement
from pages.components import session
from pages.components.charts import figure_download
from pages.components.criteria import titles


def scatter(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:  # noqa: ARG001
    """Show two features against each other, MRD as colour; points select."""
    named = titles(found)
    names = [name for name in found.about.features if found.table[name].notna().any()]
    left, right = st.columns(2)
    x = left.selectbox("Across", names, index=names.index(LENGTH), format_func=named.__getitem__, key="scatter_x")
    y = right.selectbox(
        "Up", names, index=names.index("semantic_complexity"), format_func=named.__getitem__, key="scatter_y"
    )
    selected = None if len(shown) == len(found.table) else set(shown["sample_id"])
    key = f"scatter_{session.charts_epoch()}"

    def on_points() -> None:
        points = st.session_state[key]["selection"]["points"]
        ids = [str(point["customdata"][0]) for point in points if point.get("customdata")]
        if len(ids) == 1:
            session.select_sample(ids[0])
        elif ids:
            session.select_many(set(ids), "from two features")

    figure = figures.scatter(found.table, x, y, named, selected)
    st.plotly_chart(
        figure,
        key=key,
        on_select=on_points,
        selection_mode=("points", "box", "lasso"),
        alt=f"{named[x]} against {named[y]}, MRD as colour",
    )
    figure_download(figure, "two_features")


def correlations(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:  # noqa: ARG001
    """Show how MRD, length and the criteria go together."""
    figure = figures.heat_map(judgement.correlations, titles(found))
    st.plotly_chart(figure, key="heat_map", alt="Spearman correlations of MRD, length and the criteria")
    figure_download(figure, "correlations")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(
            judgement.correlations.rename(index=titles(found), columns=titles(found)), alt="The same as a table"
        )


def features(found: Characterised, judgement: Judgement, shown: pd.DataFrame) -> None:
    """Show one feature: what it counts, how it is distributed, where it is undefined."""
    about, named = found.about, titles(found)
    name = st.selectbox("Feature", list(about.features), format_func=named.__getitem__, key="feature")
    described = about.features[name]
    left, right = st.columns([3, 2])
    levels = {claim.feature: claim.level for claim in judgement.shown}
    figure = figures.feature_histogram(
        shown[name], described["title"], described["unit"], described["bins"], levels.get(name)
    )
    with left:
        st.plotly_chart(figure, key="feature_histogram", alt=f"Distribution of {named[name]}")
        figure_download(figure, name)
    with right:
        st.markdown(described["help"])
        st.markdown(f"A large value: {described['direction']}.")
        st.markdown(f"Undefined for {about.undefined[name]} of {len(found.table)} samples.")
        if name in about.training_averages:
            st.markdown(f"Average over the training corpus: {about.training_averages[name]:.4g}.")
        if name in about.complexity_parts:
            st.markdown("Part of the complexity index.")
        elif name in about.complexity_left_out:
            st.markdown(f"Not part of the complexity index: {about.complexity_left_out[name]}.")
