"""What a run writes down while it goes: order and evaluations in its directory, figures in the store."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from mrd_core.runs import JobContext, Metric, SampleUpdate
from mrd_core.unlearning.feed import Evaluation, Standing, StepRecord
from mrd_core.unlearning.files import UnlearningFiles

# A transaction a step would cost as much as a small model's step.
FLUSH_SECONDS = 0.5
# Before the names of an evaluation's metrics among those of the steps.
EVALUATION = "evaluation_"
Logger = Callable[[dict[str, float]], None]


class _Mark(NamedTuple):
    """Where the run stood at some time [s]."""

    time: float
    steps: int
    forgotten: int


class Recorder:
    """Takes the record of each step.

    Args:
        files: Of the run.
        context: Its link to the outside.
        standing: How far the run is; it is read at each step.
        accuracy: MA of every forget sample on the starting model, by id.
        most_steps: Where the run ends at the latest.
        device: Whose memory is reported.
        learning_rate: Returns the learning rate.
        log: Hands named values on to experiment trackers.
    """

    def __init__(
        self,
        files: UnlearningFiles,
        context: JobContext,
        standing: Standing,
        accuracy: Mapping[str, float],
        most_steps: int,
        device: torch.device,
        learning_rate: Callable[[], float],
        log: Logger | None = None,
    ) -> None:
        self.peak_memory_mb = 0.0
        self._files = files
        self._context = context
        self._standing = standing
        self._accuracy = dict(accuracy) | standing.accuracy
        self._accuracy_sum = sum(self._accuracy.values())
        self._most_steps = most_steps
        self._device = device
        self._learning_rate = learning_rate
        self._log = log
        self._metrics: list[Metric] = []
        self._updates: list[SampleUpdate] = []
        self._flushed = time.monotonic()
        self._pace_from: _Mark | None = None

    def begin(self, retained: tuple[float, float] | None) -> None:
        """Report the starting model as step 0."""
        self._take(0, {"updates": 0.0, "forgotten": 0.0, "accuracy": self._mean_accuracy()} | _probe(retained))
        self.flush()

    def __call__(self, record: StepRecord) -> None:
        """Write a step down."""
        if self._pace_from is None:
            # The pace is that of the steps, without the first one and what came before it.
            self._pace_from = _Mark(time.monotonic(), record.step, len(self._standing.forgotten))
        rate = self._learning_rate()
        _append(self._files.steps, _line(record, rate))
        self._note_accuracy(record)
        values = self._values(record, rate)
        self._take(record.step, values)
        self._updates += [
            SampleUpdate(record.step, record.forget[look.row], look.accuracy, look.trained, look.forgotten)
            for look in record.looks
        ]
        if self._log:
            self._log(values)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def evaluated(self, evaluation: Evaluation) -> None:
        """Write an evaluation down."""
        step, updates, seconds, (found, tokens) = evaluation
        about = {"step": step, "updates": updates, "seconds": round(seconds, 3), "tokens": tokens}
        _append(self._files.evaluations, json.dumps({**about, **found}, allow_nan=False) + "\n")
        values = {f"{EVALUATION}{name}": value for name, value in found.items()}
        self._take(step, values)
        # A tracker is there once training has begun.
        if self._log and step:
            self._log(values)
        self.flush()

    def flush(self, *, ended: bool = False) -> None:
        """Hand on what is still held back; at the end with words of its own, which are never passed over."""
        self._context.steps(self._metrics, self._updates)
        self._metrics, self._updates = [], []
        standing, when = self._standing, " when it stopped" if ended else ""
        self._context.progress(
            standing.steps,
            max(self._most_steps, standing.steps),
            message=f"{len(standing.forgotten)} of {len(self._accuracy)} forgotten{when}",
            eta_seconds=self._eta_seconds(),
        )
        self._flushed = time.monotonic()

    def _take(self, step: int, values: Mapping[str, float]) -> None:
        self._metrics += [Metric(step, name, value) for name, value in values.items()]

    def _values(self, record: StepRecord, rate: float) -> dict[str, float]:
        seen = [look.accuracy for look in record.looks if not math.isnan(look.accuracy)]
        extraction = [look.extraction for look in record.looks if not math.isnan(look.extraction)]
        values = {
            "forget_loss": record.forget_loss,
            "refusal_nll" if record.refusals else "forget_nll": record.text_nll,
            "learning_rate": rate,
            "updates": float(sum(self._standing.updates.values())),
            "forgotten": float(len(self._standing.forgotten)),
            "accuracy": self._mean_accuracy(),
            "memory_mb": self._memory_mb(),
        }
        optional = {
            "forget_accuracy": sum(seen) / len(seen) if seen else None,
            "extraction": sum(extraction) / len(extraction) if extraction else None,
            "retain_loss": record.retain_loss,
            "effective_share": record.effective_share,
        }
        return (
            values | {name: value for name, value in optional.items() if value is not None} | _probe(record.probe)
        )

    def _note_accuracy(self, record: StepRecord) -> None:
        for look in record.looks:
            sample = record.forget[look.row]
            if not math.isnan(look.accuracy):
                self._accuracy_sum += look.accuracy - self._accuracy[sample]
                self._accuracy[sample] = look.accuracy

    def _mean_accuracy(self) -> float:
        return self._accuracy_sum / len(self._accuracy)

    def _memory_mb(self) -> float:
        if self._device.type == "cuda":
            used = torch.cuda.memory_allocated(self._device)
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            used = peak = psutil.Process().memory_info().rss
        self.peak_memory_mb = max(self.peak_memory_mb, peak / 2**20)
        return float(used / 2**20)

    def _eta_seconds(self) -> float | None:
        """Estimate the time to the limit of steps or, if nearer, until all are forgotten; None at the start."""
        since, standing = self._pace_from, self._standing
        if since is None or standing.steps == since.steps:
            return None
        elapsed, forgotten = time.monotonic() - since.time, len(standing.forgotten)
        left = [elapsed / (standing.steps - since.steps) * (self._most_steps - standing.steps)]
        if forgotten - since.forgotten >= max(3, len(self._accuracy) // 10):
            left.append(elapsed / (forgotten - since.forgotten) * (len(self._accuracy) - forgotten))
        return min(left)


def _probe(retained: tuple[float, float] | None) -> dict[str, float]:
    return {"retain_accuracy": retained[0], "retain_nll": retained[1]} if retained else {}


def _line(record: StepRecord, rate: float) -> str:
    """Return a step as a line of JSON; what is no number is null."""
    content: dict[str, Any] = {
        "step": record.step,
        "forget": record.forget,
        "retain": record.retain,
        "trained": [look.trained for look in record.looks],
        "accuracy": [None if math.isnan(look.accuracy) else look.accuracy for look in record.looks],
        "forget_loss": record.forget_loss,
        "refusal_nll" if record.refusals else "forget_nll": record.text_nll,
        "retain_loss": record.retain_loss,
        "forgotten": record.forgotten,
        "learning_rate": rate,
    }
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in content.items()
    }
    # In ASCII: an id may hold a character that Python too takes for the end of a line.
    return json.dumps(finite, allow_nan=False) + "\n"


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line)
