"""Launching a run of any kind, and taking up one that ended early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mrd_core.runs import Run, submission, submit
from mrd_core.runs.launchers.choice import launcher_again, launcher_of
from mrd_core.settings.configuration import RunConfig
from pages.shell import engine, session


def launch(config: RunConfig, prepare: Callable[[Path], None] | None = None) -> Run:
    """Submit a run with these settings, start its worker, and return it; one that is made once may exist already.

    Args:
        config: Of the run.
        prepare: Writes what the run keeps of its own, in the place of its kind's own preparation.

    Raises:
        UserError: Something that the run builds on is missing or no good.
    """
    settings, store = session.settings(), session.store()
    launcher = launcher_of(engine.chosen(), settings)
    return submit(config, store=store, settings=settings, launcher=launcher, prepare=prepare)


def resume(run: Run) -> None:
    """Queue a run that ended early once more, and start its worker where it was before."""
    launcher = launcher_again(run, session.settings())
    submission.resume(run.id, store=session.store(), launcher=launcher)
