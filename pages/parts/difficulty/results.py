"""A finished score run: ranking, charts, reliability, tokens, export. One selection across all of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import difficulty
from analysis.characteristics import runs as characteristics
from analysis.characteristics.judgement import replicates_for
from analysis.difficulty import ScoredRun, Trust, Variant
from analysis.statistics.bootstrap import Estimate
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import Normalisation, ScoreConfig
from pages.parts.difficulty import charts, export, ranking_table, reliability_panel, token_view
from pages.shell import badges as evidence_badges
from pages.shell import filters, session, tour
from pages.shell import variant as score_variant
from pages.shell.launching import launch
from pages.shell.notices import heading
from pages.shell.wording import duration, figure_or


def show(run: Run) -> None:
    """Show a run that succeeded."""
    summary = run.summary or {}
    config = read_config(run.directory, ScoreConfig)
    heading(run.title)
    evidence_badges.show(run)
    place = st.container()
    variant = score_variant.choose(config.estimator)
    table = _ranking(run.id, str(run.directory), variant)
    trust = _trust(run.id, str(run.directory), variant)
    with place:
        _headline(trust, summary)
        _ways_on(run)
    samples = filters.filtered(table)
    selected = filters.selected_of(samples)
    charts.show(table, samples, selected, partial(_tie, run.id, str(run.directory), variant))
    ranking_table.show(table, samples, selected)
    token_view.show(run, samples, selected, variant.scope)
    reliability_panel.show(table, trust, summary)
    export.show(run, table, variant, config)


def _ways_on(run: Run) -> None:
    """Lead on to the characteristics, which are read at once where they need no choice, or to unlearning."""
    row = st.container(horizontal=True)
    if row.button("Explain the differences", type="primary", icon=":material/category:", key="explain"):
        if session.current_reading(run) is None:
            session.open_reading(launch(characteristics.default_config(run.directory)).id)
        st.switch_page(tour.CHARACTERISTICS, query_params={session.RUN: run.id})
    if row.button("Unlearn", icon=":material/ink_eraser:", key="to_unlearning"):
        st.switch_page(tour.UNLEARNING, query_params={session.RUN: run.id})


@st.cache_data(show_spinner="Reading the draws", max_entries=8)
def _ranking(run_id: str, directory: str, variant: Variant) -> pd.DataFrame:  # noqa: ARG001  (run_id is the key)
    return difficulty.ranking(ScoredRun(Path(directory)), variant)


@st.cache_data(show_spinner="Splitting the draws", max_entries=8)
def _trust(run_id: str, directory: str, variant: Variant) -> Trust:  # noqa: ARG001
    return difficulty.trust(ScoredRun(Path(directory)), variant)


@st.cache_data(show_spinner="Resampling the draws", max_entries=100)
def _tie(run_id: str, directory: str, variant: Variant, column: str) -> Estimate:
    table = _ranking(run_id, directory, variant)
    mrd = difficulty.measured(ScoredRun(Path(directory)), variant, table["sample_id"])
    return difficulty.tie(table, column, mrd, replicates_for(len(table)))


def _headline(trust: Trust, summary: dict[str, Any]) -> None:
    row = st.container(horizontal=True)
    row.metric("Samples", summary["n_samples"])
    row.metric(
        "Median relative SE",
        figure_or(trust.median_relative_se, ".1%", "undefined"),
        help="Median over samples of SE / MRD.",
    )
    meaning = "Spearman–Brown of split halves: how well an equal run would rank the samples alike. 1 is perfect."
    for normalisation in (Normalisation.MEAN, Normalisation.SUM):
        reliability = figure_or(trust.reliability[normalisation], ".3f", "undefined")
        row.metric(f"Reliability, {normalisation}", reliability, help=meaning)
    # Runs of earlier versions have no other measures.
    measures = summary.get("seconds_measures")
    besides = f"; the other measures took {duration(measures)} more" if measures else ""
    row.metric(
        "Cost",
        duration(summary["seconds"]),
        help=f"{summary['evaluations']} forward evaluations on {summary['device']} in {summary['dtype']}, "
        f"σ = {summary['sigma']:g}{besides}",
    )
    for warning in summary["warnings"]:
        st.warning(warning, icon=":material/warning:")
