"""The draws of a score run, shared out to processes over the run directory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrd_core.model import loading as models
from mrd_core.runs import JobContext
from mrd_core.runs.files import write_atomically
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.draws import Draws, Precision, checkpoints
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.mrd import Estimator, Unit
from mrd_core.scoring.plan import Prepared, precision, resume, workers_and_threads
from mrd_core.settings.command import process

POLL_SECONDS = 0.05


class Helpers:
    """Processes that draw units beside the leading one; they end when it does, however it ends."""

    def __init__(self, directory: Path, count: int) -> None:
        command = process("share", directory, os.getpid())
        # A session of their own: a Ctrl-C in the terminal is for the leading process, which then ends them.
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) for _ in range(count)
        ]

    def draws(self, claim: Path) -> bool:
        """Tell whether the process that took this claim is one of these, and alive."""
        owner = claim.read_text(encoding="ascii") if claim.exists() else ""
        return any(str(helper.pid) == owner and helper.poll() is None for helper in self._processes)

    def stop(self) -> None:
        """End them."""
        for helper in self._processes:
            helper.terminate()
        for helper in self._processes:
            helper.wait()


@contextmanager
def helpers_of(config: ScoreConfig, files: ScoreFiles) -> Iterator[Helpers]:
    """Start the helping processes of a run, at once: while they start, the leading process plans."""
    device, _ = models.choose_device(config.model.device)
    workers, threads = workers_and_threads(config.estimator, device)
    torch.set_num_threads(threads)
    files.units.mkdir(exist_ok=True)
    for claim in files.units.glob("*.claim"):
        claim.unlink()
    helpers = Helpers(files.directory, workers - 1)
    try:
        yield helpers
    finally:
        helpers.stop()


class _Parent(JobContext):
    """The context of a helping process: it stops when the leading process is gone."""

    def __init__(self, directory: Path, parent: int) -> None:
        super().__init__(directory)
        self._parent = parent

    def check_cancelled(self) -> None:
        if os.getppid() != self._parent:
            raise SystemExit(0)


def share(directory: Path, config: ScoreConfig, parent: int) -> None:
    """Draw units for the run that process `parent` leads in `directory`, until there are none or it ends."""
    files, context = ScoreFiles(directory), _Parent(directory, parent)
    while not files.plan.exists():
        context.check_cancelled()
        time.sleep(POLL_SECONDS)
    prepared = resume(config, ForgetSet.load(files.samples), files, context)
    with precision(prepared.stage.model.dtype):
        estimator = prepared.estimator(config.estimator)
        for index in range(_units(config.estimator, config.estimator.draws)):
            if _claim(files, index):
                _write_unit(files, index, estimator.unit(index))


def draw(
    config: EstimatorConfig, prepared: Prepared, files: ScoreFiles, helpers: Helpers, context: JobContext
) -> tuple[Draws, list[Unit], Precision]:
    """Draw until the stopping rule, which looks at the units in their order, is satisfied."""
    stops = checkpoints(config.mode, config.draws)
    units: list[Unit] = []
    total = stops[-1]
    # Before the first checkpoint nobody knows where the run will stop, so no time left is given.
    message: dict[str, Any] = {"message": "Drawing"} | ({} if config.stop == "never" else {"eta_seconds": None})
    with precision(prepared.stage.model.dtype):
        estimator = prepared.estimator(config)
        for evaluations in stops:
            wanted = _units(config, evaluations)
            while len(units) < wanted:
                finished = files.unit(len(units))
                if finished.exists():
                    with np.load(finished, allow_pickle=False) as arrays:
                        units.append(Unit(arrays["values"], arrays["tokens"]))
                else:
                    _draw_one(files, len(units), _units(config, stops[-1]), estimator, helpers, context)
                context.progress(len(units) * config.evaluations_per_unit, total, **message)
            values = np.concatenate([unit.values for unit in units])
            draws = Draws(prepared.stage.passes.encoded.sample_ids, values, estimator.kept, config.mode)
            reached = Precision.of(draws, config.scope)
            figures = asdict(reached)
            context.metrics(
                figures.pop("evaluations"),
                **{name: value for name, value in figures.items() if np.isfinite(value)},
            )
            if reached.reaches(config):
                break
            total, message = _expected_total(reached, config, stops), {"message": "Drawing"}
    return draws, units, reached


def _draw_one(
    files: ScoreFiles, missing: int, end: int, estimator: Estimator, helpers: Helpers, context: JobContext
) -> None:
    """Draw the missing unit; while a helper draws it, one ahead that nobody has taken."""
    context.check_cancelled()
    index: int | None = missing
    # A unit whose process died is drawn again here: it comes out the same.
    if not _claim(files, missing) and helpers.draws(files.claim(missing)):
        index = next((ahead for ahead in range(missing + 1, end) if _claim(files, ahead)), None)
    if index is None:
        time.sleep(POLL_SECONDS)
    else:
        _write_unit(files, index, estimator.unit(index))


def _units(config: EstimatorConfig, evaluations: int) -> int:
    return evaluations // config.evaluations_per_unit


def _claim(files: ScoreFiles, index: int) -> bool:
    """Take unit `index` unless it is finished or taken; claims of a dead run are cleared when it resumes."""
    if files.unit(index).exists():
        return False
    try:
        with files.claim(index).open("x", encoding="ascii") as stream:
            stream.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _write_unit(files: ScoreFiles, index: int, unit: Unit) -> None:
    write_atomically(files.unit(index), partial(np.savez, values=unit.values, tokens=unit.tokens))


def _expected_total(reached: Precision, config: EstimatorConfig, stops: list[int]) -> int:
    """Guess at which checkpoint the run will stop: standard errors fall with the root of the draws."""
    if config.stop != "precision":
        return stops[-1]
    excess = max(
        reached.median_relative_se / config.median_relative_se, reached.p90_relative_se / config.p90_relative_se
    )
    if not np.isfinite(excess):
        return stops[-1]
    needed = reached.evaluations * excess**2
    return next((stop for stop in stops if stop >= needed and stop > reached.evaluations), stops[-1])
