"""`mrd-lens share`, and score runs that the jobs of a scheduler share."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import click
from pydantic import ValidationError

from cli.jobs import finish, run_directory, store, submitted
from cli.runs import taken_up
from cli.terminal import note, print_json, warn
from mrd_core.errors import UserError
from mrd_core.runs import RunState
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.runs.launchers.port import own_job
from mrd_core.runs.record import ACTIVE
from mrd_core.runs.submission import adopt
from mrd_core.samples import ForgetSet
from mrd_core.scoring.claims import Lease
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.kind import SCORE
from mrd_core.settings.command import shown

# Whoever shares a run that nobody leads waits so long for somebody to do so. Jobs of a scheduler begin when it has
# room for them [s].
PATIENCE, PATIENCE_OF_JOBS = 60.0, 1800.0
POLL_INTERVAL = 1.0


class Shard(NamedTuple):
    """One of several jobs that share a score run; the first leads it.

    Attributes:
        number: From 1 on.
        jobs: How many there are.
    """

    number: int
    jobs: int

    @classmethod
    def of(cls, text: str) -> Shard:
        """Read `2/8`.

        Raises:
            UserError: It is no such text.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        shard = cls(int(match[1]), int(match[2])) if match else None
        if shard is None or not 1 <= shard.number <= shard.jobs:
            raise UserError(f"The shard '{text}'", "is none of 1/n to n/n.", "Give one such as --shard 2/8.")
        return shard


SHARD = click.Option(
    ["--shard"],
    metavar="K/N",
    help="Share the run with the other N − 1 jobs of a scheduler, which get the same command with another K, on a "
    "disk that all of them see (--out). The first leads it.",
)

MIXED = click.Option(
    ["mixed", "--mixed-devices"],
    is_flag=True,
    help="Also draw where this machine rounds otherwise than the one that leads the run; the run says so.",
)


@click.command(params=[MIXED])
@click.argument("directory", metavar="RUN")
@click.option("--device", default="auto", help="`auto` or `cuda`: every GPU; `cuda:N`: one; or `cpu`.")
@click.option("--workers", default="auto", help="Processes; `auto`: as many as a run has on this machine.")
@click.option("--parent", type=int, hidden=True, help="The process that this one ends with.")
def share(directory: str, device: str, workers: str, mixed: bool, parent: int | None) -> None:
    """Draw units of a run that another process leads."""
    files = ScoreFiles(run_directory(directory) if parent is None else Path(directory))
    config = _here(read_config(files.directory, ScoreConfig), device, workers)
    if files.is_finished:
        note(f"The run in {files.directory} has ended; nothing is left to draw.")
        return
    from mrd_core.scoring.drawing import share as draw_units

    patience = PATIENCE_OF_JOBS if own_job() else PATIENCE
    if draw_units(files.directory, config, patience, parent, mixed=mixed):
        note(f"The run in {files.directory} has all units that it needs.")
    elif parent is None:
        raise _without_leader(files)


def _here(config: ScoreConfig, device: str, workers: str) -> ScoreConfig:
    """Return the configuration of a run with what this machine makes of it."""
    try:
        estimator = EstimatorConfig.model_validate(config.estimator.model_dump() | {"workers": workers})
    except ValidationError as error:
        raise UserError(
            f"--workers {workers}", "is no number of processes.", "Give one, or leave it out."
        ) from error
    return config.model_copy(
        update={"model": config.model.model_copy(update={"device": device}), "estimator": estimator}
    )


def score_shard(
    shard: Shard,
    config: ScoreConfig,
    forget_set: ForgetSet,
    directory: Path | None,
    *,
    mixed: bool = False,
    as_json: bool = False,
) -> None:
    """Score a forget set together with other jobs that are given the same.

    Done again after the end, each prints the result.

    Raises:
        UserError: There is no directory to share, or it holds a run of other settings; or the first job is gone.
    """
    if directory is None:
        raise UserError("--shard", "needs a directory that all jobs share.", "Name it with --out.")
    files = ScoreFiles(directory.resolve())
    if shard.number == 1:
        _lead(files, config, forget_set, as_json)
    else:
        _follow(files, config, mixed, as_json)


def _lead(files: ScoreFiles, config: ScoreConfig, forget_set: ForgetSet, as_json: bool) -> None:
    if not (files.directory / CONFIG_FILE).exists():
        run = submitted(config, files.directory, prepare=lambda draft: forget_set.save(ScoreFiles(draft).samples))
        finish(run.directory, as_json)
        return
    _require_same(files, config)
    opened = store()
    run = adopt(files.directory, opened)
    # The store knows of a worker that died on another machine later than the run's own directory.
    while run.state in ACTIVE and run.pid is not None and Lease(files.leader).is_abandoned:
        time.sleep(POLL_INTERVAL)
        opened.reap()
        run = opened.get(run.id)
    if run.state is RunState.SUCCEEDED:
        _print_result(files, as_json)
    else:
        finish(taken_up(opened, run), as_json)


def _follow(files: ScoreFiles, config: ScoreConfig, mixed: bool, as_json: bool) -> None:
    deadline = time.monotonic() + PATIENCE_OF_JOBS
    if not files.config.exists():
        note(f"Waiting for the first job to begin the run in {files.directory}.")
    while not files.config.exists():
        if time.monotonic() > deadline:
            raise _without_leader(files)
        time.sleep(POLL_INTERVAL)
    _require_same(files, config)
    if not files.is_finished:
        from mrd_core.scoring.drawing import share as draw_units

        draw_units(files.directory, config, PATIENCE_OF_JOBS, mixed=mixed)
        _await_end(files)
    _print_result(files, as_json)


def _await_end(files: ScoreFiles) -> None:
    """Wait for the leading process to write the results."""
    while not files.is_finished:
        if Lease(files.leader).is_abandoned and not files.is_finished:
            raise _without_leader(files)
        time.sleep(POLL_INTERVAL)


def _print_result(files: ScoreFiles, as_json: bool) -> None:
    summary = files.read_summary()
    warn(summary["warnings"])
    for line in SCORE.describe(files.directory, summary).lines:
        note(line)
    if as_json:
        print_json(summary)


def _require_same(files: ScoreFiles, config: ScoreConfig) -> None:
    if _digest(read_config(files.directory, ScoreConfig)) != _digest(config):
        raise UserError(
            str(files.directory),
            "It holds a run of another forget set, model or estimator than this job's.",
            "Give all jobs the same command, or name a new directory with --out.",
        )


def _digest(config: ScoreConfig) -> str:
    """Return the SHA-256 (hexadecimal) over what jobs that share a run have in common.

    Not the day, which changes between them: what the run scores are the tokens that it keeps.
    """
    own = {"workers", "time_floor", "device_memory"}
    of_one_job: dict[str, Any] = {"estimator": own, "model": {"device", "date"}}
    # The samples have a digest of their own, whatever they are called.
    text = config.model_dump_json(exclude=of_one_job | {"forget_set": True, "check": True})
    return hashlib.sha256(text.encode()).hexdigest()


def _without_leader(files: ScoreFiles) -> UserError:
    return UserError(
        f"The run in {files.directory}",
        "has no process that leads it: none has begun, or it has ended before the run did.",
        f"Let one begin or go on (`{shown('run', files.directory)}`, `runs resume`, or the job with --shard 1/n), "
        "then share it again. What was drawn is kept.",
    )
