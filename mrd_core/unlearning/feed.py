"""What a run trains on next, who is forgotten, and when it ends: the state of an unlearning run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded, EncodedSample, IntArray
from mrd_core.model.memorization import Memorized
from mrd_core.runs.files import write_atomically
from mrd_core.unlearning.objective import Losses, StepBatch
from mrd_core.unlearning.sampling import Curriculum, Sampler, retain_partner
from mrd_core.unlearning.stopping import Checks, Limits, Progress, StopReason, Thresholds, stop_reason

STATE_FILE = "unlearning.json"


@dataclass(frozen=True)
class Samples:
    """The forget and retain samples of a run.

    Attributes:
        forget: N samples.
        refused: Returns a forget sample with a refusal for an answer; None for methods that use its own.
        reference_nll: Summed NLL of each forget sample under the starting model [nats], shape (N,); None where
            the method does not need it.
        retain: Samples to keep; None without a retain term.
        beside: Returns a forget sample with a refusal for an answer, for methods that compare the two; else None.
    """

    forget: Encoded
    refused: Callable[[str, int], EncodedSample] | None
    reference_nll: FloatArray | None
    retain: Encoded | None
    beside: Callable[[str, int], EncodedSample] | None = None


class Rescored(NamedTuple):
    """MRD on the current weights.

    Attributes:
        scores: By id.
        evaluations: Forward evaluations of the samples that were scored.
        tokens: What they went over.
    """

    scores: Mapping[str, float]
    evaluations: int
    tokens: int


class Evaluation(NamedTuple):
    """Metrics on the present weights.

    Attributes:
        values: The metrics that are defined, by name.
        tokens: Tokens that it went over.
    """

    values: Mapping[str, float]
    tokens: int


class EvaluationRecord(NamedTuple):
    """An evaluation on the way.

    Attributes:
        step: After which it was made; 0 is before the first.
        updates: Samples trained on until then, repeats counted.
        seconds: How long it took [s].
        values: The metrics that are defined, by name.
        tokens: Tokens that it went over.
    """

    step: int
    updates: int
    seconds: float
    values: Mapping[str, float]
    tokens: int


@dataclass(frozen=True)
class Measures:
    """What is measured outside the training passes.

    Attributes:
        memorized: MA and NLL of the forget samples at these indices, and MA at the margin of the rules.
        extraction: EL of the forget samples at these indices.
        extraction_tokens: Tokens that this goes over at most, shape (N,).
        retained: MA and NLL of the probed retain samples; None without a retain set.
        retained_tokens: Tokens that this goes over.
        rescored: MRD of the forget samples at these indices on the current weights.
        evaluation: What is forgotten and what is kept, on a sub-sample.
    """

    memorized: Callable[[IntArray], Memorized]
    extraction: Callable[[IntArray], FloatArray]
    extraction_tokens: IntArray
    retained: Callable[[], Memorized] | None
    retained_tokens: int
    rescored: Callable[[IntArray], Rescored]
    evaluation: Callable[[], Evaluation] | None = None


@dataclass
class Standing:
    """How far the run is, as it is saved with each checkpoint.

    Attributes:
        steps: Optimiser steps taken.
        draws: Forget samples drawn.
        seconds: Time spent, that of earlier attempts included [s].
        seconds_checks: The part of it that went into looks outside the training passes [s].
        seconds_mrd: The part of it that went into measuring MRD anew [s].
        seconds_evaluations: The part of it that went into evaluations [s].
        updates: How often each sample was trained on, by id.
        forgotten: The step in which each forgotten sample was found so, by id.
        accuracy: MA of each sample when it was last looked at, at the margin of the rules, by id.
        checked: A sample's updates at its last look outside the training passes, by id.
        tokens_trained: Tokens of forget texts with a forward and a backward pass.
        tokens_refused: Those of refusals beside the answers, which `tokens_trained` includes.
        tokens_retained: The same for the retain partners.
        tokens_checked: Tokens with a forward pass only: draws found forgotten, looks, probes, EL.
        tokens_mrd: Tokens of MRD measured anew.
        mrd_evaluations: Forward evaluations of that.
        tokens_evaluated: Tokens of evaluations.
        evaluations: How many there were.
        rescored_epoch: The epoch at whose begin that was last done.
        retain_weight: λ of the retain term, where its loss is held at a limit.
    """

    steps: int = 0
    draws: int = 0
    seconds: float = 0.0
    seconds_checks: float = 0.0
    seconds_mrd: float = 0.0
    seconds_evaluations: float = 0.0
    updates: dict[str, int] = field(default_factory=dict)
    forgotten: dict[str, int] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    tokens_trained: int = 0
    tokens_refused: int = 0
    tokens_retained: int = 0
    tokens_checked: int = 0
    tokens_mrd: int = 0
    mrd_evaluations: int = 0
    tokens_evaluated: int = 0
    evaluations: int = 0
    rescored_epoch: int = 0
    retain_weight: float = 0.0

    @property
    def seconds_beside_training(self) -> float:
        """The part of the time that went into anything else [s]."""
        return self.seconds_checks + self.seconds_mrd + self.seconds_evaluations


class Look(NamedTuple):
    """What was seen of one row of a draw.

    Attributes:
        row: Place in the draw.
        accuracy: MA before the update, at the margin of the rules; NaN where it was not looked at.
        extraction: EL; NaN where it was not measured.
        forgotten: Whether the sample is forgotten.
        trained: Whether the weights move for it.
    """

    row: int
    accuracy: float
    extraction: float
    forgotten: bool
    trained: bool


@dataclass(frozen=True)
class StepRecord:
    """What one step was.

    Attributes:
        step: Steps taken, this one included.
        forget: Ids of the forget samples, all processes' in the order of the draws.
        retain: Ids of their retain partners.
        looks: What was seen of each drawn sample, in that order.
        forget_loss: Forget term.
        text_nll: NLL of the drawn texts, the samples' own answers or refusals, before the update [nats per token].
        refusals: Whether they were refusals.
        retain_loss: Retain term, unweighted: the mean over the partners that were trained on; None without any.
        learning_rate: Of the step.
        forgotten: Ids that were found forgotten in this step.
        updates: Samples trained on so far, repeats counted.
        forgotten_so_far: Samples found forgotten so far.
        probe: MA and NLL of the probed retain samples; None between probes.
        effective_share: Effective sample size as a share of the pool after MRD was measured anew, else None.
        retain_weight: λ of the step; None where it does not change.
        gradient_norms: Norm of what each drawn sample adds to the gradient of the forget term, in that order, NaN
            where nothing; None where it was not measured.
    """

    step: int
    forget: tuple[str, ...]
    retain: tuple[str, ...]
    looks: tuple[Look, ...]
    forget_loss: float
    text_nll: float
    refusals: bool
    retain_loss: float | None
    learning_rate: float
    forgotten: tuple[str, ...]
    updates: int
    forgotten_so_far: int
    probe: tuple[float, float] | None
    effective_share: float | None
    retain_weight: float | None = None
    gradient_norms: tuple[float, ...] | None = None


class RetainLimit(NamedTuple):
    """Where the retain loss is held, by a λ that grows while it is above and falls while it is below.

    Attributes:
        loss: ε, in the unit of the retain term.
        rate: η, how much λ moves for each unit of that and step.
    """

    loss: float
    rate: float

    def following(self, weight: float, loss: float) -> float:
        """Return max(0, λ + η (L − ε)), the dual step of Entesari et al. 2025."""
        return max(0.0, weight + self.rate * (loss - self.loss))


@dataclass(frozen=True)
class Rules:
    """What a run keeps to.

    Attributes:
        batch_size: Forget samples of one step, all processes together.
        seed: Of the retain partners.
        thresholds: When a sample is forgotten.
        checks: When a sample's own answer is looked at where training does not show it.
        limits: When the run ends.
        drop_forgotten: Whether forgotten samples leave the pool.
        probe_steps: Steps between two looks at the retain set.
        recompute_epochs: Epochs between two measurements of MRD; None keeps it.
        evaluate_steps: Steps between two evaluations; None makes none.
        retain_limit: Where the retain loss is held; None where it is weighed.
        gradient_steps: Steps between two measurements of samples' gradient norms, from the first on; 0 makes none.
    """

    batch_size: int
    seed: int
    thresholds: Thresholds
    checks: Checks
    limits: Limits
    drop_forgotten: bool = True
    probe_steps: int = 25
    recompute_epochs: int | None = None
    evaluate_steps: int | None = None
    retain_limit: RetainLimit | None = None
    gradient_steps: int = 0


# Returns what all processes hold, those of the lowest rank first.
Gather = Callable[[list[Any]], list[Any]]


class CurriculumFeed:
    """Draws the steps of a run from its curriculum and keeps its standing.

    A sample is looked at when it is drawn, before it is trained on. Its training pass shows its MA for nothing,
    so a forgotten sample gets no further update and no schedule of checks is needed. Only where refusals are
    trained does its own answer take a pass of its own, on a schedule that its own updates pace.

    Args:
        curriculum: The order of the forget samples.
        samples: The samples.
        measures: What is measured outside the training passes.
        rules: What the run keeps to.
        report: Takes the record of each step.
        asked_to_stop: Tells whether somebody cancelled the run.
        before_save: Called before a checkpoint: what was reported is written down by then, or a run that is killed
            right after it would never report it again.
        gather: Brings together what the processes hold.
        report_evaluation: Takes each evaluation.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        samples: Samples,
        measures: Measures,
        rules: Rules,
        report: Callable[[StepRecord], None],
        asked_to_stop: Callable[[], bool] = lambda: False,
        before_save: Callable[[], None] = lambda: None,
        gather: Gather = list,
        report_evaluation: Callable[[EvaluationRecord], None] = lambda _record: None,
    ) -> None:
        self.curriculum = curriculum
        self.standing = Standing()
        self.reason: StopReason | None = None
        self._samples = samples
        self._measures = measures
        self._rules = rules
        self._report = report
        self._asked_to_stop = asked_to_stop
        self._before_save = before_save
        self._gather = gather
        self._report_evaluation = report_evaluation
        self._place = {sample: place for place, sample in enumerate(samples.forget.sample_ids)}
        self._ids: tuple[str, ...] = ()
        self._texts: list[EncodedSample] = []
        self._refusals: list[EncodedSample] = []
        self._partners: list[int] = []
        self._looks: list[Look] = []
        self._tokens_looked_at = 0
        self._news: tuple[str, ...] = ()
        self._retained: tuple[float, float] | None = None
        self._retained_at_start: float | None = None
        self._since = time.monotonic()

    @property
    def spoilt(self) -> bool:
        """Whether the weights are no good any more."""
        return self.reason is not None and self.reason.is_failure

    def probe_start(self) -> tuple[float, float] | None:
        """Return MA and NLL of the probed retain samples before the first step; None without a retain set."""
        retained = self._probe()
        self._retained_at_start = retained and retained[1]
        return retained

    def start_clock(self) -> None:
        """Count the time of the run from now on."""
        self._since = time.monotonic()

    def evaluate(self, step: int) -> None:
        """Evaluate the present weights, those after `step`, and report it."""
        assert self._measures.evaluation is not None  # whoever asks for evaluations says how
        standing, began = self.standing, time.monotonic()
        evaluation = self._measures.evaluation()
        seconds = time.monotonic() - began
        standing.seconds_evaluations += seconds
        standing.tokens_evaluated += evaluation.tokens
        standing.evaluations += 1
        self._tick()
        self._report_evaluation(EvaluationRecord(step, sum(standing.updates.values()), seconds, *evaluation))

    def draw(self, step: int) -> StepBatch:
        """Return what is trained on in `step`, by all processes together."""
        self._ids = tuple(self.curriculum.next_batch(min(self._rules.batch_size, self.curriculum.pool.size)))
        refused, forget = self._samples.refused, self._samples.forget
        self._texts = [
            refused(sample, step) if refused else forget.samples[self._place[sample]] for sample in self._ids
        ]
        beside = self._samples.beside
        self._refusals = [beside(sample, step) for sample in self._ids] if beside else []
        self._looks = []
        retain = self._samples.retain
        count = len(retain) if retain else 0
        self._partners = [
            retain_partner(self._rules.seed, step, slot, count) for slot in range(len(self._ids)) if count
        ]
        nll = self._samples.reference_nll
        return StepBatch(
            forget=self._texts,
            reference_nll=None if nll is None else torch.from_numpy(nll[self._places(self._ids)]),
            retain=[retain.samples[i] for i in self._partners] if retain else [],
            retain_weight=self.standing.retain_weight if self._rules.retain_limit else None,
            refusals=self._refusals,
            is_measured=self._rules.gradient_steps > 0 and step % self._rules.gradient_steps == 0,
        )

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
        """Look at drawn samples of this process before they are trained on, and return the rows to train on.

        Args:
            rows: Their places in the draw.
            accuracy: Their MA before the update, at the margin of the rules; of refusals, where the method teaches
                those, which says nothing of the samples.
        """
        looked = self._own_looks(rows) if self._samples.refused else dict(zip(rows, accuracy, strict=True))
        verdict = self._verdict(looked)
        for row in rows:
            extraction, forgotten = verdict.get(row, (math.nan, self._ids[row] in self.standing.forgotten))
            trained = not (forgotten and self._rules.drop_forgotten)
            self._looks.append(Look(row, looked.get(row, math.nan), extraction, forgotten, trained))
        return [look.row for look in self._looks if look.trained and look.row in rows]

    def selected(self) -> list[int]:
        """Bring the looks of all processes together; return the rows that are trained on."""
        self._looks = sorted(self._gather(self._looks))
        self.standing.tokens_checked += sum(self._gather([self._tokens_looked_at]))
        self._tokens_looked_at = 0
        return [look.row for look in self._looks if look.trained]

    def undo(self) -> None:
        """Forget the looks of this draw: they are taken once more."""
        self._looks = []

    def stepped(self, step: int, losses: Losses, learning_rate: float) -> bool:
        """Note that the weights have moved, look at the retain set, and tell whether this was the last step."""
        standing, rules = self.standing, self._rules
        self._note_looks(step)
        standing.steps = step
        standing.draws += len(self._ids)
        if rules.drop_forgotten:
            self.curriculum.remove(self._news)
        probe = self._probe() if step % rules.probe_steps == 0 else None
        share = self._rescore()
        record = self._record(step, losses, learning_rate, probe, share)
        if rules.retain_limit and record.retain_loss is not None:
            standing.retain_weight = rules.retain_limit.following(standing.retain_weight, record.retain_loss)
        self._report(record)
        # The first process that has a reason tells: their clocks differ.
        reasons = self._gather([stop_reason(self._progress(record), rules.limits)])
        self.reason = next(filter(None, reasons), None)
        if self.reason is None and self.curriculum.exhausted:
            self.reason = StopReason.EXHAUSTED
        every = rules.evaluate_steps
        if every is not None and not self.spoilt and (step % every == 0 or self.reason is not None):
            self.evaluate(step)
        wanted = self.reason is not None or self._asked_to_stop()
        return any(self._gather([wanted]))

    def save(self, folder: Path) -> None:
        """Write the curriculum and the standing into a checkpoint."""
        self._before_save()
        self._tick()
        state = {
            "curriculum": self.curriculum.state(),
            "standing": asdict(self.standing),
            "retained": [self._retained, self._retained_at_start],
            "reason": self.reason,
        }
        text = json.dumps(state, allow_nan=False).encode()
        write_atomically(folder / STATE_FILE, lambda stream: stream.write(text))

    def restore(self, folder: Path, sampler: Sampler) -> None:
        """Go on from a checkpoint."""
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        self.curriculum = Curriculum.restore(sampler, state["curriculum"])
        self.standing = Standing(**state["standing"])
        retained, self._retained_at_start = state["retained"]
        self._retained = retained and (retained[0], retained[1])
        self.reason = state["reason"] and StopReason(state["reason"])
        self._since = time.monotonic()

    def _places(self, ids: Sequence[str]) -> IntArray:
        return np.array([self._place[sample] for sample in ids], dtype=np.int64)

    def _own_looks(self, rows: Sequence[int]) -> dict[int, float]:
        """Measure the MA of those drawn samples whose own answer is due for a look, by row."""
        standing = self.standing
        due = [
            row
            for row in rows
            if self._rules.checks.due(
                standing.updates.get(self._ids[row], 0), standing.checked.get(self._ids[row], 0)
            )
        ]
        if not due:
            return {}
        places = self._places([self._ids[row] for row in due])
        with self._checking():
            measured = self._measures.memorized(places)
        self._tokens_looked_at += sum(len(self._samples.forget.samples[place].tokens) for place in places)
        return dict(zip(due, measured.remembered.tolist(), strict=True))

    def _verdict(self, looked: Mapping[int, float]) -> dict[int, tuple[float, bool]]:
        """Return EL and whether the sample is forgotten for each row that was looked at."""
        rows = list(looked)
        places = self._places([self._ids[row] for row in rows])

        def extraction(candidates: IntArray) -> FloatArray:
            self._tokens_looked_at += int(self._measures.extraction_tokens[places[candidates]].sum())
            with self._checking():
                return self._measures.extraction(places[candidates])

        verdict = self._rules.thresholds.verdict(np.array([looked[row] for row in rows]), extraction)
        return dict(
            zip(rows, zip(verdict.extraction.tolist(), verdict.forgotten.tolist(), strict=True), strict=True)
        )

    def _note_looks(self, step: int) -> None:
        standing = self.standing
        forgotten = dict.fromkeys(self._ids[look.row] for look in self._looks if look.forgotten)
        self._news = tuple(sample for sample in forgotten if sample not in standing.forgotten)
        standing.forgotten |= dict.fromkeys(self._news, step)
        for look in self._looks:
            sample = self._ids[look.row]
            if not math.isnan(look.accuracy):
                standing.accuracy[sample] = look.accuracy
                standing.checked[sample] = standing.updates.get(sample, 0)
        retain = self._samples.retain
        # Afterwards: a sample that was drawn twice was looked at before either update.
        for look in self._looks:
            sample, tokens = self._ids[look.row], len(self._texts[look.row].tokens)
            if not look.trained:
                standing.tokens_checked += tokens
                continue
            standing.updates[sample] = standing.updates.get(sample, 0) + 1
            standing.tokens_trained += tokens
            if self._refusals:
                refused = len(self._refusals[look.row].tokens)
                standing.tokens_trained += refused
                standing.tokens_refused += refused
            if retain:
                standing.tokens_retained += len(retain.samples[self._partners[look.row]].tokens)

    def _probe(self) -> tuple[float, float] | None:
        if self._measures.retained is None:
            return None
        with self._checking():
            memorized = self._measures.retained()
        self.standing.tokens_checked += self._measures.retained_tokens
        self._retained = float(np.nanmean(memorized.accuracy)), float(np.nanmean(memorized.nll))
        return self._retained

    def _rescore(self) -> float | None:
        """Measure MRD anew where an epoch begins for which that is due; return the effective share then."""
        every, epoch = self._rules.recompute_epochs, self.curriculum.place.epoch
        due = every and epoch // every > self.standing.rescored_epoch // every
        if not due or self.curriculum.exhausted:
            return None
        self.standing.rescored_epoch = epoch
        pool = self.curriculum.pool
        began = time.monotonic()
        rescored = self._measures.rescored(self._places(pool.named(pool.in_pool)))
        self.standing.seconds_mrd += time.monotonic() - began
        self.standing.mrd_evaluations += rescored.evaluations
        self.standing.tokens_mrd += rescored.tokens
        self.curriculum.reweigh(rescored.scores)
        return self.curriculum.effective_share

    def _retained_loss(self, losses: Losses) -> float | None:
        """Return the mean loss of the retain partners that were trained on; None where there were none."""
        retain = self._samples.retain
        if retain is None:
            return None
        tokens = [int(retain.samples[partner].answer.sum()) for partner in self._partners]
        trained = sum(tokens[look.row] for look in self._looks if look.trained)
        # The loss of a step is a mean over the partners of all that was drawn.
        return losses.retain * sum(tokens) / trained if trained else None

    def _record(
        self,
        step: int,
        losses: Losses,
        learning_rate: float,
        probe: tuple[float, float] | None,
        share: float | None,
    ) -> StepRecord:
        retain = self._samples.retain
        return StepRecord(
            step=step,
            forget=self._ids,
            retain=tuple(retain.sample_ids[i] for i in self._partners) if retain else (),
            looks=tuple(self._looks),
            forget_loss=losses.forget,
            text_nll=losses.nll / max(losses.tokens, 1),
            refusals=self._samples.refused is not None,
            retain_loss=self._retained_loss(losses),
            learning_rate=learning_rate,
            forgotten=self._news,
            updates=sum(self.standing.updates.values()),
            forgotten_so_far=len(self.standing.forgotten),
            probe=probe,
            effective_share=share,
            retain_weight=self.standing.retain_weight if self._rules.retain_limit else None,
            gradient_norms=self._norms(losses),
        )

    def _norms(self, losses: Losses) -> tuple[float, ...] | None:
        norms = losses.norms
        return tuple(norms.get(row, math.nan) for row in range(len(self._ids))) if norms else None

    def _progress(self, record: StepRecord) -> Progress:
        self._tick()
        samples = len(self._samples.forget)
        return Progress(
            steps=record.step,
            # Near the end of the pool a step draws less than a batch; the schedules want an end that is known.
            epochs=record.step * min(self._rules.batch_size, samples) / samples,
            seconds=self.standing.seconds - self.standing.seconds_evaluations,
            forgotten=len(self.standing.forgotten),
            samples=samples,
            # The NLL too: weights that are not finite get every token wrong, which reads as forgotten.
            loss=record.forget_loss + record.text_nll + (record.retain_loss or 0.0),
            retain_loss=self._retained and self._retained[1],
            initial_retain_loss=self._retained_at_start,
            retain_accuracy=self._retained and self._retained[0],
        )

    @contextmanager
    def _checking(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.standing.seconds_checks += time.monotonic() - began

    def _tick(self) -> None:
        now = time.monotonic()
        self.standing.seconds += now - self._since
        self._since = now
