"""How far a ranking can be trusted, and why."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from analysis.difficulty import Trust
from analysis.figures import difficulty as figures
from analysis.statistics.bootstrap import Estimate
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.records import ScoreSummary
from pages.parts.difficulty import charts
from pages.shell.charts import chart, reasons_table
from pages.shell.wording import capitalised, duration, figure_or, term


def _headline(trust: Trust, summary: ScoreSummary) -> None:
    """Show size, precision, reliability and cost of a ranking."""
    row = st.container(horizontal=True)
    row.metric("Samples", summary.n_samples)
    row.metric(
        "Median relative SE",
        figure_or(trust.median_relative_se, ".1%", "undefined"),
        help=f"Median over samples of {term('SE')} / {'(speed + spread)' if summary.preview else term('MRD')}.",
    )
    meaning = "Spearman–Brown of split halves: how well an equal run would rank the samples alike. 1 is perfect."
    meaning += f" More: {term('reliability')}."
    for normalisation in (Normalisation.MEAN, Normalisation.SUM):
        reliability = figure_or(trust.reliability[normalisation], ".3f", "undefined")
        row.metric(f"Reliability, {normalisation}", reliability, help=meaning)
    # Runs of earlier versions have no other measures.
    measures = summary.seconds_measures
    besides = f"; the other measures took {duration(measures)} more" if measures else ""
    probes = f" and {summary.probes} sign probes" if summary.probes else ""
    drawn = f"{summary.evaluations} forward evaluations{probes}"
    if summary.preview:
        drawn = f"{summary.probes} sign probes of speed and of spread"
    sigma = "" if summary.sigma is None else f", σ = {summary.sigma:g}"
    row.metric(
        "Cost",
        duration(summary.seconds),
        help=f"{drawn} on {summary.device} in {summary.dtype}{sigma}{besides}",
    )


def show(
    table: pd.DataFrame,
    samples: pd.DataFrame,
    trust: Trust,
    summary: ScoreSummary,
    tie: Callable[[str], Estimate],
) -> None:
    """Show reliability, precision gate, left-out tokens, standard errors and the automatic choices.

    Args:
        table: All samples of the run.
        samples: Those that the filters leave.
        trust: How reliable their ranking is.
        summary: The figures of the run.
        tie: Returns how a column of the table goes with MRD.
    """
    st.header("How far to trust the ranking")
    _headline(trust, summary)
    left, right = st.columns(2)
    with left:
        reliability = pd.DataFrame(
            {
                "Ranking by": map(str, Normalisation),
                "Spearman–Brown": map(trust.reliability.get, Normalisation),
                "length partialled out": map(trust.length_partialled.get, Normalisation),
            }
        )
        st.dataframe(
            reliability,
            hide_index=True,
            placeholder="undefined",
            column_config=dict.fromkeys(reliability.columns[1:], st.column_config.NumberColumn(format="%.3f")),
            alt="Reliability of the ranking, for sum and mean, with and without length",
        )
        if summary.gate:
            icon = ":material/check_circle: passed" if summary.gate["passed"] else ":material/warning: not passed"
            st.markdown(f"**Precision gate** {icon}")
            st.caption(capitalised(str(summary.gate["reason"])))
        if summary.preview_rho is not None:
            worth = figures.tie_in_words(tie("speed_and_spread"), "Speed + spread alone with MRD")
            st.markdown(f"**A preview of this run** {worth}")
        st.markdown(
            f"**Left out** {table['excluded_tokens'].sum()} of "
            f"{(table['excluded_tokens'] + table['n_tokens']).sum()} tokens "
            "(|log p| below 1e-6, where a relative change is only rounding)"
        )
        st.markdown(f"**Weights** bit-equal after the run: {'yes' if summary.weights_untouched else 'no'}")
    if not summary.preview:
        figure = figures.relative_se_histogram(table)
        with right:
            chart(figure, "errors", "Histogram of the relative standard errors", "relative_se")
        with left:
            charts.distribution(samples)
    with st.expander("What was chosen automatically, and why", icon=":material/rule_settings:"):
        reasons_table(summary.reasons)
