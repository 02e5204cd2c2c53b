"""The form that launches an experiment on a score run."""

from __future__ import annotations

import pydantic

from mrd_core.experiments.config import EXPERIMENTS, ExperimentConfig
from mrd_core.runs import Run
from pages.components import evidence_defaults, evidence_launch, evidence_settings
from pages.components.evidence_defaults import Scored
from pages.components.notices import errors_shown
from pages.components.unlearn_inputs import refusal


def show(run: Run, kind: str) -> None:
    """Show the settings of an experiment with what they will take; the button launches it."""
    scored = evidence_defaults.scored(run)
    values = evidence_settings.ask(scored, kind)
    with errors_shown():
        evidence_launch.offer(scored, _config(scored, kind, values))


def _config(of: Scored, kind: str, values: evidence_settings.Values) -> ExperimentConfig:
    """Return what was asked for.

    Raises:
        UserError: A setting is none, or something is missing that another setting needs.
    """
    evidence_settings.require_choices(values)
    if "retain" in values:
        values = values | {"retain": evidence_settings.retain_config(values)}
    try:
        return EXPERIMENTS[kind].model_validate(of.settings | values)
    except pydantic.ValidationError as error:
        raise refusal(error) from error
