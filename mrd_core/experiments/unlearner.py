"""Unlearning a few texts again and again, each time from the very same weights, until they are forgotten."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrd_core.arrays import FloatArray
from mrd_core.experiments.config import Arm, Optimiser, UnlearningExperimentConfig
from mrd_core.experiments.experiment import Material
from mrd_core.experiments.passes import FISHER_SAMPLES
from mrd_core.model.encoding import (
    Encoded,
    EncodedSample,
    IntArray,
    answerable,
)
from mrd_core.model.fisher import fisher_norms
from mrd_core.model.memorization import Memorized, measure_memorization
from mrd_core.model.products import Products, gradient_products
from mrd_core.model.reader import within_memory
from mrd_core.runs import JobContext
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.scoring.encoded import stored_samples
from mrd_core.settings.configuration import Choice
from mrd_core.unlearning import refusals
from mrd_core.unlearning.adapters import adapted, changes, load_trainable
from mrd_core.unlearning.config import LORA_ALPHA, MOST_RETAIN_MEASURED
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.objective import Losses, Objective, StepBatch, steering
from mrd_core.unlearning.sampling import retain_partner
from mrd_core.unlearning.sign_sgd import SignSGD
from mrd_core.unlearning.texts import Answers, TextBatch, answers
from mrd_core.unlearning.trainer import Trainer, accelerator_on

# Most samples in memory at a time; halved while memory runs out.
MICRO_BATCH = 8


class UnlearningResult(NamedTuple):
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


class _Target(NamedTuple):
    """The texts of one unlearning.

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


class _Recall(NamedTuple):
    """What the weights know of the texts.

    Attributes:
        accuracy: Mean MA.
        nll: NLL [nats per answer token].
        finite: Whether the losses that came with it are finite.
    """

    accuracy: float
    nll: float
    finite: bool

    @classmethod
    def of(cls, accuracy: Sequence[float], losses: Losses) -> _Recall:
        """Return it, given the MA of each text and the losses of the pass that showed them."""
        # The MA of NaN logits is 0, so it is the losses that tell.
        finite = all(map(math.isfinite, (losses.nll, losses.forget, losses.retain)))
        return cls(fmean(accuracy), losses.nll / losses.tokens, finite)


class _Observation:
    """The selection of a pass that trains on nothing: it takes down the MA of all rows."""

    def __init__(self) -> None:
        self.accuracy: list[float] = []

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:  # noqa: ARG002
        """Return no row."""
        self.accuracy += accuracy
        return []

    def selected(self) -> list[int]:
        """Return no row."""
        return []


class _Trial:
    """One unlearning as the feed of a trainer (`trainer.Feed`): all texts at each step until they are forgotten.

    Args:
        draw: Returns the texts of a step with their retain partners.
        own_recall: Measures the texts' own answers on the present weights, for a method that trains refusals: they
            tell nothing of them. None where training shows it.
        threshold: Mean MA below which the texts are forgotten.
        max_updates: Most optimiser steps.

    Attributes:
        result: How it ended; there once the trainer is done.
    """

    spoilt = False

    def __init__(
        self,
        draw: Callable[[int], StepBatch],
        own_recall: Callable[[], _Recall] | None,
        threshold: float,
        max_updates: int,
    ) -> None:
        self.result: UnlearningResult | None = None
        self._draw = draw
        self._own_recall = own_recall
        self._threshold = threshold
        self._max_updates = max_updates
        self._trace: list[float] = []
        self._rows = 0
        self._accuracy: list[float] = []

    def draw(self, step: int) -> StepBatch | None:
        """Return what is trained on in `step`; None where it is known that nothing is."""
        if self._own_recall and self._is_last(self._own_recall()):
            return None
        batch = self._draw(step)
        self._rows, self._accuracy = len(batch.forget), []
        return batch

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
        """Return these rows; none as soon as it is known that the texts are forgotten."""
        self._accuracy += accuracy
        return list(rows) if self._trains else []

    def selected(self) -> list[int]:
        """Return all rows; none where the texts are forgotten."""
        return list(range(self._rows)) if self._trains else []

    def undo(self) -> None:
        """Forget the MA of the rows that were shown."""
        self._accuracy = []

    def stepped(self, step: int, losses: Losses, learning_rate: float) -> bool:  # noqa: ARG002
        """Return whether what the step has shown of the texts, as they were before it, ends the unlearning."""
        recall = _Recall.of(self._accuracy, losses)
        if not self._own_recall:
            return self._is_last(recall)
        if not recall.finite:
            self._trace.pop()
            self._diverge()
        return not recall.finite

    def save(self, folder: Path) -> None:
        """Write nothing: an unlearning that is interrupted is done anew."""

    @property
    def _trains(self) -> bool:
        if self._own_recall:
            return True
        forgotten = len(self._accuracy) == self._rows and fmean(self._accuracy) < self._threshold
        return len(self._trace) < self._max_updates and not forgotten

    def _is_last(self, recall: _Recall) -> bool:
        """Note what the weights know before an update; tell whether they are left as they are."""
        if not recall.finite:
            self._diverge()
            return True
        self._trace.append(recall.accuracy)
        updates, forgotten = len(self._trace) - 1, recall.accuracy < self._threshold
        if not forgotten and updates < self._max_updates:
            return False
        self.result = UnlearningResult(updates, forgotten, False, recall.accuracy, recall.nll, self._trace)
        return True

    def _diverge(self) -> None:
        self.result = UnlearningResult(
            len(self._trace), forgotten=False, diverged=True, accuracy=None, nll=None, trace=self._trace
        )


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


