"""Unlearning a few texts again and again, each time from the very same weights, until they are forgotten."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrd_core.experiments.config import OPTIMISERS, MethodName, Optimiser, UnlearningExperimentConfig
from mrd_core.experiments.job import Material
from mrd_core.model import loading as models
from mrd_core.model.encoding import (
    Encoded,
    EncodedSample,
    IntArray,
    answerable,
    choose_template,
    encode,
    encode_one,
)
from mrd_core.model.loading import LoadedModel
from mrd_core.model.memorization import Memorized, measure_memorization
from mrd_core.model.reader import within_memory
from mrd_core.runs import JobContext
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.unlearning import refusals
from mrd_core.unlearning.adapters import require_gradients
from mrd_core.unlearning.config import MOST_RETAIN_MEASURED
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.objective import Drawn, Losses, Objective
from mrd_core.unlearning.sampling import retain_partner

# Most samples in memory at a time; halved while memory runs out.
MICRO_BATCH = 8


class Arm(NamedTuple):
    """A method with an optimiser."""

    method: MethodName
    optimiser: Optimiser

    @property
    def label(self) -> str:
        """What people call it: `GradDiff with SGD`."""
        return f"{METHODS[self.method].label} with {OPTIMISERS[self.optimiser]}"


class Ended(NamedTuple):
    """How an unlearning ended.

    Attributes:
        updates: Optimiser steps taken; where the texts were not forgotten, as many as were allowed.
        forgotten: Whether their mean MA fell below the threshold.
        diverged: Whether a loss or NLL was not finite; nothing else counts then.
        accuracy: Their mean MA at the end; None where it diverged.
        nll: Their NLL at the end [nats per answer token]; None where it diverged.
        trace: Their mean MA before each update and after the last, `updates` + 1 values; `updates` where it
            diverged.
    """

    updates: int
    forgotten: bool
    diverged: bool
    accuracy: float | None
    nll: float | None
    trace: list[float]

    @property
    def row(self) -> dict[str, Any]:
        """The columns that the rows of all experiments have."""
        return {"updates": self.updates, "forgotten": self.forgotten, "diverged": self.diverged}


class _Texts(NamedTuple):
    """What is unlearned.

    Attributes:
        samples: B texts, with their own answers.
        sample_ids: Whose refusals are taught in their places; empty where the texts are of no single sample.
        prompts: Theirs.
        reference_nll: Their summed NLL under the starting weights [nats], shape (B,).
    """

    samples: Sequence[EncodedSample]
    sample_ids: Sequence[str]
    prompts: Sequence[str]
    reference_nll: Tensor


class _Seen(NamedTuple):
    """What was seen of the texts before an update."""

    accuracy: float
    nll: float
    finite: bool


class _Witness:
    """Takes down the MA of all rows; as soon as it is known that all are forgotten, none is trained on."""

    def __init__(self, rows: int, threshold: float, *, trains: bool) -> None:
        self._rows = rows
        self._threshold = threshold
        self._trains = trains
        self._accuracy: list[float] = []

    @property
    def mean(self) -> float:
        """Mean MA of the rows seen so far."""
        return sum(self._accuracy) / len(self._accuracy)

    def judge(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
        """Return those of these rows to train on: all or none."""
        self._accuracy += accuracy
        return list(rows) if self._goes_on else []

    def settled(self) -> list[int]:
        """Return all rows that are trained on."""
        return list(range(self._rows)) if self._goes_on else []

    @property
    def _goes_on(self) -> bool:
        complete = len(self._accuracy) == self._rows
        return self._trains and not (complete and self.mean < self._threshold)


class NormalisedSGD(torch.optim.SGD):
    """SGD on the gradient divided by its norm over all weights (L2)."""

    def step(self, closure: Any = None) -> Any:
        """Move the weights by the learning rate in the direction of the gradient."""
        gradients = [
            weight.grad for group in self.param_groups for weight in group["params"] if weight.grad is not None
        ]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        # A gradient that has vanished gives no direction.
        if norm > 0:
            torch._foreach_div_(gradients, norm)
        return super().step(closure)


@dataclass(frozen=True, eq=False)
class _Run:
    """One unlearning: what, how, and the seed of what is drawn on the way."""

    texts: _Texts
    objective: Objective
    optimiser: torch.optim.Optimizer
    seed: int


class Unlearner:
    """The model with its starting weights, and the samples as tokens.

    After `unlearn` the model has the unlearned weights until the next call, and what is measured is theirs.

    Args:
        config: Of the experiment.
        material: Its samples.
        context: Tells whether somebody cancelled the run.

    Attributes:
        forget: The forget samples that have an answer token within the context.
        retain: The same of the retain set; None without one.
        start: MA and NLL of each forget sample before unlearning.
        reasons: For each automatic choice, what was chosen and why.
        warnings: What a reader of the run should know, in sentences.

    Raises:
        UserError: Bad model or template, or nothing that could be forgotten.
    """

    def __init__(self, config: UnlearningExperimentConfig, material: Material, context: JobContext) -> None:
        self._config = config
        self._context = context
        self.reasons: dict[str, str] = {}
        self.warnings: list[str] = []
        self._model = self._loaded()
        self._reader = self._model.reader(before_batch=context.check_cancelled)
        template = choose_template(self._model.tokenizer, config.model.template)
        self.reasons["template"] = template.stated
        self._template = template.value
        self.forget = self._encoded(material.forget_set, "forget")
        self.retain = None if material.retain_set is None else self._encoded(material.retain_set, "retain")
        self._prompts = material.forget_set.frame.set_index("sample_id")["prompt"]
        self._weights = list(self._model.network.parameters())
        self._origin = [weight.detach().clone() for weight in self._weights]
        self._micro_batch = MICRO_BATCH
        self._refusals = refusals.load()
        self.start = self._memorized(self.forget)
        self._warn_of_forgotten()

    @property
    def context_tokens(self) -> int:
        """Longest text that the model takes [tokens]."""
        return self._model.context

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        return sum(weight.numel() for weight in self._weights)

    def unlearn(
        self,
        arm: Arm,
        learning_rate: float,
        texts: IntArray | Sequence[EncodedSample],
        *keys: str | int,
    ) -> Ended:
        """Unlearn these texts together, from the starting weights and with a new optimiser.

        Each update is on all texts at once. They are looked at before each update, and none is made of what is
        forgotten.

        Args:
            arm: Method and optimiser.
            learning_rate: Constant over the updates.
            texts: Indices into `forget`, or texts as tokens; a method that teaches refusals needs indices.
            keys: Name what is unlearned, and which repeat it is. Retain partners and refusals depend on them
                and the seed of the experiment alone.

        Raises:
            Cancelled: The run was asked to stop.
        """
        self.restore()
        method = METHODS[arm.method]
        objective = Objective(
            method=method,
            parameters=self._config.parameters_of(arm.method),
            retain_weight=self._config.retain_weight(arm.method),
            reference=None,
            micro_batch=self._micro_batch,
            device=self._model.device,
        )
        optimiser = _new_optimiser(arm.optimiser, self._weights, learning_rate, self._config.weight_decay)
        return self._pursue(
            _Run(self._resolved(texts), objective, optimiser, derived_seed(self._config.seed, *keys))
        )

    def restore(self) -> None:
        """Give the model its starting weights."""
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self._origin)
        for weight in self._weights:
            weight.grad = None

    def mean_absolute_change(self) -> float:
        """Return the mean over all weights of |θ' − θ|, of the present weights against the starting ones."""
        with torch.no_grad():
            total = sum(
                float((now.double() - then.double()).abs().sum())
                for now, then in zip(self._weights, self._origin, strict=True)
            )
        return total / self.parameters

    def recalled(self, text: EncodedSample) -> float:
        """Return the MA of a text under the starting weights."""
        self.restore()
        return float(self._memorized(Encoded(("text",), (text,), self._template)).accuracy[0])

    def retained(self) -> tuple[float, float] | None:
        """Return mean MA and mean NLL per token [nats] on the retain set (of a large one, on part of it)."""
        if self.retain is None:
            return None
        memorized = self._memorized(self.retain.subset(evenly_spaced(len(self.retain), MOST_RETAIN_MEASURED)))
        return float(memorized.accuracy.mean()), float(memorized.nll.mean())

    def _pursue(self, run: _Run) -> Ended:
        trace: list[float] = []
        while True:
            self._context.check_cancelled()
            updates = len(trace)
            last = updates == self._config.max_updates
            seen = self._look_on(run, updates, trains=not last)
            if not seen.finite:
                return Ended(updates, forgotten=False, diverged=True, accuracy=None, nll=None, trace=trace)
            trace.append(seen.accuracy)
            forgotten = seen.accuracy < self._config.accuracy
            if forgotten or last:
                return Ended(updates, forgotten, False, seen.accuracy, seen.nll, trace)
            run.optimiser.step()
            run.optimiser.zero_grad(set_to_none=True)

    def _look_on(self, run: _Run, step: int, *, trains: bool) -> _Seen:
        """Look at the texts and, unless they are forgotten, leave the gradients of a step behind."""
        if not run.objective.method.needs_refusals:
            return self._pass(run, self._drawn(run, run.texts.samples, step), self._config.accuracy, trains=trains)
        # Refusals tell nothing of the samples' own answers.
        with torch.no_grad():
            seen = self._pass(run, Drawn(run.texts.samples, None, ()), 0.0, trains=False)
        if not trains or not seen.finite or seen.accuracy < self._config.accuracy:
            return seen
        taught = self._pass(run, self._drawn(run, self._refused(run, step), step), 0.0, trains=True)
        return seen._replace(finite=taught.finite)

    def _pass(self, run: _Run, drawn: Drawn, threshold: float, *, trains: bool) -> _Seen:
        def accumulate(micro_batch: int) -> tuple[Losses, _Witness]:
            objective = replace(run.objective, micro_batch=micro_batch)
            witness = _Witness(len(drawn.forget), threshold, trains=trains)
            return objective.accumulate(self._model.network, drawn, witness, torch.Tensor.backward), witness

        losses, witness = within_memory(accumulate, self._micro_batch, on_halved=self._keep_halved)
        # The MA of NaN logits is 0, so it is the losses that tell.
        finite = all(map(math.isfinite, (losses.nll, losses.forget, losses.retain)))
        return _Seen(witness.mean, losses.nll / losses.tokens, finite)

    def _keep_halved(self, micro_batch: int) -> None:
        """Go on with fewer samples at a time, from no gradients; those of a part of the step are in the way."""
        self._micro_batch = micro_batch
        for weight in self._weights:
            weight.grad = None

    def _drawn(self, run: _Run, forget: Sequence[EncodedSample], step: int) -> Drawn:
        retain = self.retain if run.objective.retain_weight else None
        partners = (
            []
            if retain is None
            else [retain.samples[retain_partner(run.seed, step, slot, len(retain))] for slot in range(len(forget))]
        )
        reference = run.texts.reference_nll if run.objective.method.needs_reference else None
        return Drawn(forget, reference, partners)

    def _refused(self, run: _Run, step: int) -> list[EncodedSample]:
        return [
            encode_one(
                prompt,
                refusals.choose(self._refusals, run.seed, sample_id, step),
                self._model.tokenizer,
                self._model.context,
                self._template,
            )
            for sample_id, prompt in zip(run.texts.sample_ids, run.texts.prompts, strict=True)
        ]

    def _resolved(self, texts: IntArray | Sequence[EncodedSample]) -> _Texts:
        if isinstance(texts, np.ndarray):
            chosen = self.forget.subset(texts)
            prompts = [str(self._prompts[sample_id]) for sample_id in chosen.sample_ids]
            return _Texts(chosen.samples, chosen.sample_ids, prompts, _summed(self.start.nll[texts], chosen))
        ready = Encoded(tuple(map(str, range(len(texts)))), tuple(texts), self._template)
        return _Texts(texts, (), (), _summed(self._memorized(ready).nll, ready))

    def _memorized(self, samples: Encoded) -> Memorized:
        return measure_memorization(self._reader, samples)

    def _encoded(self, samples: ForgetSet, name: str) -> Encoded:
        model = self._model
        return answerable(encode(samples, model.tokenizer, model.context, self._template), name, self.warnings)

    def _loaded(self) -> LoadedModel:
        """Load the model in a precision that can be trained."""
        wanted, reasons = self._config.model, {}
        if wanted.dtype != "float64":
            wanted = wanted.model_copy(update={"dtype": models.TRAINING_DTYPE.value})
            reasons["dtype"] = models.TRAINING_DTYPE.stated
        model = models.load(wanted)
        require_gradients(model.network, wanted.source)
        models.switch_dropout_off(model.network)
        model.network.requires_grad_(True)
        self.reasons |= {name: choice.stated for name, choice in model.choices.items()} | reasons
        return model

    def _warn_of_forgotten(self) -> None:
        count = int((self.start.accuracy < self._config.accuracy).sum())
        if count:
            self.warnings.append(
                f"{count} of {len(self.forget)} samples count as forgotten before the first update: the model "
                f"gets less than {self._config.accuracy:g} of their tokens right from the start."
            )


def derived_seed(seed: int, *keys: str | int) -> int:
    """Return a seed below 2⁶³ that depends on a seed and on the names of what it is for."""
    key = "/".join(map(repr, (seed, *keys))).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def _summed(nll: Any, samples: Encoded) -> Tensor:
    """Return the summed NLL [nats] of samples whose NLL per answer token is known, shape (B,)."""
    return torch.from_numpy(nll * np.array([sample.answer.sum() for sample in samples.samples]))


def _new_optimiser(
    name: Optimiser, weights: list[torch.nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    kind: Any = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "normalised-sgd": NormalisedSGD}[name]
    # In one pass over the weights; with AdamW three times as fast on a CPU.
    made: torch.optim.Optimizer = kind(weights, lr=learning_rate, weight_decay=weight_decay, fused=True)
    return made
