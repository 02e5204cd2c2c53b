"""Sensitivity: MRD against σ and against the number of evaluations."""

from __future__ import annotations

import streamlit as st

from analysis.evidence.kinds.sensitivity import Sensitivity
from analysis.figures import evidence as figures
from mrd_core.experiments.kinds.sensitivity import SensitivityConfig
from mrd_core.runs import Run
from mrd_core.scoring.config import Normalisation
from mrd_core.settings.fields import declared
from pages.parts.evidence import charts
from pages.parts.evidence.presentation import Presentation
from pages.shell import layout
from pages.shell.inputs import Form, Values
from pages.shell.scored import Scored


def show(_run: Run, _experiment: Run, evidence: Sensitivity) -> None:
    """Show MRD against σ and against the number of evaluations."""
    normalisation = st.segmented_control(
        "Over the tokens",
        list(map(str, Normalisation)),
        default=str(Normalisation.MEAN),
        required=True,
        key="evidence_normalisation",
    )
    with layout.grid("evidence_sensitivity", least=charts.LEAST_WIDTH):
        alt = "MRD over σ² against σ, with the quadratic regime and the rounding floor of each precision"
        charts.boxed(figures.sigma_curve(evidence, normalisation), "sigma", alt)
        alt = "Reliability and standard error against the number of evaluations, plain and antithetic"
        charts.boxed(figures.evaluations_curve(evidence, normalisation), "evaluations", alt)


def ask(_scored: Scored, form: Form) -> Values:
    """Ask for the values of σ and the precisions."""
    config = SensitivityConfig
    default = ", ".join(f"{sigma:g}" for sigma in declared(config, "sigmas").default)
    labels = {"dtypes": "Precisions", "sigma": "σ of the study of K"}
    sigmas = form.text(config, "sigmas", "Values of σ", default)
    with layout.grid("evidence_precision", least="20rem"):
        values = form.fields(config, labels)
    return values | {"sigmas": [part.strip() for part in sigmas.split(",") if part.strip()]}


PRESENTATION = Presentation(
    sizes={"samples": "Samples", "pairs": "Pairs at each σ", "draws": "Evaluations for K"},
    show=show,
    ask=ask,
)
