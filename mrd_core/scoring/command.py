"""`mrd-lens score`, read and written."""

from __future__ import annotations

from mrd_core.errors import UserError
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.settings.command import Command, Nested

PRESETS = {"recommended": EstimatorConfig(), "paper": EstimatorConfig.paper()}


def base(settings: Nested) -> Nested:
    """Return the estimator of the preset."""
    preset = settings.get("estimator", {}).get("preset", "recommended")
    if preset not in PRESETS:
        raise UserError(f"The preset '{preset}'", "is unknown.", f"Use {' or '.join(PRESETS)}.")
    return {"estimator": PRESETS[preset].model_dump()}


SCORE = Command(("score",), ScoreConfig, base)
