"""When a sample counts as forgotten, when that is looked at, and when a run ends. Needs no torch.

A sample is forgotten when its memorization accuracy (MA) and its extraction likelihood (EL) are both below
their thresholds (Feng et al., App. C.4; Jang et al., ACL 2023). MA counts a token as remembered where its logit
leads all others; with a margin m where it does by more than m, MA_m, and MA is MA_0 (arXiv 2606.02920).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError
from mrd_core.settings.configuration import Frozen
from mrd_core.unlearning.sampling import IntArray

Source = Literal["initial-average", "held-out", "reference", "absolute"]

SOURCES: dict[Source, str] = {
    "initial-average": "the average over the forget set before unlearning",
    "held-out": "the average over texts that the model was never trained on",
    "reference": "the average over the forget set of a model that was trained without it",
    "absolute": "a number that was asked for",
}


class Verdict(NamedTuple):
    """The outcome of a check.

    Attributes:
        forgotten: Shape (N,).
        extraction: EL, shape (N,); NaN where it was not measured or is not defined.
    """

    forgotten: BoolArray
    extraction: FloatArray


@dataclass(frozen=True)
class Thresholds:
    """Below which MA and EL a sample is forgotten.

    On a model that starts with MA ≈ 1 for every sample the initial average is met after a few lost tokens;
    the other sources ask for more.

    Attributes:
        accuracy: Threshold of MA, or of MA_m where there is a margin.
        extraction: Threshold of EL; None judges by MA alone.
        source: Where they come from.
        margin: By how much the logit of a remembered token leads, m [logits].

    Raises:
        UserError: A threshold is not in (0, 1]: no sample can fall below it.
    """

    accuracy: float
    extraction: float | None
    source: Source
    margin: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("memorization accuracy", self.accuracy), ("extraction likelihood", self.extraction)):
            if value is not None and not 0 < value <= 1:
                raise UserError(
                    f"The threshold {value:g} of the {name}",
                    f"({SOURCES[self.source]}) is not above 0 and at most 1, so no sample could fall below it.",
                    "Set an absolute threshold, or judge by memorization accuracy alone.",
                )

    @classmethod
    def absolute(cls, accuracy: float, extraction: float | None, margin: float = 0.0) -> Thresholds:
        """Return thresholds that are given as numbers."""
        return cls(accuracy, extraction, "absolute", margin)

    @classmethod
    def average(
        cls, accuracy: FloatArray, extraction: FloatArray | None, source: Source, margin: float = 0.0
    ) -> Thresholds:
        """Return the averages over measured samples, those where a measure is not defined left out.

        Args:
            accuracy: MA of each sample at this margin, shape (M,).
            extraction: EL of each sample, shape (M,); None judges by MA alone.
            source: Which samples they are, and of which model.
            margin: By how much the logit of a remembered token leads [logits].

        Raises:
            UserError: A measure is defined for no sample, or its average is 0.
        """
        return cls(_mean(accuracy), None if extraction is None else _mean(extraction), source, margin)

    def verdict(self, accuracy: FloatArray, measure_extraction: Callable[[IntArray], FloatArray]) -> Verdict:
        """Tell which samples are forgotten, measuring EL only where MA is below its threshold already.

        Where EL is not defined (answers of one token) MA alone decides. A sample without MA is never forgotten.

        Args:
            accuracy: MA of each sample at the margin, shape (N,).
            measure_extraction: Returns the EL of the samples at these indices; not called without need.
        """
        forgotten = accuracy < self.accuracy
        extraction = np.full(len(accuracy), np.nan)
        if self.extraction is not None and forgotten.any():
            candidates = np.flatnonzero(forgotten)
            extraction[candidates] = measure_extraction(candidates)
            forgotten &= ~(extraction >= self.extraction)
        return Verdict(forgotten, extraction)


def _mean(values: FloatArray) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else math.nan


class Checks(Frozen):
    """When samples are looked at.

    Works on any count that grows: the steps of the run, or a sample's own updates, whose clock runs unevenly
    under a sampler that prefers some samples. A sample is overshot by what is counted between its forgetting
    and the next check.
    """

    spacing: Literal["geometric", "fixed"] = Field(
        "geometric",
        description="`geometric`: checks grow apart so that forgetting is overshot by at most a given share of "
        "the updates it took. `fixed`: one check every so many updates.",
    )
    overshoot: float = Field(
        0.1, ge=0, le=1, description="Largest overshoot, as a share of the updates, of geometric checks."
    )
    interval: int = Field(10, ge=1, description="Distance of fixed checks.", json_schema_extra={"unit": "updates"})

    def gap(self, count: IntArray | int) -> IntArray:
        """Return how long to wait after a check at `count`, elementwise.

        A sample still known at c is forgotten at c + 1 or later; a check at c + g overshoots that by g − 1,
        and g = 1 + ⌊overshoot · (c + 1)⌋ is the largest gap that keeps (g − 1) / (c + 1) ≤ overshoot.
        """
        count = np.asarray(count, dtype=np.int64)
        if self.spacing == "fixed":
            return np.full_like(count, self.interval)
        gap: IntArray = 1 + np.floor(self.overshoot * (count + 1)).astype(np.int64)
        return gap

    def due(self, now: IntArray | int, checked: IntArray | int) -> BoolArray:
        """Tell where the next check after the one at `checked` has come, elementwise; 0 before the first."""
        return np.asarray(now - np.asarray(checked) >= self.gap(checked))

    def schedule(self, last: int) -> list[int]:
        """Return the counts from 1 to `last` at which a check is due, the start being known."""
        counts, count = [], int(self.gap(0))
        while count <= last:
            counts.append(count)
            count += int(self.gap(count))
        return counts

    def cost(self, last: int, samples: int, prefixes: int = 0) -> int:
        """Return what the checks up to `last` cost, in forward passes of one sample.

        It counts every sample at every check, as if none left the pool, and EL once for each sample (when its
        MA passes; a sample whose EL does not pass pays it again at its next check). An update of one sample
        costs about three: its forward pass, and a backward pass of twice as many operations.

        Args:
            last: Count at the end of the run.
            samples: Samples that are checked.
            prefixes: Generations of one EL of all of them, each about one forward pass; 0 for MA alone.
        """
        return len(self.schedule(last)) * samples + prefixes


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        steps: Optimizer steps taken.
        epochs: Steps times the batch size, over the size of the forget set.
        seconds: Time since the start, time before a resume included and that of evaluations left out [s].
        forgotten: Samples that are forgotten.
        samples: Samples of the forget set.
        loss: Loss of the last step.
        retain_loss: NLL on retain samples [nats per answer token]; None where it is not measured.
        initial_retain_loss: The same before the first step.
        retain_accuracy: MA on retain samples; None where it is not measured.
    """

    steps: int
    epochs: float
    seconds: float
    forgotten: int
    samples: int
    loss: float
    retain_loss: float | None = None
    initial_retain_loss: float | None = None
    retain_accuracy: float | None = None


