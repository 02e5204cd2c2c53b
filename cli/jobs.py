"""Submitting a run and carrying it out, here in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from cli.door import EXIT_USER_ERROR
from cli.terminal import err, note, print_json, warn
from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run, RunState, RunStore, submit, worker
from mrd_core.runs.faults import StoreError, patiently
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.runs.kind import kind_named
from mrd_core.runs.launchers.choice import launcher_of
from mrd_core.runs.launchers.config import LaunchConfig
from mrd_core.runs.launchers.local import LocalLauncher
from mrd_core.runs.launchers.port import Launcher, own_job
from mrd_core.settings.command import shown
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings
from mrd_core.settings.places import expanded

EXIT_FAILED, EXIT_CANCELLED, EXIT_INTERRUPTED = 1, 130, 143
EXITS = {RunState.CANCELLED: EXIT_CANCELLED, RunState.INTERRUPTED: EXIT_INTERRUPTED}


def store() -> RunStore:
    """Open the store of this installation; runs whose worker is gone are marked as lost."""
    opened = RunStore.open(Settings.from_environment())
    try:
        if opened.obstacle:
            raise opened.obstacle
        opened.reap()
        opened.empty_log()
    except StoreError as error:
        # What can be read can still be listed, shown and deleted.
        warn([f"{error.cause} {error.fix}"])
    return opened


def run_directory(name: str) -> Path:
    """Return the directory of a run that is named by it or by its id.

    Raises:
        UserError: There is no such run.
    """
    # An empty name would be the working directory.
    if not name.strip():
        raise UserError("The name of the run", "is empty.", "Give its id or its directory.")
    path = expanded(name)
    if (path / CONFIG_FILE).is_file():
        return path.resolve()
    if path.exists():
        raise UserError(str(path), f"is no run directory: it holds no {CONFIG_FILE}.", "Name that of a run.")
    return store().get(name).directory


def submitted(
    config: RunConfig, directory: Path | None = None, launch: LaunchConfig = LaunchConfig(), **preparation: Any
) -> Run:
    """Submit a run to the store of this installation, and to a scheduler where one is asked for.

    Args:
        config: Of the run.
        directory: Its directory; by default under MRD_HOME.
        launch: Where it is carried out.
        preparation: See `mrd_core.runs.submit`.
    """
    settings = Settings.from_environment()
    return submit(
        config,
        store=store(),
        settings=settings,
        directory=directory,
        launcher=elsewhere(launcher_of(launch, settings)),
        **preparation,
    )


def elsewhere(launcher: Launcher) -> Launcher | None:
    """Return the launcher of a run; None where it is this machine's, whose runs the command line carries out."""
    return None if isinstance(launcher, LocalLauncher) else launcher


def make(config: RunConfig, out_dir: Path | None, as_json: bool, launch: LaunchConfig) -> None:
    """Submit a run, carry it out and print how it came out; or leave that to a scheduler."""
    finish(submitted(config, out_dir, launch).directory, as_json)


def carried_out(directory: Path, as_json: bool) -> Run:
    """Carry out the run in a directory and return it as it ended; leave the program unless it succeeded.

    The program is left, too, where a scheduler was given the run, which is printed then.
    """
    # Who sits at a terminal hears at once that the store is away; a worker in the background waits for it.
    opened = store() if sys.stderr.isatty() else patiently(store)
    leave_to_scheduler(directory, opened, as_json)
    worker.run(directory, store=opened, foreground=True)
    run = patiently(lambda: opened.find_by_directory(directory))
    assert run is not None  # the worker registers every directory that it carries out
    if run.state in EXITS:
        note(f"{run.state.capitalize()}. Go on with: {shown('runs', 'resume', run.id)}")
        raise click.exceptions.Exit(EXITS[run.state])
    if run.state is not RunState.SUCCEEDED:
        by_user = run.error is not None and run.error.type == "UserError"
        raise click.exceptions.Exit(EXIT_USER_ERROR if by_user else EXIT_FAILED)
    return run


def leave_to_scheduler(directory: Path, opened: RunStore, as_json: bool) -> None:
    """Say where a run waits that a scheduler was given, and leave the program; do nothing with any other run."""
    run = patiently(lambda: opened.find_by_directory(directory))
    if run and run.job and run.state in ACTIVE and own_job() is None:
        note(f"Run {run.id} is {run.launcher} job {run.job}, in {run.directory}")
        note(f"See how it goes with: {shown('runs', 'show', run.id)}")
        if as_json:
            names = {"run": run.id, "directory": str(run.directory)}
            print_json(names | {"launcher": run.launcher, "job": run.job, "state": run.state})
        raise click.exceptions.Exit(0)


def finish(directory: Path, as_json: bool) -> None:
    """Carry out the run in a directory and print how it came out; leave one that a scheduler has to it."""
    run = carried_out(directory, as_json)
    summary: dict[str, Any] = run.summary or {}
    description = kind_named(run.kind).describe(run.directory, summary)
    if description.table is not None:
        table = Table(box=None, pad_edge=False)
        for name in map(str, description.table):
            table.add_column(name, no_wrap=True, justify="right" if name in ("value", "samples") else "left")
        for row in description.table.itertuples(index=False):
            table.add_row(*map(escape, row))
        err.print(table)
    warn(summary["warnings"])
    for line in description.lines:
        note(line)
    if as_json:
        print_json(summary)
