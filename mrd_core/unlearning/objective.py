"""One training step's loss: the forget term of a method, and a retain term where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mrd_core.model.encoding import EncodedSample
from mrd_core.unlearning.losses import kl_loss, nll_loss
from mrd_core.unlearning.methods.method import Average, ForgetBatch, Method, averaged_over
from mrd_core.unlearning.sampling import part
from mrd_core.unlearning.texts import TextBatch, answers


class StepBatch(NamedTuple):
    """What is trained on in one step, by all processes together.

    Attributes:
        forget: B samples to forget; for a method that teaches refusals, with the refusal as their answer.
        reference_nll: Their summed NLL under the starting model [nats], shape (B,), where the method needs it.
        retain: B samples to keep, one beside each; empty without a retain term.
    """

    forget: Sequence[EncodedSample]
    reference_nll: Tensor | None
    retain: Sequence[EncodedSample]


class Selection(Protocol):
    """Chooses which samples of a step's batch are trained on: those that are forgotten already are not."""

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
        """Return which of these rows to train on, given their MA before the update."""

    def selected(self) -> list[int]:
        """Return all rows that are trained on, by any process; asked once all rows of this one were seen."""


class Losses(NamedTuple):
    """The losses of a step before it moves the weights, those of this process's part of it.

    Attributes:
        forget: Forget term.
        retain: Retain term, unweighted; 0 without one.
        nll: NLL of the drawn texts, summed [nats].
        tokens: What `nll` is a sum over.
        trained: Rows that all processes together trained on.
    """

    forget: float
    retain: float
    nll: float
    tokens: int
    trained: int


@dataclass(frozen=True)
class Objective:
    """The loss of a method with its settings.

    Attributes:
        method: The method.
        parameters: Its settings, as `methods.parsed` returns them.
        retain_weight: λ; 0 leaves the retain term out.
        reference: Returns log p(· | x_<t) of the starting model at a batch's scored positions, shape (M, V), for
            a retain term KL(p_ref ‖ p_θ); None for the NLL of the retain answers.
        micro_batch: Most samples in memory at a time.
        device: Where the token ids go.
        rank: This process, of `processes`.
    """

    method: Method
    parameters: Mapping[str, Any]
    retain_weight: float
    reference: Callable[[TextBatch], Tensor] | None
    micro_batch: int
    device: torch.device
    rank: int = 0
    processes: int = 1

    def accumulate(
        self, model: Any, batch: StepBatch, selection: Selection, backward: Callable[[Tensor], None]
    ) -> Losses:
        """Call `backward` on the parts of the step's loss, a micro-batch at a time, and return the losses.

        Each part weighs by its share of what the loss is a mean over (tokens or samples of all that was drawn),
        so the gradients add up to those of the whole batch, over micro-batches and processes alike. Only the
        group weights of WGA, SimImp and SatImp see their own part alone. Samples that are forgotten already add
        nothing, and neither do their retain partners; where all are, no gradient arises at all.
        """
        forget, nll, tokens = self._forget(model, batch, selection, backward)
        trained = set(selection.selected())
        retain = self._retain(model, batch.retain, trained, backward) if self.retain_weight else 0.0
        return Losses(forget, retain, nll, tokens, len(trained))

    def _forget(
        self, model: Any, batch: StepBatch, selection: Selection, backward: Callable[[Tensor], None]
    ) -> tuple[float, float, int]:
        total, nll, tokens = 0.0, 0.0, 0
        average = averaged_over(self.parameters)
        whole = _size(batch.forget, average)
        mine = part(range(len(batch.forget)), self.rank, self.processes)
        for start in range(0, len(mine), self.micro_batch):
            rows = list(mine[start : start + self.micro_batch])
            texts = TextBatch.of([batch.forget[row] for row in rows], self.device)
            predictions = answers(model, texts)
            nll -= float(predictions.log_probs.detach().sum())
            tokens += int(texts.mask.sum())
            accuracy = predictions.hits.sum(dim=1) / texts.mask.sum(dim=1)
            chosen = selection.select(rows, accuracy.tolist())
            if not chosen:
                continue
            places = [rows.index(row) for row in chosen]
            reference = batch.reference_nll
            forget_batch = ForgetBatch(
                predictions.log_probs[places],
                texts.mask[places],
                None if reference is None else reference[chosen].to(predictions.log_probs),
            )
            share = _size([batch.forget[row] for row in chosen], average) / whole
            loss = share * self.method.loss(forget_batch, **self.parameters)
            backward(loss)
            total += float(loss.detach())
        return total, nll, tokens

    def _retain(
        self, model: Any, samples: Sequence[EncodedSample], trained: set[int], backward: Callable[[Tensor], None]
    ) -> float:
        total, whole = 0.0, _size(samples, "tokens")
        mine = [row for row in part(range(len(samples)), self.rank, self.processes) if row in trained]
        for start in range(0, len(mine), self.micro_batch):
            chosen = [samples[row] for row in mine[start : start + self.micro_batch]]
            texts = TextBatch.of(chosen, self.device)
            predictions = answers(model, texts)
            if self.reference is None:
                term = nll_loss(predictions.log_probs, texts.mask, "tokens")
            else:
                everywhere = torch.ones(len(predictions.log_softmax), dtype=torch.bool, device=self.device)
                term = kl_loss(self.reference(texts), predictions.log_softmax, everywhere)
            loss = _size(chosen, "tokens") / whole * term
            backward(self.retain_weight * loss)
            total += float(loss.detach())
        return total


def _size(samples: Sequence[EncodedSample], average: Average) -> int:
    """Return how many tokens or samples a mean over these is over."""
    return len(samples) if average == "samples" else sum(int(sample.answer.sum()) for sample in samples)
