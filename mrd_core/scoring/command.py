"""`mrd-lens score`, read and written."""

from __future__ import annotations

from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.sources import is_nowhere
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.command import Command, Nested

PRESETS = {"recommended": EstimatorConfig(), "paper": EstimatorConfig.paper()}


def base(settings: Nested) -> Nested:
    """Return the estimator of the preset."""
    preset = settings.get("estimator", {}).get("preset", "recommended")
    if preset not in PRESETS:
        raise UserError(f"The preset '{preset}'", "is unknown.", f"Use {' or '.join(PRESETS)}.")
    return {"estimator": PRESETS[preset].model_dump()}


SCORE = Command(("score",), ScoreConfig, base)


def reproducible(config: ScoreConfig, directory: Path) -> ScoreConfig:
    """Return the configuration that scores the same samples again, from anywhere.

    Where no file holds them any more, or ever did, it names the copy that the run keeps in its directory.
    """
    if not is_nowhere(config.forget_set):
        return config
    kept = ForgetSetConfig(source=str(ScoreFiles(directory).samples))
    return config.model_copy(update={"forget_set": kept})
