"""Sensitivity: MRD against σ and against the number of evaluations."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.evidence.kinds.sensitivity import Sensitivity
from analysis.figures import evidence as figures
from mrd_core.experiments.kinds.sensitivity import SensitivityConfig
from mrd_core.runs import Run
from mrd_core.scoring.config import Normalisation
from pages.parts.evidence import charts
from pages.parts.evidence.presentation import Presentation
from pages.shell import layout
from pages.shell.inputs import Form


def _show(_run: Run, _experiment: Run, evidence: Sensitivity) -> None:
    """Show MRD against σ and against the number of evaluations."""
    normalisation = st.segmented_control(
        "Over the tokens",
        [str(each) for each in Normalisation],
        default=str(Normalisation.MEAN),
        required=True,
        key="evidence_normalisation",
    )
    with layout.grid("evidence_sensitivity", least=charts.LEAST_WIDTH):
        charts.chart(
            figures.sigma_curve(evidence, normalisation),
            "sigma",
            "MRD over σ² against σ, with the quadratic regime and the rounding floor of each precision",
        )
        charts.chart(
            figures.evaluations_curve(evidence, normalisation),
            "evaluations",
            "Reliability and standard error against the number of evaluations, plain and antithetic",
        )


def _ask(form: Form) -> dict[str, Any]:
    config = SensitivityConfig
    default = ", ".join(f"{sigma:g}" for sigma in config.model_fields["sigmas"].default)
    sigmas = form.text(config, "sigmas", "Values of σ", default)
    with layout.grid("evidence_precision", least="20rem"):
        return {
            "sigmas": [part.strip() for part in sigmas.split(",") if part.strip()],
            "dtypes": form.several(config, "dtypes", "Precisions"),
            "sigma": form.text(config, "sigma", "σ of the study of K"),
        }


PRESENTATION = Presentation(
    sizes={"samples": "Samples", "pairs": "Pairs at each σ", "draws": "Evaluations for K"},
    demo_sizes={"samples": 40},
    show=_show,
    ask=_ask,
)
