"""The form that launches an experiment on a score run."""

from __future__ import annotations

import pydantic

from mrd_core.experiments.config import EXPERIMENTS, ExperimentConfig
from mrd_core.runs import Run
from pages.parts.evidence import launch as evidence_launch
from pages.parts.evidence import settings as evidence_settings
from pages.shell.inputs import refusal
from pages.shell.notices import errors_shown
from pages.shell.scored import Scored
from pages.shell.scored import scored as scored_run


def show(run: Run, kind: str) -> None:
    """Show the settings of an experiment with what they will take; the button launches it."""
    scored = scored_run(run)
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
