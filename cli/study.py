"""`mrd-lens study run | show | list`: studies as files, and as the store has them."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd

from cli.form import InOrder, json_option, launch_options
from cli.jobs import EXIT_CANCELLED, EXIT_FAILED, EXITS, elsewhere, store
from cli.terminal import grid, note, out, print_json, say, warn
from mrd_core.errors import UserError
from mrd_core.runs import Launcher, Run, RunState, worker
from mrd_core.runs.kind import Kind, headline, is_known, kind_named
from mrd_core.runs.launchers.choice import launcher_of
from mrd_core.runs.launchers.config import LaunchConfig
from mrd_core.settings.command import shown
from mrd_core.settings.installation import Settings
from mrd_core.studies.cost import Cost
from mrd_core.studies.course import LEFT, Course, Ending, Line, Standing, left
from mrd_core.studies.outcome import outcome
from mrd_core.studies.rows import rows_of
from mrd_core.studies.study import Study, read, shipped

MINUTE, HOUR = 60, 3600
_CHANGES = click.Option(
    ["changes", "--set"],
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting in the place of the file's: models.base=path/to/model, unlearn.seed=[0,1]. May be repeated.",
)
_PACE = click.Option(
    ["--pace"],
    type=click.FloatRange(min=0, min_open=True),
    help="Operations per second that the estimates go by, such as 4e14; by default those of earlier runs.",
)
_STUDY = click.Argument(["name"], metavar="STUDY")


def _run(
    name: str,
    changes: tuple[str, ...],
    dry_run: bool,
    budget: float | None,
    background: bool,
    pace: float | None,
    as_json: bool,
    launch: LaunchConfig,
) -> None:
    """Carry out what of a study is not there yet."""
    study, settings = read(name, changes), Settings.from_environment()
    course = Course(study.name, rows_of(study), store(), settings, pace)
    if dry_run:
        lines = course.lines()
        _print(study, Ending(lines), as_json)
        note("Nothing was started.")
        return
    try:
        ending = course.carry_out(
            _launchers(launch, settings, background),
            _carry_out,
            note,
            budget,
        )
    except KeyboardInterrupt:
        # Nothing was at work here at that moment: what others carry out goes on.
        note(f"Stopped. Go on with: {_again(name, changes)}")
        raise click.exceptions.Exit(EXIT_CANCELLED) from None
    _print(study, ending, as_json)
    _conclude(ending, _again(name, changes))


def _launchers(launch: LaunchConfig, settings: Settings, background: bool) -> Callable[[Kind], Launcher] | None:
    """Return what starts the runs of a kind; None where they are carried out here, one after the other."""
    launcher = launcher_of(launch, settings)
    if elsewhere(launcher) is None:
        return (lambda _kind: launcher) if background else None
    # Only some kinds of run can be shared out to several jobs.
    alone = launcher_of(launch.model_copy(update={"jobs": 1}), settings)
    return lambda kind: launcher if kind.is_shared else alone


def _carry_out(directory: Path) -> None:
    """Carry out a run here, and give back the memory of GPUs: the next one may have processes of its own there."""
    worker.run(directory, foreground=True)
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _conclude(ending: Ending, again: str) -> None:
    """Say what is left, and leave the program unless all is there."""
    if ending.over_budget is not None:
        rest = [line for line in ending.lines if line.standing in LEFT]
        about = f"about {_time(left(ending.lines))}" if rest else "nothing"
        note(f"The budget has no room for “{ending.over_budget.name}”; {len(rest)} run(s) are left, {about}.")
    if ending.stopped is not None or ending.over_budget is not None:
        note(f"Go on with: {again}")
    if ending.stopped is not None:
        raise click.exceptions.Exit(EXITS[ending.stopped])
    failed = [line for line in ending.lines if line.standing is Standing.FAILED]
    for line in failed:
        warn([f"{line.row.name}: {line.reason}"])
    if failed:
        note(f"Try them once more with: {again}")
        raise click.exceptions.Exit(EXIT_FAILED)


def _show(name: str, changes: tuple[str, ...], as_json: bool) -> None:
    """Show each run of a study, and how it came out."""
    opened = store()
    try:
        study = read(name, changes)
    except UserError:
        runs = [run for run in reversed(opened.list()) if run.study == name]
        if not runs:
            raise
        _print_runs(name, runs, as_json)
        return
    lines = Course(study.name, rows_of(study), opened, Settings.from_environment()).lines()
    _print(study, Ending(lines), as_json)
    if not as_json:
        _lead_on([line.run for line in lines if line.run is not None and line.standing is Standing.EXISTS])


def _list(as_json: bool) -> None:
    """List the studies that ship with the program, and those of the store."""
    files = [(name, read(str(path))) for name, path in shipped().items()]
    stored: dict[str, list[Run]] = {}
    for run in store().list():
        if run.study is not None:
            stored.setdefault(run.study, []).append(run)
    if as_json:
        own = [{"name": name, "title": each.title, "runs": len(rows_of(each))} for name, each in files]
        others = {name: dict(Counter(str(run.state) for run in runs)) for name, runs in stored.items()}
        print_json({"shipped": own, "stored": others})
        return
    table = [(name, str(len(rows_of(study))), study.title) for name, study in files]
    out.print(grid("Shipped", pd.DataFrame(table, columns=["study", "runs", "what it is"])))
    if stored:
        states = [(name, str(len(runs)), _counted(run.state for run in runs)) for name, runs in stored.items()]
        out.print(grid("In the store", pd.DataFrame(states, columns=["study", "runs", "states"])))


def _print(study: Study, ending: Ending, as_json: bool) -> None:
    """Print the runs of a study as they stand, and what those that are left will cost."""
    lines = ending.lines
    if as_json:
        print_json(
            {
                "study": study.name,
                "title": study.title,
                "runs": [_as_json(line) for line in lines],
                "left_seconds": left(lines).seconds,
                "left_unknown": sum(line.cost.seconds is None for line in lines if line.standing in LEFT),
                "over_budget": ending.over_budget.name if ending.over_budget else None,
            }
        )
        return
    table = [(str(number), line.row.name, line.standing, _figures(line)) for number, line in enumerate(lines, 1)]
    out.print(grid(study.title, pd.DataFrame(table, columns=["", "run", "state", "cost or outcome"])))
    is_left = [line for line in lines if line.standing in LEFT]
    say(f"{len(lines)} runs: {_counted(line.standing for line in lines)}.")
    if is_left:
        say(f"Left: about {_time(left(lines))}, one run after the other.")
        for kind, basis in {line.row.kind: line.cost.basis for line in is_left if line.cost.seconds}.items():
            say(f"Estimated for {kind}: {basis}.")
        for memory in dict.fromkeys(line.cost.memory for line in is_left if line.cost.memory):
            say(f"Memory for unlearn: {memory}.")


def _figures(line: Line) -> str:
    """Return how a run came out, or what it will cost, or what is in its way."""
    if line.standing is Standing.EXISTS and line.run is not None:
        return headline(line.run)
    if line.standing in LEFT:
        return f"about {_time(line.cost)}" if line.cost.seconds is not None else f"unknown: {line.cost.basis}"
    return line.reason or "waits for a run that failed"


def _as_json(line: Line) -> dict[str, Any]:
    run = line.run
    return {
        "name": line.row.name,
        "kind": line.row.kind,
        "state": line.standing,
        "run": run.id if run else None,
        "directory": str(run.directory) if run else None,
        "seconds": line.cost.seconds,
        "basis": line.cost.basis,
        "memory": line.cost.memory or None,
        "reason": line.reason or None,
        "outcome": outcome(run) if run else None,
    }


def _print_runs(name: str, runs: Sequence[Run], as_json: bool) -> None:
    """Print the runs that carry the name of a study, where no file says what they are."""
    if as_json:
        content = [
            {
                "name": run.title,
                "kind": run.kind,
                "state": run.state,
                "run": run.id,
                "directory": str(run.directory),
                "outcome": outcome(run),
            }
            for run in runs
        ]
        print_json({"study": name, "runs": content})
        return
    table = [(run.title, run.state, run.id, headline(run)) for run in runs if is_known(run.kind)]
    out.print(grid(name, pd.DataFrame(table, columns=["run", "state", "id", "outcome"])))
    _lead_on([run for run in runs if run.state is RunState.SUCCEEDED])


def _lead_on(runs: Sequence[Run]) -> None:
    """Say how the results are seen together."""
    evaluations = [run.directory for run in runs if run.kind == "evaluate"]
    if len(evaluations) > 1:
        note(f"Side by side: {shown('compare', *evaluations)}")
    experiments = [run.directory for run in runs if kind_named(run.kind).label.startswith("Experiment")]
    if experiments:
        note(f"What they show: {shown('evidence', *experiments)}")


def _counted(states: Iterable[str]) -> str:
    """Return how many there are of each: `3 exists, 2 to do`."""
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


def _again(name: str, changes: Sequence[str]) -> str:
    typed = str(Path(name).resolve()) if Path(name).is_file() else name
    return shown("study", "run", typed, *(word for change in changes for word in ("--set", change)))


def _time(cost: Cost) -> str:
    """Return a time as people say it, and what is not known of it."""
    seconds = cost.seconds or 0.0
    if seconds < 2 * MINUTE:
        words = f"{seconds:.0f} s"
    elif seconds < 2 * HOUR:
        words = f"{seconds / MINUTE:.0f} min"
    else:
        words = f"{seconds / HOUR:.1f} h"
    return f"{words} {cost.basis}".strip() if cost.basis.startswith("and ") else words


_RUN_OPTIONS = [
    _STUDY,
    _CHANGES,
    click.Option(["--dry-run"], is_flag=True, help="Start nothing; print the runs and their cost."),
    click.Option(
        ["--budget"],
        type=click.FloatRange(min=0),
        help="Stop before a run that would not fit in so many hours any more [h].",
    ),
    click.Option(
        ["--background"],
        is_flag=True,
        help="Start each run as a process of its own as soon as what it builds on is there.",
    ),
    _PACE,
    json_option("End with one line of JSON instead of a table."),
]
study = InOrder(
    "study",
    {
        "run": click.command(
            "run",
            params=_RUN_OPTIONS,
            help="Carry out what of a study is not there yet: STUDY is a file, or the name of a shipped one.",
        )(launch_options(_run)),
        "show": click.Command(
            "show",
            params=[_STUDY, _CHANGES, json_option("Print one line of JSON instead of a table.")],
            callback=_show,
            help="Show each run of a study: STUDY is a file, a shipped one, or a name that runs carry.",
        ),
        "list": click.Command(
            "list",
            params=[json_option("Print one line of JSON instead of tables.")],
            callback=_list,
            help="List the studies that ship with the program, and those of the store.",
        ),
    },
    no_args_is_help=True,
)
