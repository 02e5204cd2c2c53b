"""`mrd-lens unlearn`, read and written."""

from __future__ import annotations

from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import Command, Nested
from mrd_core.unlearning.config import UnlearnConfig


def base(settings: Nested) -> Nested:
    """Return the model that was scored, and an end."""
    return on_scores(read_config(settings["score_run"], ScoreConfig), settings)


def on_scores(config: ScoreConfig, settings: Nested) -> Nested:
    """Return the same for a score run by its configuration, which may be yet to be carried out."""
    scored: Nested = {"model": config.model.model_dump()}
    # A limit of steps stands alone; the default of epochs is for those who set none.
    if {"max_steps", "max_epochs"} & settings.get("limits", {}).keys():
        return scored
    return scored | {"limits": UnlearnConfig.model_fields["limits"].default.model_dump()}


UNLEARN = Command(("unlearn",), UnlearnConfig, base)
