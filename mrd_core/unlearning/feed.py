"""What a run trains on next, who is forgotten, and when it ends: the state of an unlearning run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mrd_core.encoding import Encoded, EncodedSample, IntArray
from mrd_core.memorization import Memorized
from mrd_core.scoring.files import write_atomically
from mrd_core.unlearning.objective import Drawn, Losses
from mrd_core.unlearning.sampling import Curriculum, Sampler, part, retain_partner
from mrd_core.unlearning.stopping import Checks, Limits, Progress, StopReason, Thresholds, stop_reason

STATE_FILE = "unlearning.json"
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """The forget and retain samples of a run.

    Attributes:
        forget: N samples.
        refused: Returns a forget sample with a refusal for an answer; None for methods that use its own.
        reference_nll: Summed NLL of each forget sample under the starting model [nats], shape (N,); None where
            the method does not need it.
        retain: Samples to keep; None without a retain term.
    """

    forget: Encoded
    refused: Callable[[str, int], EncodedSample] | None
    reference_nll: FloatArray | None
    retain: Encoded | None


@dataclass(frozen=True)
class Measures:
    """How forgetting is measured outside the training passes.

    Attributes:
        memorized: MA and NLL of the forget samples at these indices.
        extraction: EL of the forget samples at these indices.
        retained: MA and NLL of some retain samples; None without a guard.
    """

    memorized: Callable[[IntArray], Memorized]
    extraction: Callable[[IntArray], FloatArray]
    retained: Callable[[], Memorized] | None


@dataclass
class Standing:
    """How far the run is, as it is saved with each checkpoint.

    Attributes:
        steps: Optimiser steps taken.
        draws: Forget samples drawn.
        seconds: Time spent, that of earlier attempts included [s].
        updates: How often each sample was trained on, by id.
        forgotten: The step after which each forgotten sample was found so, by id.
        checked: The step after which each sample was last looked at, by id.
        check_passes: Forward passes of one sample that checks outside the training passes took.
    """

    steps: int = 0
    draws: int = 0
    seconds: float = 0.0
    updates: dict[str, int] = field(default_factory=dict)
    forgotten: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    check_passes: int = 0


@dataclass(frozen=True)
class StepRecord:
    """What one step was: a line of the run's log, and a point of its charts.

    Attributes:
        step: Steps taken, this one included.
        forget: Ids of the forget samples, all processes' in the order of the draws.
        retain: Ids of their retain partners.
        losses: Of this process.
        forgotten: Ids that were found forgotten since the last record.
    """

    step: int
    forget: tuple[str, ...]
    retain: tuple[str, ...]
    losses: Losses
    forgotten: tuple[str, ...]

    def line(self) -> str:
        """Return it as a line of JSON."""
        content = {
            "step": self.step,
            "forget": self.forget,
            "retain": self.retain,
            "forget_loss": self.losses.forget,
            "forget_nll": self.losses.nll,
            "retain_loss": self.losses.retain,
            "forgotten": self.forgotten,
        }
        return json.dumps(content, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Rules:
    """What a run keeps to.

    Attributes:
        batch_size: Forget samples of one step, all processes together.
        seed: Of the retain partners.
        thresholds: When a sample is forgotten.
        checks: When samples that were not drawn lately are looked at.
        limits: When the run ends.
        drop_forgotten: Whether forgotten samples leave the pool.
    """

    batch_size: int
    seed: int
    thresholds: Thresholds
    checks: Checks
    limits: Limits
    drop_forgotten: bool


class CurriculumFeed:
    """Draws the steps of a run from its curriculum and keeps its standing.

    A sample's own training pass tells its MA before the update, so a sample that is drawn is looked at for
    nothing; the others are measured when their check is due.

    Args:
        curriculum: The order of the forget samples.
        samples: The samples.
        measures: How forgetting is measured outside the training passes.
        rules: What the run keeps to.
        report: Takes the record of each step.
        asked_to_stop: Tells whether somebody cancelled the run.
        rank: This process, of `processes`.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        samples: Samples,
        measures: Measures,
        rules: Rules,
        report: Callable[[StepRecord], None],
        asked_to_stop: Callable[[], bool] = lambda: False,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.curriculum = curriculum
        self.standing = Standing()
        self.reason: StopReason | None = None
        self._samples = samples
        self._measures = measures
        self._rules = rules
        self._report = report
        self._asked_to_stop = asked_to_stop
        self._rank, self._processes = rank, processes
        self._place = {sample: place for place, sample in enumerate(samples.forget.sample_ids)}
        self._drawn: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._losses = Losses(float("nan"), 0.0, float("nan"))
        self._news: list[str] = []
        self._since = time.monotonic()
        self._initial_retain_loss: float | None = None

    def draw(self, step: int) -> Drawn:
        """Return what this process trains on in `step`."""
        ids = self.curriculum.next_batch(min(self._rules.batch_size, self.curriculum.pool.size))
        partners = self._partners(step, len(ids))
        retain = self._samples.retain
        self._drawn = (tuple(ids), tuple(retain.sample_ids[i] for i in partners) if retain else ())
        mine = [self._place[sample] for sample in part(ids, self._rank, self._processes)]
        return Drawn(
            forget=[self._text(i, step) for i in mine],
            reference_nll=self._reference(mine),
            retain=[retain.samples[i] for i in part(partners, self._rank, self._processes)] if retain else (),
        )

    def judge(self, rows: slice, accuracy: list[float]) -> list[int]:
        """Note which samples of the last draw are forgotten already, and return the rows to train on.

        Args:
            rows: Their place in this process's part of the draw.
            accuracy: Their MA before the update; of refusals, where the method teaches those, which says
                nothing of the samples.
        """
        mine = part(self._drawn[0], self._rank, self._processes)[rows]
        if self._samples.refused is None:
            self._note(dict(zip(mine, accuracy, strict=True)), self.standing.steps)
        kept = [row for row, sample in enumerate(mine) if sample not in self.standing.forgotten]
        if not self._rules.drop_forgotten:
            kept = list(range(len(mine)))
        for row in kept:
            self.standing.updates[mine[row]] = self.standing.updates.get(mine[row], 0) + 1
        return kept

    def stepped(self, step: int, losses: Losses) -> bool:
        """Look at the samples whose check is due, write the step down, and tell whether it was the last."""
        self.standing.steps = step
        self.standing.draws += len(self._drawn[0])
        self._losses = losses
        self._check(step)
        if self._rules.drop_forgotten:
            self.curriculum.remove(self._news)
        self._report(StepRecord(step, *self._drawn, losses, tuple(self._news)))
        self._news = []
        self.reason = stop_reason(self._progress(), self._rules.limits)
        return self.reason is not None or self.curriculum.exhausted or self._asked_to_stop()

    def save(self, folder: Path) -> None:
        """Write the curriculum and the standing into a checkpoint."""
        self._tick()
        state = {"curriculum": self.curriculum.state(), "standing": vars(self.standing)}
        text = json.dumps(state, allow_nan=False).encode()
        write_atomically(folder / STATE_FILE, lambda stream: stream.write(text))

    def restore(self, folder: Path, sampler: Sampler) -> None:
        """Go on from a checkpoint."""
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        self.curriculum = Curriculum.restore(sampler, state["curriculum"])
        self.standing = Standing(**state["standing"])

    def _text(self, place: int, step: int) -> EncodedSample:
        forget, refused = self._samples.forget, self._samples.refused
        return forget.samples[place] if refused is None else refused(forget.sample_ids[place], step)

    def _reference(self, places: Sequence[int]) -> torch.Tensor | None:
        nll = self._samples.reference_nll
        return None if nll is None else torch.from_numpy(nll[list(places)])

    def _partners(self, step: int, count: int) -> list[int]:
        retain = self._samples.retain
        if retain is None:
            return []
        return [retain_partner(self._rules.seed, step, slot, len(retain)) for slot in range(count)]

    def _note(self, accuracy: dict[str, float], step: int) -> None:
        """Note which of these samples are forgotten as the weights stood after `step` steps."""
        known = [sample for sample in accuracy if sample not in self.standing.forgotten]
        places = np.array([self._place[sample] for sample in known], dtype=np.int64)
        verdict = self._rules.thresholds.judge(
            np.array([accuracy[sample] for sample in known]),
            lambda candidates: self._measures.extraction(places[candidates]),
        )
        for sample, forgotten in zip(known, verdict.forgotten, strict=True):
            self.standing.checked[sample] = step
            if forgotten:
                self.standing.forgotten[sample] = step
                self._news.append(sample)

    def _check(self, step: int) -> None:
        left = [sample for sample in self._samples.forget.sample_ids if sample not in self.standing.forgotten]
        last = np.array([self.standing.checked.get(sample, 0) for sample in left], dtype=np.int64)
        due = [sample for sample, is_due in zip(left, self._rules.checks.due(step, last), strict=True) if is_due]
        if not due:
            return
        measured = self._measures.memorized(np.array([self._place[sample] for sample in due], dtype=np.int64))
        self.standing.check_passes += len(due)
        self._note(dict(zip(due, measured.accuracy.tolist(), strict=True)), step)

    def _progress(self) -> Progress:
        self._tick()
        retained = self._measures.retained() if self._measures.retained else None
        loss = None if retained is None else float(np.nanmean(retained.nll))
        if self._initial_retain_loss is None:
            self._initial_retain_loss = loss
        return Progress(
            steps=self.standing.steps,
            epochs=self.standing.draws / len(self._samples.forget),
            seconds=self.standing.seconds,
            forgotten=len(self.standing.forgotten),
            samples=len(self._samples.forget),
            loss=self._losses.forget + self._losses.retain,
            retain_loss=loss,
            initial_retain_loss=self._initial_retain_loss,
            retain_accuracy=None if retained is None else float(np.nanmean(retained.accuracy)),
        )

    def _tick(self) -> None:
        now = time.monotonic()
        self.standing.seconds += now - self._since
        self._since = now
