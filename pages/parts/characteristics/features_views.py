"""Single features: two against each other with MRD as colour, and each one's distribution and meaning."""

from __future__ import annotations

import math
from typing import cast

import pandas as pd
import streamlit as st

from analysis.characteristics.complexity import COMPLEXITY
from analysis.characteristics.judgement import TOKENS, Judgement
from analysis.characteristics.runs import Characterised
from analysis.difficulty import measures_in
from analysis.features.feature import Bins
from analysis.figures import characteristics as figures
from analysis.figures.difficulty import titles_of
from pages.parts.characteristics.claims_tables import CHART_WIDTH
from pages.shell.charts import chart, sample_chart
from pages.shell.inputs import select


def scatter(characterised: Characterised, judgement: Judgement, samples: pd.DataFrame) -> None:  # noqa: ARG001
    """Show two features or measures of difficulty against each other, MRD as colour; points select."""
    table, about = characterised.table, characterised.about
    measures = titles_of(measures_in(table))
    titles = measures | figures.axis_titles(about)
    names = [TOKENS, *(name for name in about.features if table[name].notna().any())]
    names += ["mrd", *(name for name in measures if name not in names)]
    left, right = st.columns(2)
    offered = {name: titles[name] for name in names}
    with left:
        across = select("Across", offered, "scatter_across", TOKENS)
    with right:
        # No text gives the index of complexity where none could be read.
        up = select("Up", offered, "scatter_up", COMPLEXITY.name)
    selected = None if len(samples) == len(table) else set(samples["sample_id"])
    figure = figures.scatter(table, across, up, titles, selected)
    alt = f"{titles[across]} against {titles[up]}, MRD as colour"
    sample_chart(figure, "scatter", "from two features", alt, "two_features")


def correlations(characterised: Characterised, judgement: Judgement, samples: pd.DataFrame) -> None:  # noqa: ARG001
    """Show how MRD, length and the criteria go together."""
    titles = figures.feature_titles(characterised.about)
    figure = figures.heat_map(judgement.correlations, titles)
    chart(figure, "heat_map", "Spearman correlations of MRD, length and the criteria", "correlations")
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(
            judgement.correlations.rename(index=titles, columns=titles), alt="Spearman correlations as a table"
        )


def features(characterised: Characterised, judgement: Judgement, samples: pd.DataFrame) -> None:
    """Show one feature: what it counts, how it is distributed, where it is undefined."""
    about, titles = characterised.about, figures.feature_titles(characterised.about)
    name = select("Feature", {name: titles[name] for name in about.features}, "feature")
    feature = about.features[name]
    levels = {claim.feature: claim.level for claim in judgement.shown}
    figure = figures.feature_histogram(
        samples[name], feature["title"], feature["unit"], cast(Bins, feature["bins"]), levels.get(name, math.nan)
    )
    row = st.container(horizontal=True)
    with row.container(width=CHART_WIDTH):
        chart(figure, "feature_histogram", f"Distribution of {titles[name]}", name)
    with row.container():
        st.markdown(feature["help"])
        st.markdown(f"A large value: {feature['direction']}.")
        st.markdown(f"Undefined for {about.undefined[name]} of {len(characterised.table)} samples.")
        if name in about.training_averages:
            st.markdown(f"Average over the training corpus: {about.training_averages[name]:.4g}.")
        if name in about.complexity_parts:
            st.markdown("Part of the complexity index.")
        elif name in about.complexity_left_out:
            st.markdown(f"Not part of the complexity index: {about.complexity_left_out[name]}.")
