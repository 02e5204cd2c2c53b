"""The form that launches an experiment on a score run."""

from __future__ import annotations

import pydantic

from mrd_core.experiments.kinds import experiments
from mrd_core.runs import Run
from mrd_core.settings.options import refusal
from pages.parts.evidence import launch, settings
from pages.shell.notices import errors_shown
from pages.shell.scored import scored as scored_run
from pages.shell.source import Source


def show(run: Run, kind: str) -> None:
    """Show the settings of an experiment with what they will take; the button launches it."""
    scored = scored_run(run)
    values = settings.ask(scored, kind)
    with errors_shown():
        settings.require_choices(values)
        if isinstance(retain := values.get("retain"), Source):
            values["retain"] = retain.config()
        try:
            config = experiments()[kind].config.model_validate(scored.settings | values)
        except pydantic.ValidationError as error:
            raise refusal(error, "Correct it above.") from error
        launch.offer(scored, config)
