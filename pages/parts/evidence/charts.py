"""The charts of experiments, each in a box and to take along; where its points are samples, they select."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.evidence.change import PREDICTORS
from analysis.evidence.judge import ParameterChange, Selection, Sensitivity, Theorem
from analysis.evidence.selection import METRICS, SIZES
from analysis.figures import evidence as figures
from mrd_core.scoring.config import Normalisation
from pages.shell import layout
from pages.shell.charts import NARROW, sample_chart
from pages.shell.downloads import figure_download

LEAST_WIDTH = "24rem"


def chart(figure: Any, name: str, alt: str) -> None:
    """Show a figure in a box.

    Args:
        figure: What is shown.
        name: Of its file.
        alt: What it is.
    """
    with st.container(border=True, height="stretch"):
        st.plotly_chart(figure, key=f"evidence_chart_{name}", config=NARROW, alt=alt)
        figure_download(figure, f"evidence_{name}")


def boxed_sample_chart(figure: Any, name: str, alt: str, origin: str) -> None:
    """Show a figure whose points are samples in a box; those that are chosen in it are looked at in every view.

    Args:
        figure: The customdata of its points begins with the sample's id.
        name: Of its file.
        alt: What it is.
        origin: Where samples that are chosen in it are from, for the chip.
    """
    with st.container(border=True, height="stretch"):
        sample_chart(figure, f"evidence_chart_{name}", origin, alt, is_narrow=True)
        figure_download(figure, f"evidence_{name}")


def parameter_change(evidence: ParameterChange) -> None:
    """Show how far the weights moved, and what that goes with."""
    predictor = st.selectbox(
        "Change against", list(PREDICTORS), format_func=PREDICTORS.__getitem__, key="evidence_predictor"
    )
    with layout.grid("evidence_change", least=LEAST_WIDTH):
        chart(
            figures.change_histogram(evidence), "change", "How the parameter change is distributed over composites"
        )
        chart(
            figures.change_scatter(evidence, predictor),
            "change_against",
            f"Parameter change of each composite against {PREDICTORS[predictor]}",
        )


def selection(evidence: Selection) -> None:
    """Show how much the choice of the samples moves a metric, for single samples and for groups."""
    metric = st.segmented_control(
        "Metric",
        evidence.metrics,
        default=evidence.metrics[0],
        required=True,
        format_func=METRICS.__getitem__,
        key="evidence_metric",
    )
    with layout.grid("evidence_selection", least=LEAST_WIDTH):
        for size, words in SIZES.items():
            chart(
                figures.selection_strip(evidence, metric, size),
                f"selection_{size}",
                f"{METRICS[metric]} of {words} by method, random beside balanced selections",
            )


def sensitivity(evidence: Sensitivity) -> None:
    """Show MRD against σ and against the number of evaluations."""
    normalisation = st.segmented_control(
        "Over the tokens",
        [str(each) for each in Normalisation],
        default=str(Normalisation.MEAN),
        required=True,
        key="evidence_normalisation",
    )
    with layout.grid("evidence_sensitivity", least=LEAST_WIDTH):
        chart(
            figures.sigma_curve(evidence, normalisation),
            "sigma",
            "MRD over σ² against σ, with the quadratic regime and the rounding floor of each precision",
        )
        chart(
            figures.evaluations_curve(evidence, normalisation),
            "evaluations",
            "Reliability and standard error against the number of evaluations, plain and antithetic",
        )


def theorem(evidence: Theorem) -> None:
    """Show MRD/σ² against half the trace, a point a sample."""
    with layout.grid("evidence_theorem", least=LEAST_WIDTH):
        boxed_sample_chart(
            figures.theorem_scatter(evidence), "theorem", "MRD over σ² against half the trace", "from the theorem"
        )
        with st.container(border=True, height="stretch"):
            st.markdown("**Sample by sample**")
            st.dataframe(
                evidence.samples,
                hide_index=True,
                column_order=["sample_id", "half_trace", "mrd", "ratio", "n_tokens"],
                column_config={
                    "sample_id": st.column_config.TextColumn("Id"),
                    "n_tokens": st.column_config.NumberColumn("Tokens", width="small"),
                    "half_trace": st.column_config.NumberColumn("Half the trace", format="%.4g"),
                    "mrd": st.column_config.NumberColumn("MRD / σ²", format="%.4g"),
                    "ratio": st.column_config.NumberColumn("Ratio", format="%.3f", width="small"),
                },
                placeholder="–",
                alt="MRD over σ² and half the trace of each sample",
            )
