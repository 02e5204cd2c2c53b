"""Selection bias: how much the choice of the samples moves a metric."""

from __future__ import annotations

import streamlit as st

from analysis.evidence.kinds.selection import METRICS, SIZES, Selection
from analysis.figures import evidence as figures
from mrd_core.experiments.kinds.selection import SelectionConfig
from mrd_core.runs import Run
from mrd_core.scoring.columns import MRD_TITLES
from pages.parts.evidence import charts
from pages.parts.evidence.presentation import Presentation
from pages.shell import layout
from pages.shell.inputs import Form, Values
from pages.shell.scored import Scored


def show(_run: Run, _experiment: Run, evidence: Selection) -> None:
    """Show how much the choice of the samples moves a metric, for single samples and for groups."""
    if not evidence.metrics:
        return
    metric = st.segmented_control(
        "Metric",
        evidence.metrics,
        default=evidence.metrics[0],
        required=True,
        format_func=METRICS.__getitem__,
        key="evidence_metric",
    )
    with layout.grid("evidence_selection", least=charts.LEAST_WIDTH):
        for size, words in SIZES.items():
            alt = f"{METRICS[metric]} of {words} by method, random beside balanced selections"
            charts.boxed(figures.selection_strip(evidence, metric, size), f"selection_{size}", alt)


def ask(_scored: Scored, form: Form) -> Values:
    """Ask what the samples are balanced by."""
    return {"column": form.choice(SelectionConfig, "column", "Balanced by", MRD_TITLES)}


PRESENTATION = Presentation(
    sizes={"selections": "Selections of a kind", "size": "Samples of a group"},
    show=show,
    ask=ask,
)
