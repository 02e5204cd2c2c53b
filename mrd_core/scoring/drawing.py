"""The draws of a score run, shared out to processes over the run directory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from mrd_core.arrays import FloatArray
from mrd_core.model import loading as models
from mrd_core.runs import JobContext
from mrd_core.runs.files import write_atomically
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.draws import Draws, Precision
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.mrd import Unit
from mrd_core.scoring.plan import Prepared, Source, precision, resume, workers_and_threads
from mrd_core.scoring.schedule import UnitKey
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


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        draws: The sums of every sample.
        units: The pairs, or plain evaluations, in their order.
        reached: How good the run is.
        passes: What all units cost, in forward passes.
    """

    draws: Draws
    units: list[Unit]
    reached: Precision
    passes: float


def share(directory: Path, config: ScoreConfig, parent: int) -> None:
    """Draw units for the run that process `parent` leads in `directory`, until there are none or it ends."""
    files, context = ScoreFiles(directory), _Parent(directory, parent)
    while not files.plan.exists():
        context.check_cancelled()
        time.sleep(POLL_SECONDS)
    prepared = resume(config, ForgetSet.load(files.samples), files, context)
    with precision(prepared.stage.model.dtype):
        source = prepared.source(config.estimator)
        while True:
            context.check_cancelled()
            keys = files.read_schedule() if files.schedule.exists() else source.schedule.first()
            if not _draw_one(files, keys, source):
                time.sleep(POLL_SECONDS)


def draw(
    config: EstimatorConfig, prepared: Prepared, files: ScoreFiles, helpers: Helpers, context: JobContext
) -> Drawn:
    """Draw until the stopping rule, which looks at the units in their order, is satisfied."""
    drawn: list[UnitKey] = []
    units: list[Unit] = []
    probes: list[dict[str, FloatArray]] = []
    with precision(prepared.stage.model.dtype):
        source = prepared.source(config)
        schedule = source.schedule
        wanted = schedule.first()
        # The total stands, and where the run will probably stop is only said as time: that may grow again. Before
        # the first look it is where runs usually stop.
        total, likely = schedule.most, min(schedule.most, schedule.usual)
        while wanted:
            files.write_schedule([*drawn, *wanted])
            report = partial(context.progress, total=round(total), likely=round(likely), message="Drawing")
            for key in wanted:
                if not files.unit(key).exists():
                    report(round(schedule.cost(drawn)))
                _wait_for(files, key, [*drawn, *wanted], source, helpers, context)
                with np.load(files.unit(key), allow_pickle=False) as arrays:
                    if key.kind == "probe":
                        probes.append(dict(arrays))
                    else:
                        units.append(Unit(**arrays))
                drawn.append(key)
                report(round(schedule.cost(drawn)))
            draws = source.draws(units, probes)
            reached = Precision.of(draws, config.scope)
            passes = schedule.cost(drawn)
            context.metrics(round(passes), **reached.curve)
            if reached.reaches(config):
                break
            wanted = schedule.following(drawn, draws)
            likely = _expected_total(reached, config, passes, schedule.most)
    return Drawn(draws, units, reached, passes)


def _wait_for(
    files: ScoreFiles, key: UnitKey, keys: list[UnitKey], source: Source, helpers: Helpers, context: JobContext
) -> None:
    """Return when a unit is finished; draw it, or while a helper draws it one that nobody has taken."""
    while not files.unit(key).exists():
        context.check_cancelled()
        # A unit whose process died is drawn again here: it comes out the same.
        if _claim(files, key) or not helpers.draws(files.claim(key)):
            _write_unit(files, key, source)
        elif not _draw_one(files, keys, source):
            time.sleep(POLL_SECONDS)


def _draw_one(files: ScoreFiles, keys: list[UnitKey], source: Source) -> bool:
    """Draw a unit that nobody has taken: of those wanted, or a pair ahead of them; tell whether there was one."""
    after = 1 + max((key.index for key in keys if key.kind == "pair"), default=-1)
    ahead = (UnitKey("pair", index) for index in range(after, source.schedule.cap))
    key = next((key for key in chain(keys, ahead) if _claim(files, key)), None)
    if key is not None:
        _write_unit(files, key, source)
    return key is not None


def _claim(files: ScoreFiles, key: UnitKey) -> bool:
    """Take a unit unless it is finished or taken; claims of a dead run are cleared when it resumes."""
    if files.unit(key).exists():
        return False
    try:
        with files.claim(key).open("x", encoding="ascii") as stream:
            stream.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _write_unit(files: ScoreFiles, key: UnitKey, source: Source) -> None:
    write_atomically(files.unit(key), partial(np.savez, **source.arrays(key)))


def _expected_total(reached: Precision, config: EstimatorConfig, passes: float, cap: float) -> float:
    """Guess what the run will have cost when it stops: variances fall with the number of units."""
    excess = max(
        reached.median_relative_se / config.median_relative_se, reached.p90_relative_se / config.p90_relative_se
    )
    trust = reached.reliability_of(config.normalisation)
    # Spearman and Brown: how many times as long a run reaches the target.
    longer = config.reliability * (1 - trust) / (trust * (1 - config.reliability)) if trust > 0 else np.nan
    factors = {"precision": [excess**2], "reliability": [longer], "auto": [4 * excess**2, longer], "never": []}
    known = [factor for factor in factors[config.stop] if np.isfinite(factor)]
    return min(cap, max(passes, passes * min(known))) if known else max(passes, cap)
