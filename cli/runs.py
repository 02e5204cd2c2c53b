"""`mrd-lens runs …` and `mrd-lens run`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from textwrap import shorten

import click
from rich.markup import escape
from rich.table import Table

from cli import terminal
from cli.form import InOrder, launch_options
from cli.jobs import elsewhere, finish, store
from cli.terminal import out, warn
from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState, RunStore, annotation, submission
from mrd_core.runs.kind import headline, kind_named
from mrd_core.runs.launchers.choice import launcher_again
from mrd_core.runs.launchers.config import LaunchConfig
from mrd_core.runs.launchers.watch import job_of
from mrd_core.runs.liveness import was_killed
from mrd_core.runs.logs import logs
from mrd_core.runs.record import RESUMABLE
from mrd_core.runs.submission import adopt, directories_in, unlisted
from mrd_core.runs.team import ASKED, Seat, follow
from mrd_core.settings.command import shown
from mrd_core.settings.installation import Settings
from mrd_core.settings.places import expanded

POLL_INTERVAL = 0.2


@click.group(cls=InOrder, no_args_is_help=True)
def runs() -> None:
    """Do nothing before the command."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, help="Most runs to list, newest first.")
def list_runs(limit: int) -> None:
    """List runs, newest first."""
    opened = store()
    table = Table(box=None, pad_edge=False)
    # Ids, states and dates are copied and compared, so they are never cut.
    for name, width in (("run", 24), ("state", 10), ("created", 16), ("title", None), ("progress", None)):
        table.add_column(name, min_width=width)
    for run in opened.list(limit=limit):
        created = f"{run.created_at.astimezone():%Y-%m-%d %H:%M}"
        done, total = run.progress.get("done"), run.progress.get("total")
        # How far it is, or how it ended, in a few words.
        if outcome := headline(run):
            progress = shorten(outcome, 60, placeholder=" …") if run.error else outcome
        elif run.state is RunState.QUEUED and (job := job_of(run)):
            progress = job.stated
        elif total:
            progress = f"{done} of {total} {kind_named(run.kind).counted}"
        else:
            progress = str(run.progress.get("message", ""))
        title = f"{run.title} ({', '.join(run.tags)})" if run.tags else run.title
        table.add_row(run.id, run.state, created, escape(title), escape(progress))
    out.print(table if table.row_count else f"No runs yet. Begin with: {shown('demo')}")
    if (left := unlisted(opened)) and not opened.obstacle:
        terminal.note(
            f"Not in this list: {len(left)} run(s) in {opened.home / 'runs'} that the store does not know."
        )
        terminal.note(f"Take them up with: {shown('runs', 'adopt', opened.home / 'runs')}")


@runs.command()
@click.argument("run_id", metavar="RUN")
def show(run_id: str) -> None:
    """Show a run: state, directory, command, figures, what happened."""
    opened = store()
    run = opened.get(run_id)
    out.print(f"{run.id}  {run.state}  {escape(run.title)}", highlight=False)
    out.print(f"directory  {escape(str(run.directory))}")
    for name, text in (("tags", ", ".join(run.tags)), ("note", run.note)):
        if text:
            out.print(f"{name:9}  {escape(text)}", highlight=False)
    if job := job_of(run):
        out.print(f"job        {escape(job.stated)}")
    if run.state in RESUMABLE:
        out.print(f"command    {shown('runs', 'resume', run.id)}")
    elif run.state is RunState.QUEUED and run.job is None:
        out.print(f"command    {escape(shown('run', run.directory))}")
    if run.error:
        out.print(f"error      {escape(run.error.cause)} {escape(run.error.advice)}")
    for event in opened.events(run.id).itertuples():
        out.print(f"{event.level:8} {escape(str(event.message))}", highlight=False)
    if run.summary:
        out.print_json(data=run.summary)


@runs.command()
@click.argument("run_id", metavar="RUN")
def log(run_id: str) -> None:
    """Print the ends of a run's logs: its worker's, and those of its jobs on other machines."""
    for one in logs(store().get(run_id).directory):
        out.rule(escape(one.name), align="left")
        out.print(escape(one.text), highlight=False)


