"""A finished score run: ranking, charts, reliability, tokens, export. One selection across all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import difficulty, scale
from analysis.characteristics import runs as characteristics
from analysis.characteristics.judgement import replicates_for
from analysis.difficulty import ScoredRun, Trust, Variant
from analysis.statistics.bootstrap import Estimate
from mrd_core.runs import Run
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.notes import SampleNote, read_notes, with_notes
from mrd_core.scoring.records import ScoreSummary
from pages.parts.difficulty import charts, ends, export, ranking_table, reliability_panel, sample_notes, token_view
from pages.shell import configs, filters, layout, paths, redaction, session, unlearnings, verdict_bar
from pages.shell import variant as score_variant
from pages.shell.configs import BY_ATTEMPT
from pages.shell.launching import launch
from pages.shell.notices import errors_shown


def show(run: Run) -> None:
    """Show a run that succeeded: ranking, map and the sample that is looked at side by side."""
    summary, config = ScoreSummary.model_validate(run.summary), configs.config_of(run, ScoreConfig)
    verdict_bar.show(run)
    for warning in summary.warnings:
        st.warning(warning, icon=":material/warning:")
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    _next_steps(run, summary, bar)
    with bar.popover("Options", icon=":material/tune:"):
        variant = score_variant.choose(config.estimator, formulas=not summary.preview)
        notes = read_notes(run.directory)
        table, trust = with_notes(_ranking(run, variant), notes), _trust(run, variant)
        axis = charts.axis(table)
    # Its button says how many samples the search leaves, and stands before it.
    way_on = bar.container(width="content")
    samples, _ = filters.filtered(table, bar)
    _unlearning(run, samples, len(table), way_on)
    # What is looked for is looked for in the texts themselves.
    table, samples = redaction.applied(table), redaction.applied(samples)
    tie = partial(_tie, run, variant)
    quantiles = [] if summary.sigma is None else scale.in_words(table["mrd"], summary.sigma, variant)
    _one_screen(run, variant, table, samples, axis, quantiles, summary.preview, notes, filters.marked())
    if not summary.preview:
        ends.show(table)
    reliability_panel.show(table, samples, trust, summary, tie)
    figures = {} if summary.preview else charts.all_of(table, samples, axis)
    export.show(run, table, variant, config, figures)


@st.fragment
def _one_screen(
    run: Run,
    variant: Variant,
    table: pd.DataFrame,
    samples: pd.DataFrame,
    axis: str,
    quantiles: Sequence[str],
    is_preview: bool,
    notes: Mapping[str, SampleNote],
    marked: set[str] | None,
) -> None:
    """Show ranking, map and sample: from one sample to the next nothing else of the page is drawn anew.

    Args:
        run: The score run.
        variant: Which scores are looked at.
        table: All samples of the run.
        samples: Those that the filters leave.
        axis: Column that the map shows MRD against.
        quantiles: Whether a value of MRD is large, in sentences.
        is_preview: Whether the samples are ranked by speed + spread.
        notes: On samples, when the whole page was drawn.
        marked: The samples that were chosen in a chart when the whole page was drawn.
    """
    if filters.marked() != marked or read_notes(run.directory) != notes:
        st.rerun()
    selected = filters.selected_of(samples)
    with layout.grid("one_screen", columns=3, least="20.5rem"):
        if not redaction.is_on():
            # Before the tool bars of table and map for who goes by keyboard, behind them for who looks.
            st.html("<style>.st-key-one_screen > .st-key-open_sample { order: 1; }</style>")
            with st.container(key="open_sample"):
                token_view.show(run, table, samples, selected, variant.scope)
                sample_notes.show(run, notes, selected)
        with st.container():
            ranking_table.show(table, samples, selected, quantiles, is_preview=is_preview)
        if not is_preview:
            with st.container():
                charts.difficulty_map(table, samples, selected, axis, partial(_tie, run, variant))


def _next_steps(run: Run, summary: ScoreSummary, bar: DeltaGenerator) -> None:
    """Show the ways on from a ranking."""
    # The characteristics are read at once where they need no choice.
    if not summary.preview and bar.button(
        "Explain the differences", type="primary", icon=":material/category:", key="explain"
    ):
        if session.current_reading(run) is None:
            session.open_reading(launch(characteristics.default_config(run.directory)).id)
        st.switch_page(paths.CHARACTERISTICS, query_params={session.RUN: run.id})


def _unlearning(run: Run, samples: pd.DataFrame, whole: int, bar: DeltaGenerator) -> None:
    """Show the way to unlearning, of all samples or of those that the filters leave."""
    is_part = len(samples) < whole
    label = f"Unlearn these {len(samples)}" if is_part else "Unlearn"
    if bar.button(label, icon=":material/ink_eraser:", key="to_unlearning"):
        with errors_shown():
            unlearnings.select_stratum(run, set(samples["sample_id"]) if is_part else None)
        st.switch_page(paths.UNLEARNING, query_params={session.RUN: run.id})


@st.cache_data(show_spinner="Reading the draws", max_entries=8, hash_funcs=BY_ATTEMPT)
def _ranking(run: Run, variant: Variant) -> pd.DataFrame:
    return difficulty.ranking(ScoredRun(run.directory), variant)


@st.cache_data(show_spinner="Splitting the draws", max_entries=8, hash_funcs=BY_ATTEMPT)
def _trust(run: Run, variant: Variant) -> Trust:
    return difficulty.trust(ScoredRun(run.directory), variant)


@st.cache_data(show_spinner="Resampling the draws", max_entries=100, hash_funcs=BY_ATTEMPT)
def _tie(run: Run, variant: Variant, column: str) -> Estimate:
    table = _ranking(run, variant)
    mrd = difficulty.measured(ScoredRun(run.directory), variant, table["sample_id"])
    return difficulty.tie(table, column, mrd, replicates_for(len(table)))