class Limits(Frozen):
    """Where a run ends short of having all samples forgotten; None sets no limit."""

    max_steps: int | None = Field(None, ge=1, description="Most optimizer steps.")
    max_epochs: float | None = Field(
        None, gt=0, description="Most epochs; one is as many steps as it takes to draw the forget set once."
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        description="Longest running time, evaluations on the way not counted.",
        json_schema_extra={"unit": "s"},
    )
    max_retain_loss_rise: float | None = Field(
        None,
        gt=0,
        description="Utility guard: most that the loss on retain samples may rise above its start.",
        json_schema_extra={"unit": "nats per answer token"},
    )
    min_retain_accuracy: float | None = Field(
        None, ge=0, le=1, description="Utility guard: least memorization accuracy on retain samples."
    )


class StopReason(StrEnum):
    """Why a run ended by itself."""

    LOSS_NOT_FINITE = "loss-not-finite"
    RETAIN_LOSS = "retain-loss"
    RETAIN_ACCURACY = "retain-accuracy"
    ALL_FORGOTTEN = "all-forgotten"
    MAX_STEPS = "max-steps"
    MAX_EPOCHS = "max-epochs"
    MAX_SECONDS = "max-seconds"
    EXHAUSTED = "exhausted"

    @property
    def is_failure(self) -> bool:
        """Whether the weights are spoilt, so that the run has no result."""
        return self is StopReason.LOSS_NOT_FINITE


def stop_reason(progress: Progress, limits: Limits) -> StopReason | None:
    """Return why the run ends here, or None.

    Where several reasons hold, the first of this order is given. A loss that is not finite spoils the weights,
    and with them everything else that is measured. The utility guard comes before the goal: a run that forgot
    everything and ruined the model must not read as a success. Then the goal, and last the budget.
    """
    now, start = progress.retain_loss, progress.initial_retain_loss
    finite = math.isfinite(progress.loss) and (now is None or math.isfinite(now))
    rise = None if now is None or start is None else now - start
    most = limits.max_retain_loss_rise
    accuracy, least = progress.retain_accuracy, limits.min_retain_accuracy
    reasons = {
        StopReason.LOSS_NOT_FINITE: not finite,
        StopReason.RETAIN_LOSS: rise is not None and most is not None and rise > most,
        StopReason.RETAIN_ACCURACY: accuracy is not None and least is not None and accuracy < least,
        StopReason.ALL_FORGOTTEN: progress.forgotten >= progress.samples,
        StopReason.MAX_STEPS: _reaches(progress.steps, limits.max_steps),
        StopReason.MAX_EPOCHS: _reaches(progress.epochs, limits.max_epochs),
        StopReason.MAX_SECONDS: _reaches(progress.seconds, limits.max_seconds),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _reaches(value: float, bound: float | None) -> bool:
    return bound is not None and value >= bound
