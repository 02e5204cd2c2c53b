"""Attacks on unlearned models: the settings that follow from the runs that are attacked, and a quick attempt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrd_core.experiments.kinds import durability
from mrd_core.experiments.kinds.durability import DurabilityConfig
from mrd_core.runs import Run
from mrd_core.studies.presets import demo_settings
from pages.shell.inputs import Values
from pages.shell.scored import Scored

DEMO_REFERENCE = "demo-retrained"
# Ends within three minutes on the demo's model and two cores.
QUICK = {name: value for name, value in demo_settings("durability").items() if name not in ("kind", "reference")}


def settings(directories: Sequence[Path]) -> Values:
    """Return what unlearning runs say of themselves: score run, samples, model, retain set."""
    runs = {"runs": list(directories)}
    return {**durability.base(runs), **runs} if directories else runs


def reference(scored: Scored) -> str | None:
    """Return the retrained model that goes through the same; None where none is known."""
    return DEMO_REFERENCE if scored.is_demo else None


def quick(scored: Scored, unlearned: Run) -> DurabilityConfig:
    """Return a quick attempt to bring back what an unlearning run of a score run forgot."""
    return DurabilityConfig.model_validate(
        settings([unlearned.directory]) | QUICK | {"reference": reference(scored)}
    )
