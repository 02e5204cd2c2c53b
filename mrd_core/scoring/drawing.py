"""The draws of a score run, shared out to processes over the run directory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.hardware import kind_of
from mrd_core.runs import Cancelled, JobContext
from mrd_core.samples import ForgetSet
from mrd_core.scoring.claims import LOOK_AGAIN, Claims, Lease, Pause
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.draws import Draws, Precision
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.mrd import Unit
from mrd_core.scoring.plan import Prepared, precision, resume
from mrd_core.scoring.records import Plan
from mrd_core.scoring.schedule import UnitKey, Wanted
from mrd_core.scoring.workers import Workers
from mrd_core.settings.command import process


class Helpers:
    """Processes of this machine that draw units beside this one; they end when it does, however it ends.

    Args:
        directory: Of the run.
        devices: Where each of them draws.
        mixed: Whether they may round otherwise than the process that leads the run.
    """

    def __init__(self, directory: Path, devices: Sequence[torch.device], *, mixed: bool = False) -> None:
        own = process("share", directory, "--parent", os.getpid(), *(["--mixed-devices"] if mixed else []))
        # A session of their own: a Ctrl-C in the terminal is for this process, which then ends them.
        self._processes = [
            subprocess.Popen([*own, "--device", str(device)], stdin=subprocess.DEVNULL, start_new_session=True)
            for device in devices
        ]

    def stop(self) -> None:
        """End them."""
        for helper in self._processes:
            helper.terminate()
        for helper in self._processes:
            helper.wait()


@contextmanager
def leading(config: ScoreConfig, files: ScoreFiles) -> Iterator[Helpers]:
    """Lead a run within, and start its helping processes at once: while they start, this one plans."""
    workers = Workers.of(config.estimator, config.model)
    torch.set_num_threads(workers.threads)
    files.units.mkdir(exist_ok=True)
    lease = Lease(files.leader)
    lease.replace()
    with lease.kept():
        helpers = Helpers(files.directory, workers.devices[1:])
        try:
            yield helpers
        finally:
            helpers.stop()


class Ended(Cancelled):
    """A run needs no more units, or nobody leads it any more."""


class Joined(JobContext):
    """The context of a process that helps: it stops when the run has what it wants, or nobody leads it.

    Args:
        files: Of the run.
        parent: The process that started this one; None where somebody else did.
        patience: How long to wait for somebody to lead the run [s].

    Attributes:
        is_led: Whether somebody did when it was last looked at.
    """

    def __init__(self, files: ScoreFiles, parent: int | None, patience: float) -> None:
        super().__init__(files.directory)
        self._files = files
        self._parent = parent
        self._until = time.monotonic() + patience
        self._last_look = float("-inf")
        self.is_led = False

    def check_cancelled(self) -> None:
        """Raise Ended; the directory is looked at no more than once in LOOK_AGAIN."""
        if self._parent is not None and os.getppid() != self._parent:
            raise Ended("The process that started this one is gone.")
        now = time.monotonic()
        if now - self._last_look < LOOK_AGAIN:
            return
        self._last_look = now
        if self._files.is_finished:
            raise Ended("The run has ended.")
        is_led = not Lease(self._files.leader).is_abandoned
        wanted = self._files.read_schedule() if is_led else None
        if wanted and wanted.is_all:
            raise Ended("All units are drawn.")
        if not is_led and (self.is_led or now > self._until):
            raise Ended("Nobody leads the run.")
        self.is_led = is_led


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        draws: The sums of every sample.
        units: The pairs, or plain evaluations, in their order.
        reached: How good the run is.
        passes: What all units cost, in forward passes.
        device_kinds: What baseline and units were computed on, see `model.hardware`.
    """

    draws: Draws
    units: list[Unit]
    reached: Precision
    passes: float
    device_kinds: tuple[str, ...] = ()


class Origin:
    """Where a process has its units from, each marked with what it was drawn on.

    Args:
        prepared: Model and plan.
        config: What is drawn.
    """

    MARK = "device_kind"

    def __init__(self, prepared: Prepared, config: EstimatorConfig) -> None:
        self.source = prepared.source(config)
        self._kind = np.array(kind_of(prepared.stage.model.device, prepared.stage.model.dtype))

    def arrays(self, key: UnitKey) -> dict[str, Any]:
        """Draw a unit: what its file holds."""
        return self.source.arrays(key) | {self.MARK: self._kind}


