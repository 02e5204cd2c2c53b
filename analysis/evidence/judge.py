"""What an experiment shows: verdicts in words, with intervals and caveats, and the frames behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.evidence.change import ParameterChange, parameter_change
from analysis.evidence.headlines import Headline, headlines_of
from analysis.evidence.runs import Evidence, Measurements, measurements
from analysis.evidence.selection import Selection, selection
from analysis.evidence.sensitivity import Sensitivity, sensitivity
from analysis.evidence.theorem import Theorem, theorem
from analysis.evidence.validity import Arm, Validity, validity
from mrd_core.experiments.config import ValidityConfig

__all__ = [
    "Arm",
    "Evidence",
    "Headline",
    "Measurements",
    "ParameterChange",
    "Selection",
    "Sensitivity",
    "Theorem",
    "Validity",
    "headlines",
    "judge",
    "measurements",
]

JUDGES: dict[str, Callable[[Measurements], Evidence]] = {
    "validity": validity,
    "parameter-change": parameter_change,
    "selection": selection,
    "sensitivity": sensitivity,
    "theorem": theorem,
}


def judge(found: Measurements) -> Evidence:
    """Judge what an experiment has measured so far: `Validity`, `ParameterChange`, `Selection` and so on."""
    return JUDGES[found.config.name](found)


def headlines(directory: Path) -> list[Headline]:
    """Return what a validity experiment says of MRD, a line per arm; none for any other experiment.

    Raises:
        UserError: It is no directory of an experiment.
    """
    found = measurements(directory)
    return headlines_of(found) if isinstance(found.config, ValidityConfig) else []
