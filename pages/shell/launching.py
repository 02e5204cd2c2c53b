"""Launching a run of any kind, and taking up one that ended early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mrd_core.runs import LocalLauncher, Run, launcher, submit
from mrd_core.settings.configuration import RunConfig
from pages.shell import session


def launch(config: RunConfig, prepare: Callable[[Path], None] | None = None) -> Run:
    """Submit a run with these settings, start its worker, and return it; one that is made once may exist already.

    Args:
        config: Of the run.
        prepare: Writes what the run keeps of its own, in the place of its kind's own preparation.

    Raises:
        UserError: Something that the run builds on is missing or no good.
    """
    settings, store = session.settings(), session.store()
    return submit(config, store=store, settings=settings, launcher=LocalLauncher(settings), prepare=prepare)


def resume(run: Run) -> None:
    """Queue a run that ended early once more, and start its worker."""
    launcher.resume(run.id, store=session.store(), launcher=LocalLauncher(session.settings()))