@runs.command()
@click.argument("run_id", metavar="RUN")
def cancel(run_id: str) -> None:
    """Ask a run to stop; what it has finished is kept."""
    out.print(f"{run_id} is {store().request_cancel(run_id)}.")


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Of an unlearning run or an evaluation: how many work on it from now on; by default as many as before.",
)
@launch_options
def resume(run_id: str, processes: int | None, launch: LaunchConfig) -> None:
    """Go on with a run that ended early: here in the foreground, or where a scheduler carried it out before."""
    opened = store()
    if not Seat.own().leads:
        follow(opened.get(run_id).directory)
        return
    if processes is not None:
        os.environ[ASKED] = str(processes)
    finish(taken_up(opened, opened.get(run_id), launch), as_json=False)


def taken_up(opened: RunStore, run: Run, launch: LaunchConfig = LaunchConfig()) -> Path:
    """Return the directory of a run that ended early, queued again for a worker, or given to its scheduler again.

    Raises:
        UserError: It cannot be resumed.
    """
    while was_killed(opened.get(run.id)):
        # Its last heartbeat is too fresh for it to be called lost.
        time.sleep(POLL_INTERVAL)
        opened.reap()
    run = opened.get(run.id)
    # Killed before it took the run up, a worker leaves it waiting for another one.
    waiting = run.state is RunState.QUEUED and run.pid is None
    if not waiting:
        launcher = elsewhere(launcher_again(run, Settings.from_environment(), launch))
        run = submission.resume(run.id, store=opened, launcher=launcher)
    return run.directory


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.argument("name")
def rename(run_id: str, name: str) -> None:
    """Call a run by another NAME; "" gives back that of its settings."""
    opened = store()
    run = annotation.rename(opened, opened.get(run_id), name)
    out.print(f"{run.id} is called {escape(run.title)}.", highlight=False)


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take them off instead.")
def tag(run_id: str, tags: tuple[str, ...], remove: bool) -> None:
    """Put tags on a run, which lists show and find."""
    opened = store()
    run = opened.get(run_id)
    run = annotation.tag(opened, run, remove=tags) if remove else annotation.tag(opened, run, tags)
    out.print(
        f"{run.id} has {'the tags ' + escape(', '.join(run.tags)) if run.tags else 'no tags'}.", highlight=False
    )


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.argument("text")
def note(run_id: str, text: str) -> None:
    """Write a note on a run, in place of the one that it had; "" removes it."""
    opened = store()
    run = annotation.note(opened, opened.get(run_id), text)
    out.print(f"{run.id} has {'a' if run.note else 'no'} note.", highlight=False)


@runs.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask; wants whole ids.")
def delete(run_ids: tuple[str, ...], yes: bool) -> None:
    """Delete runs with their copies of texts, their results and their rows in the store."""
    opened = store()
    named = {run_id: opened.get(run_id) for run_id in run_ids}
    for run_id, run in named.items():
        if yes and run.id != run_id.strip():
            raise UserError(
                f"runs delete --yes {run_id}",
                "names a run by the beginning of its id.",
                f"Give the whole id: {run.id}.",
            )
        if not yes:
            click.confirm(f"Delete {run.id} ({run.title}) and everything in {run.directory}?", abort=True)
    ids = dict.fromkeys(run.id for run in named.values())
    opened.delete(*ids)
    out.print("\n".join(f"{run_id} is deleted." for run_id in ids))
    if not opened.empty_log():
        log = opened.write_ahead_log
        warn([f"Another program is reading the store, so {log} may quote them until the next command."])


@runs.command("adopt")
@click.argument("directory", metavar="DIR")
def adopt_runs(directory: str) -> None:
    """Take up run directories that the store does not know: DIR itself, or those in it."""
    opened, folder = store(), expanded(directory).resolve()
    if not directory.strip() or not folder.is_dir():
        raise UserError(
            f"The folder '{directory}'", "does not exist.", "Name a run directory, or a folder of some."
        )
    count = 0
    for path in directories_in(folder):
        if opened.find_by_directory(path):
            continue
        try:
            run = adopt(path, opened)
        except UserError as error:
            warn([f"{error.cause} {error.fix}"])
            continue
        count += 1
        out.print(f"{run.id}  {run.state}  {escape(run.title)}", highlight=False)
    out.print(f"{count} run(s) taken up.")


@click.command()
@click.argument("directory", help="Run directory with a config.json.")
def run(directory: str) -> None:
    """Carry out a run."""
    if not directory.strip():
        raise UserError("The run directory", "has no name.", "Give the directory of a run.")
    if not Seat.own().leads:
        follow(expanded(directory))
        return
    finish(expanded(directory), as_json=False)