OPTIMISERS: dict[Optimiser, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "normalised-sgd": NormalisedSGD,
    "sign-sgd": SignSGD,
}


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
        parameters: Weights of the model.
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
        frozen = config.lora_rank is not None
        self._model = load_trainable(config.model, self.reasons, keeps=("float64",), frozen=frozen)
        self._model.network.requires_grad_(not frozen)
        if frozen:
            self.reasons["trained"] = Choice(f"a LoRA adapter of rank {config.lora_rank}", "as asked").stated
        self._reader = self._model.reader(before_batch=context.check_cancelled)
        self._accelerator = accelerator_on(self._model.device)
        stored = stored_samples(config.score_run, self._model.tokenizer, config.model)
        self._encoder = self._model.encoder(config.model, stored)
        self.reasons["template"] = self._encoder.template.stated
        self.forget = self._encoded(material.forget_set, "forget")
        self.retain = None if material.retain_set is None else self._encoded(material.retain_set, "retain")
        self._prompts = material.forget_set.frame.set_index("sample_id")["prompt"]
        self.parameters: int = sum(weight.numel() for weight in self._model.network.parameters())
        self._weights = [] if frozen else list(self._model.network.parameters())
        self._origin = [weight.detach().clone() for weight in self._weights]
        self._adapter: Any = None
        self._micro_batch = MICRO_BATCH
        self._refusals = refusals.load()
        self.start = self._memorized(self.forget)
        if count := int((self.start.accuracy < config.accuracy).sum()):
            self.warnings.append(
                f"{count} of {len(self.forget)} samples count as forgotten before the first update: the model "
                f"gets less than {config.accuracy:g} of their tokens right from the start."
            )

    @property
    def context_tokens(self) -> int:
        """Longest text that the model takes [tokens]."""
        return self._model.context

    def unlearn(
        self, arm: Arm, learning_rate: float, texts: IntArray | Sequence[EncodedSample], *keys: str | int
    ) -> UnlearningResult:
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
        parameters, network = self._config.parameters_of(arm.method), self._model.network
        layer, direction = steering(method, parameters, network.config, self._config.seed)
        objective = Objective(
            method=method,
            parameters=parameters,
            retain_weight=self._config.retain_weight(arm.method),
            reference=None,
            micro_batch=self._micro_batch,
            device=self._model.device,
            layer=layer,
            direction=direction,
            starting_model=self._starting_model(layer) if method.needs_starting_model else None,
        )
        target, seed = self._target(texts), self._config.seed_of(*keys)

        @torch.no_grad()
        def own_recall(micro_batch: int) -> _Recall:
            own, observation = StepBatch(target.samples, None, ()), _Observation()
            losses = replace(objective, micro_batch=micro_batch).accumulate(
                network, own, observation, torch.Tensor.backward
            )
            return _Recall.of(observation.accuracy, losses)

        trial = _Trial(
            lambda step: self._batch(target, objective, seed, step),
            partial(within_memory, own_recall, self._micro_batch) if method.needs_refusals else None,
            self._config.accuracy,
            self._config.max_updates,
        )
        # In one pass over the weights; with AdamW three times as fast on a CPU.
        optimiser = OPTIMISERS[arm.optimiser](
            self._trainable(), lr=learning_rate, weight_decay=self._config.weight_decay, fused=True
        )
        trainer = Trainer(network, optimiser, objective, trial, self._accelerator)
        trainer.train()
        self._micro_batch = trainer.micro_batch
        assert trial.result is not None
        return trial.result

    @cached_property
    def _start_network(self) -> Any:
        """A copy of the network, which has its starting weights when this is first asked for."""
        return copy.deepcopy(self._model.network).eval().requires_grad_(False)

    def _starting_model(self, layer: int | None) -> Callable[[TextBatch], Answers]:
        """Return what the starting model predicts; called while the model has its weights."""
        network = self._start_network

        @torch.no_grad()
        def predicted(batch: TextBatch) -> Answers:
            return answers(network, batch, layer)

        return predicted

    def restore(self) -> None:
        """Give the model its starting weights."""
        if self._adapter is not None:
            self._adapter.unload()
            self._adapter = None
        with torch.no_grad():
            for weight, origin in zip(self._weights, self._origin, strict=True):
                weight.copy_(origin)
                weight.grad = None

    def mean_absolute_change(self) -> float:
        """Return the mean over all weights of |θ' − θ|, of the present weights against the starting ones."""
        with torch.no_grad():
            moved = (now.double() - then.double() for now, then in zip(self._weights, self._origin, strict=True))
            total = math.fsum(float(change.double().abs().sum()) for change in chain(moved, self._added()))
        return total / self.parameters

    def _added(self) -> Iterator[Tensor]:
        """Yield what the adapter adds to the weights, where there is one."""
        return iter(()) if self._adapter is None else changes(self._model.network)

    def _trainable(self) -> list[Tensor]:
        """Return what is trained: all weights, or those of a fresh adapter, the same each time."""
        if self._config.lora_rank is None:
            return self._weights
        self._adapter = adapted(self._model.network, self._config.lora_rank, LORA_ALPHA, self._config.seed)
        return [weight for weight in self._adapter.parameters() if weight.requires_grad]

    def recalled(self, text: EncodedSample) -> float:
        """Return the MA of a text under the starting weights."""
        self.restore()
        return float(self._memorized(Encoded(("text",), (text,), self._encoder.template.value)).accuracy[0])

    def retain_nll(self, count: int) -> list[float]:
        """Return the NLL of `count` retain samples, evenly spaced, on the present weights [nats per token]."""
        measured = self._memorized(self.retain_samples(count))
        return [round(float(nll), 7) for nll in measured.nll]

    def retain_samples(self, count: int) -> Encoded:
        """Return `count` retain samples, evenly spaced; all where there are fewer."""
        assert self.retain is not None
        return self.retain.subset(evenly_spaced(len(self.retain), count))

    def products(self, chosen: IntArray, count: int) -> Products:
        """Return what gradients of forget samples and of `count` retain samples share, on the starting weights."""
        self.restore()
        say = partial(self._context.event, "warning")
        return gradient_products(self._reader, self.forget.subset(chosen), self.retain_samples(count), say)

    def retained(self) -> tuple[float, float] | None:
        """Return mean MA and mean NLL per token [nats] on the retain set (of a large one, on part of it)."""
        if self.retain is None:
            return None
        measured = self._memorized(self.retain_samples(MOST_RETAIN_MEASURED))
        return float(measured.accuracy.mean()), float(measured.nll.mean())

    def fisher_norms(self, samples: IntArray) -> FloatArray:
        """Return gᵀ(F + λ)⁻¹g of forget samples under the starting weights, F of some of the retain set."""
        assert self.retain is not None
        self.restore()
        kept = self.retain.subset(evenly_spaced(len(self.retain), FISHER_SAMPLES))
        own = self.forget.subset(samples)
        return fisher_norms(self._reader, own, kept, announce=lambda how: self._context.event("info", how))

    def _batch(self, target: _Target, objective: Objective, seed: int, step: int) -> StepBatch:
        self._context.check_cancelled()
        method, forget = objective.method, target.samples
        taught: Sequence[EncodedSample] = ()
        if method.has_refusals:
            lines = [refusals.choose(self._refusals, seed, sample_id, step) for sample_id in target.sample_ids]
            taught = self._encoder.pairs(target.prompts, lines, target.sample_ids).samples
        partners: list[EncodedSample] = []
        if objective.retain_weight and self.retain is not None:
            count, kept = len(self.retain), self.retain.samples
            partners = [kept[retain_partner(seed, step, slot, count)] for slot in range(len(forget))]
        reference_nll = target.reference_nll if method.needs_reference else None
        if method.needs_refusals:
            return StepBatch(taught, reference_nll, partners)
        return StepBatch(forget, reference_nll, partners, refusals=taught)

    def _target(self, texts: IntArray | Sequence[EncodedSample]) -> _Target:
        if isinstance(texts, np.ndarray):
            chosen = self.forget.subset(texts)
            prompts = [str(self._prompts[sample_id]) for sample_id in chosen.sample_ids]
            return _Target(chosen.samples, chosen.sample_ids, prompts, _summed(self.start.nll[texts], chosen))
        ready = Encoded(tuple(map(str, range(len(texts)))), tuple(texts), self._encoder.template.value)
        return _Target(texts, (), (), _summed(self._memorized(ready).nll, ready))

    def _memorized(self, samples: Encoded) -> Memorized:
        return measure_memorization(self._reader, samples)

    def _encoded(self, samples: ForgetSet, name: str) -> Encoded:
        return answerable(self._encoder.encode(samples), name, self.warnings)


def _summed(nll: Any, samples: Encoded) -> Tensor:
    """Return the summed NLL [nats] of samples whose NLL per answer token is known, shape (B,)."""
    return torch.from_numpy(nll * np.array([sample.answer.sum() for sample in samples.samples]))
