"""The charts of experiments, each in a box and to take along; where its points are samples, they select."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from analysis.evidence.change import PREDICTORS
from analysis.evidence.judge import ParameterChange, Selection, Sensitivity, Theorem
from analysis.evidence.selection import METRICS, SIZES
from analysis.figures import evidence as figures
from mrd_core.scoring.config import Normalisation
from pages.shell import filters, session
from pages.shell import layout as unlearn_layout
from pages.shell.downloads import figure_download

# A box is too narrow for plotly's whole tool bar beside its title; the wheel and the reset button zoom as well.
CONFIG = {"modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "autoScale2d"]}
LEAST_WIDTH = "24rem"


def chart(figure: Any, name: str, alt: str, notes: Sequence[str] = ()) -> None:
    """Show a figure in a box.

    Args:
        figure: What is shown.
        name: Of its file.
        alt: What it is.
        notes: Lines below it.
    """
    with st.container(border=True, height="stretch"):
        st.plotly_chart(figure, key=f"evidence_chart_{name}", config=CONFIG, alt=alt)
        _below(figure, name, notes)


def sample_chart(figure: Any, name: str, alt: str, label: str) -> None:
    """Show a figure whose points are samples: one becomes the sample looked at, several filter every view.

    Args:
        figure: The customdata of its points begins with the sample's id.
        name: Of its file.
        alt: What it is.
        label: Where samples that are chosen in it are from, for the chip.
    """
    key = f"evidence_chart_{name}_{session.charts_epoch()}"
    with st.container(border=True, height="stretch"):
        st.plotly_chart(
            figure,
            key=key,
            on_select=partial(filters.take_points, key, label),
            selection_mode=("points", "box", "lasso"),
            config=CONFIG,
            alt=alt,
        )
        _below(figure, name)


def _below(figure: Any, name: str, notes: Sequence[str] = ()) -> None:
    for note in notes:
        st.caption(note)
    figure_download(figure, f"evidence_{name}")


def parameter_change(found: ParameterChange) -> None:
    """Show how far the weights moved, and what that goes with."""
    predictor = st.selectbox(
        "Change against", list(PREDICTORS), format_func=PREDICTORS.__getitem__, key="evidence_predictor"
    )
    with unlearn_layout.grid("evidence_change", least=LEAST_WIDTH):
        chart(figures.change_histogram(found), "change", "How the parameter change is distributed over composites")
        chart(
            figures.change_scatter(found, predictor),
            "change_against",
            f"Parameter change of each composite against {PREDICTORS[predictor]}",
        )


def selection(found: Selection) -> None:
    """Show how much the choice of the samples moves a metric, for single samples and for groups."""
    metric = st.segmented_control(
        "Metric",
        found.metrics,
        default=found.metrics[0],
        required=True,
        format_func=METRICS.__getitem__,
        key="evidence_metric",
    )
    with unlearn_layout.grid("evidence_selection", least=LEAST_WIDTH):
        for size, words in SIZES.items():
            chart(
                figures.selection_strip(found, metric, size),
                f"selection_{size}",
                f"{METRICS[metric]} of {words} by method, random beside balanced selections",
            )


def sensitivity(found: Sensitivity) -> None:
    """Show MRD against σ and against the number of evaluations."""
    normalisation = st.segmented_control(
        "Over the tokens",
        [str(each) for each in Normalisation],
        default=str(Normalisation.MEAN),
        required=True,
        key="evidence_normalisation",
    )
    with unlearn_layout.grid("evidence_sensitivity", least=LEAST_WIDTH):
        chart(
            figures.sigma_curve(found, normalisation),
            "sigma",
            "MRD over σ² against σ, with the quadratic regime and the rounding floor of each precision",
        )
        chart(
            figures.evaluations_curve(found, normalisation),
            "evaluations",
            "Reliability and standard error against the number of evaluations, plain and antithetic",
        )


def theorem(found: Theorem) -> None:
    """Show MRD/σ² against half the trace, a point a sample."""
    with unlearn_layout.grid("evidence_theorem", least=LEAST_WIDTH):
        sample_chart(
            figures.theorem_scatter(found), "theorem", "MRD over σ² against half the trace", "from the theorem"
        )
        with st.container(border=True, height="stretch"):
            st.markdown("**Sample by sample**")
            st.dataframe(
                found.samples,
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
