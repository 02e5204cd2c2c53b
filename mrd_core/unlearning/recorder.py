"""What a run writes down while it goes: order and evaluations in its directory, figures in the store."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from mrd_core.runs import JobContext, Metric, SampleUpdate
from mrd_core.runs.files import json_value
from mrd_core.unlearning.curves import EVALUATION, Curve
from mrd_core.unlearning.feed import EvaluationRecord, Standing, StepRecord
from mrd_core.unlearning.files import GRADIENT_NORMS, UnlearningFiles

# A transaction a step would cost as much as a small model's step.
FLUSH_SECONDS = 0.5
Logger = Callable[[Mapping[str, float], int], None]


class _Pace(NamedTuple):
    """Where a run stood at some time [s]."""

    time: float
    steps: int
    forgotten: int


class Recorder:
    """Takes the record of each step.

    Args:
        files: Of the run.
        context: Its link to the outside.
        accuracy: MA of every forget sample on the starting model, at the margin of the run, by id.
        most_steps: Where the run ends at the latest.
        most_updates: The most updates that leaves room for.
        device: Whose memory is reported.
        log: Hands named values of a step on to experiment trackers.

    Attributes:
        peak_memory_mb: Most memory of the device that was in use [MiB].
    """

    def __init__(
        self,
        files: UnlearningFiles,
        context: JobContext,
        accuracy: Mapping[str, float],
        most_steps: int,
        most_updates: int,
        device: torch.device,
        log: Logger | None = None,
    ) -> None:
        self.peak_memory_mb = 0.0
        self._files = files
        self._context = context
        self._accuracy = dict(accuracy)
        self._accuracy_sum = sum(self._accuracy.values())
        self._most_steps = most_steps
        self._most_updates = most_updates
        self._device = device
        self._log = log
        self._metrics: list[Metric] = []
        self._updates: list[SampleUpdate] = []
        self._flushed = time.monotonic()
        self._steps = self._updates_made = 0
        self._forgotten = 0
        self._first: _Pace | None = None

    def begin(self, retained: tuple[float, float] | None) -> None:
        """Report the starting model as step 0, with MA and NLL of the probed retain samples."""
        start: dict[str, float] = {Curve.UPDATES: 0.0, Curve.FORGOTTEN: 0.0, Curve.ACCURACY: self._mean_accuracy()}
        self._keep(0, start | _probe(retained))
        self.flush()

    def resume(self, standing: Standing) -> None:
        """Go on where an earlier attempt stood."""
        self._steps, self._forgotten = standing.steps, len(standing.forgotten)
        self._updates_made = sum(standing.updates.values())
        self._accuracy |= standing.accuracy
        self._accuracy_sum = sum(self._accuracy.values())

    def __call__(self, record: StepRecord) -> None:
        """Write a step down."""
        self._steps, self._forgotten = record.step, record.forgotten_so_far
        self._updates_made = record.updates
        if self._first is None:
            # The pace is that of the steps, without the first one and what came before it.
            self._first = _Pace(time.monotonic(), record.step, record.forgotten_so_far)
        _append(self._files.steps, _line(record))
        for look in record.looks:
            sample = record.forget[look.row]
            if not math.isnan(look.accuracy):
                self._accuracy_sum += look.accuracy - self._accuracy[sample]
                self._accuracy[sample] = look.accuracy
        values = self._values(record)
        self._keep(record.step, values)
        self._updates += [
            SampleUpdate(record.step, record.forget[look.row], look.accuracy, look.trained, look.forgotten)
            for look in record.looks
        ]
        if self._log:
            self._log(values, record.step)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def evaluated(self, evaluation: EvaluationRecord) -> None:
        """Write an evaluation down."""
        line = {
            "step": evaluation.step,
            "updates": evaluation.updates,
            "seconds": round(evaluation.seconds, 3),
            "tokens": evaluation.tokens,
        }
        _append(self._files.evaluations, json.dumps({**line, **evaluation.values}, allow_nan=False) + "\n")
        values = {f"{EVALUATION}{name}": value for name, value in evaluation.values.items()}
        self._keep(evaluation.step, values)
        # Their first values are those of the first step.
        if self._log and evaluation.step:
            self._log(values, evaluation.step)
        self.flush()

    def flush(self, *, ended: bool = False) -> None:
        """Hand on what is still held back; at the end with words of its own, which are never passed over."""
        self._context.steps(self._metrics, self._updates)
        self._metrics, self._updates = [], []
        eta, first = None, self._first
        if first is not None and self._steps != first.steps:
            # The time to the limit of steps or, if nearer, until all are forgotten.
            elapsed = time.monotonic() - first.time
            eta = elapsed / (self._steps - first.steps) * (self._most_steps - self._steps)
            forgotten = self._forgotten - first.forgotten
            if forgotten >= max(3, len(self._accuracy) // 10):
                eta = min(eta, elapsed / forgotten * (len(self._accuracy) - self._forgotten))
        self._context.progress(
            self._updates_made,
            max(self._most_updates, self._updates_made),
            is_most=True,
            message=f"{self._forgotten} of {len(self._accuracy)} forgotten{' when it stopped' if ended else ''}",
            eta_seconds=eta,
        )
        self._flushed = time.monotonic()

    def _keep(self, step: int, values: Mapping[str, float]) -> None:
        self._metrics += [Metric(step, str(name), value) for name, value in values.items()]

    def _values(self, record: StepRecord) -> dict[str, float]:
        if self._device.type == "cuda":
            used = torch.cuda.memory_allocated(self._device)
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            used = peak = psutil.Process().memory_info().rss
        self.peak_memory_mb = max(self.peak_memory_mb, peak / 2**20)
        values: dict[str, float] = {
            Curve.FORGET_LOSS: record.forget_loss,
            _nll_curve(record): record.text_nll,
            Curve.LEARNING_RATE: record.learning_rate,
            Curve.UPDATES: float(record.updates),
            Curve.FORGOTTEN: float(record.forgotten_so_far),
            Curve.ACCURACY: self._mean_accuracy(),
            Curve.MEMORY: used / 2**20,
        }
        optional: dict[str, float | None] = {
            Curve.FORGET_ACCURACY: _mean_defined(look.accuracy for look in record.looks),
            Curve.EXTRACTION: _mean_defined(look.extraction for look in record.looks),
            Curve.RETAIN_LOSS: record.retain_loss,
            Curve.EFFECTIVE_SHARE: record.effective_share,
            Curve.RETAIN_WEIGHT: record.retain_weight,
        }
        measured = {name: value for name, value in optional.items() if value is not None}
        return values | measured | _probe(record.probe)

    def _mean_accuracy(self) -> float:
        return self._accuracy_sum / len(self._accuracy)


def _probe(retained: tuple[float, float] | None) -> dict[str, float]:
    return {Curve.RETAIN_ACCURACY: retained[0], Curve.RETAIN_NLL: retained[1]} if retained else {}


def _nll_curve(record: StepRecord) -> Curve:
    return Curve.REFUSAL_NLL if record.refusals else Curve.FORGET_NLL


def _mean_defined(values: Iterable[float]) -> float | None:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else None


def _line(record: StepRecord) -> str:
    """Return a step as a line of JSON; what is no number is null."""
    content: dict[str, Any] = {
        "step": record.step,
        "forget": record.forget,
        "retain": record.retain,
        "trained": [look.trained for look in record.looks],
        "accuracy": [None if math.isnan(look.accuracy) else look.accuracy for look in record.looks],
        "forget_loss": record.forget_loss,
        _nll_curve(record): record.text_nll,
        "retain_loss": record.retain_loss,
        "forgotten": record.forgotten,
        "learning_rate": record.learning_rate,
    }
    if record.gradient_norms is not None:
        content[GRADIENT_NORMS] = [None if math.isnan(norm) else norm for norm in record.gradient_norms]
    finite = {name: json_value(value) for name, value in content.items()}
    # In ASCII: an id may hold a character that Python too takes for the end of a line.
    return json.dumps(finite, allow_nan=False) + "\n"


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line)
