"""The curves of an unlearning run: what the store has of each step, by name. Loads no torch."""

from __future__ import annotations

from enum import StrEnum


class Curve(StrEnum):
    """The name of a curve, as the store has it.

    Those of a step are there for every step, the others where they were measured.

    Attributes:
        FORGET_LOSS: Forget term of the step.
        FORGET_NLL: NLL of the drawn samples' own answers before the update [nats per token].
        REFUSAL_NLL: The same of the refusals, where a method teaches those.
        RETAIN_LOSS: Retain term of the step, unweighted, mean over the partners that were trained on; where there
            were any.
        LEARNING_RATE: Of the step.
        UPDATES: Samples trained on so far, repeats counted.
        FORGOTTEN: Samples found forgotten so far.
        ACCURACY: MA when each sample was last looked at, at the margin of the run, mean over the forget set.
        FORGET_ACCURACY: The same of the drawn samples before the update, mean over those that were looked at.
        EXTRACTION: EL of the drawn samples, mean over those that it was measured of.
        RETAIN_ACCURACY: MA of the probed retain samples, at probes.
        RETAIN_NLL: Their NLL [nats per token], at probes.
        EFFECTIVE_SHARE: Effective sample size as a share of the pool, where MRD was measured anew.
        RETAIN_WEIGHT: λ of the retain term, where its loss is held at a limit.
        MEMORY: Memory of the device that is in use [MiB].
    """

    FORGET_LOSS = "forget_loss"
    FORGET_NLL = "forget_nll"
    REFUSAL_NLL = "refusal_nll"
    RETAIN_LOSS = "retain_loss"
    LEARNING_RATE = "learning_rate"
    UPDATES = "updates"
    FORGOTTEN = "forgotten"
    ACCURACY = "accuracy"
    FORGET_ACCURACY = "forget_accuracy"
    EXTRACTION = "extraction"
    RETAIN_ACCURACY = "retain_accuracy"
    RETAIN_NLL = "retain_nll"
    EFFECTIVE_SHARE = "effective_share"
    RETAIN_WEIGHT = "retain_weight"
    MEMORY = "memory_mb"


# Before the name of a metric of an evaluation on the way, such as `evaluation_utility`.
EVALUATION = "evaluation_"
