"""What experiments show: each is read by the module of its name in this package, with an `INTERPRETATION`."""

from __future__ import annotations

import importlib

from analysis.evidence.interpretation import Evidence, Interpretation
from analysis.evidence.measurements import Measurements


def interpretation(kind: str) -> Interpretation:
    """Return how an experiment is read: `parameter-change` is in the module `parameter_change`."""
    declared: Interpretation = importlib.import_module(f"{__name__}.{kind.replace('-', '_')}").INTERPRETATION
    return declared


def evidence_of(measurements: Measurements) -> Evidence:
    """Return what an experiment shows by what it has measured so far: `Validity`, `Selection` and so on."""
    return interpretation(measurements.config.kind).evidence(measurements)