def share(
    directory: Path, config: ScoreConfig, patience: float, parent: int | None = None, *, mixed: bool = False
) -> bool:
    """Draw units for a run until it needs none, and tell whether that is so.

    Args:
        directory: Of the run, which somebody leads, or will.
        config: Of the run; where and in how many processes this machine draws.
        patience: How long to wait for somebody to lead the run [s].
        parent: The process that started this one for the run, and that it ends with; None where somebody else did,
            and this one starts those that draw beside it.
        mixed: Whether this machine may round otherwise than the one that leads the run.

    Raises:
        UserError: It does, and may not; or it has not the model of the run.
    """
    files = ScoreFiles(directory)
    context = Joined(files, parent, patience)
    devices = Workers.of(config.estimator, config.model).devices[1:] if parent is None else ()
    helpers = Helpers(directory, devices, mixed=mixed)
    try:
        _help(config, files, context, mixed)
    except Ended:
        pass
    except FileNotFoundError:
        # What only an unfinished run needs goes when it ends.
        if files.units.exists():
            raise
    finally:
        helpers.stop()
    wanted = files.read_schedule()
    return files.is_finished or (wanted is not None and wanted.is_all)


def _help(config: ScoreConfig, files: ScoreFiles, context: Joined, mixed: bool) -> None:
    """Draw what is wanted once there is a plan, until the context says that it is enough."""
    pause = Pause()
    context.check_cancelled()
    while not (context.is_led and files.plan.exists() and files.baseline.exists()):
        pause(None)
        context.check_cancelled()
    if not mixed:
        _require_same_kind(config, files.read_plan())
    prepared = resume(config, ForgetSet.load(files.samples), files, context)
    with precision(prepared.stage.model.dtype):
        origin = Origin(prepared, config.estimator)
        claims, schedule = Claims(files, origin.arrays), origin.source.schedule
        while True:
            context.check_cancelled()
            wanted = files.read_schedule() or Wanted.after([], schedule.first())
            claims.draw(wanted.units, schedule.ahead(wanted))


def _require_same_kind(config: ScoreConfig, plan: Plan) -> None:
    device, _ = models.choose_device(config.model.device)
    own = kind_of(device, models.DTYPES[plan.dtype])
    if plan.device_kind not in ("", own):
        raise UserError(
            f"This process, which would draw on {own},",
            f"rounds otherwise than those of the run, which draw on {plan.device_kind}.",
            "Share it from machines of one kind, or give --mixed-devices: the run then says between which kinds "
            "its bits may differ.",
        )


def draw(config: EstimatorConfig, prepared: Prepared, files: ScoreFiles, context: JobContext) -> Drawn:
    """Draw until the stopping rule, which looks at the units in their order, is satisfied."""
    drawn: list[UnitKey] = []
    units: list[Unit] = []
    probes: list[dict[str, FloatArray]] = []
    kinds = {prepared.plan.device_kind}
    with precision(prepared.stage.model.dtype):
        origin = Origin(prepared, config)
        claims, schedule = Claims(files, origin.arrays), origin.source.schedule
        keys = schedule.first()
        # The total stands, and where the run will probably stop is only said as time: that may grow again. Before
        # the first look it is where runs usually stop.
        total, likely = schedule.most, min(schedule.most, schedule.usual)
        while keys:
            wanted = Wanted.after(drawn, keys)
            files.write_schedule(wanted)
            report = partial(context.progress, total=round(total), likely=round(likely), message="Drawing")
            for place, key in enumerate(keys):
                if not files.unit(key).exists():
                    report(round(schedule.cost(drawn)))
                while not files.unit(key).exists():
                    context.check_cancelled()
                    claims.draw(keys[place:], schedule.ahead(wanted))
                with np.load(files.unit(key), allow_pickle=False) as stored:
                    arrays = dict(stored)
                # Units of an earlier version bear no mark.
                kinds.add(str(arrays.pop(Origin.MARK, prepared.plan.device_kind)))
                if key.kind == "probe":
                    probes.append(arrays)
                else:
                    units.append(Unit(**arrays))
                drawn.append(key)
                report(round(schedule.cost(drawn)))
            draws = origin.source.draws(units, probes)
            reached = Precision.of(draws, config.scope)
            passes = schedule.cost(drawn)
            context.metrics(round(passes), **reached.curve)
            if reached.reaches(config):
                break
            keys = schedule.following(drawn, draws)
            likely = _expected_total(reached, config, passes, schedule.most)
    files.write_schedule(Wanted.after(drawn, []))
    return Drawn(draws, units, reached, passes, tuple(sorted(kinds - {""})))


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
