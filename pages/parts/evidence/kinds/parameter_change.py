"""Parameter change: how far the weights moved, and what that goes with."""

from __future__ import annotations

from analysis.evidence.kinds.parameter_change import PREDICTORS, ParameterChange
from analysis.figures import evidence as figures
from mrd_core.runs import Run
from pages.parts.evidence import charts
from pages.parts.evidence.presentation import Presentation
from pages.shell import layout
from pages.shell.inputs import select


def show(_run: Run, _experiment: Run, evidence: ParameterChange) -> None:
    """Show how far the weights moved, and what that goes with."""
    predictor = select("Change against", PREDICTORS, "evidence_predictor")
    with layout.grid("evidence_change", least=charts.LEAST_WIDTH):
        alt = "How the parameter change is distributed over composites"
        charts.boxed(figures.change_histogram(evidence), "change", alt)
        alt = f"Parameter change of each composite against {PREDICTORS[predictor]}"
        charts.boxed(figures.change_scatter(evidence, predictor), "change_against", alt)


PRESENTATION = Presentation(
    sizes={"composites": "Composites", "size": "Samples of each"},
    show=show,
)
