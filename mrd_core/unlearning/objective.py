"""One training step's loss: the forget term of a method, and a retain term where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mrd_core.model.encoding import EncodedSample
from mrd_core.unlearning.forget_terms import FORGET_TERMS, ForgetBatch
from mrd_core.unlearning.losses import kl_loss, nll_loss
from mrd_core.unlearning.methods import Average, Method, averaged_over
from mrd_core.unlearning.sampling import part
from mrd_core.unlearning.texts import TextBatch, answers


class Drawn(NamedTuple):
    """What is trained on in one step, by all processes together.

    Attributes:
        forget: B samples to forget; for a method that teaches refusals, with the refusal as their answer.
        reference_nll: Their summed NLL under the starting model [nats], shape (B,), where the method needs it.
        retain: B samples to keep, one beside each; empty without a retain term.
    """

    forget: Sequence[EncodedSample]
    reference_nll: Tensor | None
    retain: Sequence[EncodedSample]


class Judge(Protocol):
    """Tells which samples of a draw are forgotten already."""

    def judge(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
        """Take the MA of these rows of the draw before the update; return those of them to train on."""

    def settled(self) -> list[int]:
        """Take note that every row of this process is judged; return all rows that are trained on, by anyone."""


class Losses(NamedTuple):
    """What a step found before it moved the weights, in the part of it that this process has.

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
        precision: The context of forward passes, such as autocast.
        rank: This process, of `processes`.
    """

    method: Method
    parameters: Mapping[str, Any]
    retain_weight: float
    reference: Callable[[TextBatch], Tensor] | None
    micro_batch: int
    device: torch.device
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    rank: int = 0
    processes: int = 1

    def accumulate(self, model: Any, drawn: Drawn, judge: Judge, backward: Callable[[Tensor], None]) -> Losses:
        """Call `backward` on the parts of the step's loss, a micro-batch at a time, and return what was found.

        Each part weighs by its share of what the loss is a mean over (tokens or samples of all that was drawn),
        so the gradients add up to those of the whole batch, over micro-batches and processes alike. Only the
        group weights of WGA, SimImp and SatImp see their own part alone. Samples that are forgotten already add
        nothing, and neither do their retain partners; where all are, no gradient arises at all.
        """
        forget, nll, tokens = self._forget(model, drawn, judge, backward)
        trained = set(judge.settled())
        retain = self._retain(model, drawn.retain, trained, backward) if self.retain_weight else 0.0
        return Losses(forget, retain, nll, tokens, len(trained))

    def _forget(
        self, model: Any, drawn: Drawn, judge: Judge, backward: Callable[[Tensor], None]
    ) -> tuple[float, float, int]:
        total, nll, tokens = 0.0, 0.0, 0
        average = averaged_over(self.parameters)
        whole = _size(drawn.forget, average)
        for rows in self._micro_batches(range(len(drawn.forget))):
            batch = TextBatch.of([drawn.forget[row] for row in rows], self.device)
            with self.precision():
                found = answers(model, batch)
            nll -= float(found.log_probs.detach().sum())
            tokens += int(batch.mask.sum())
            kept = judge.judge(rows, (found.hits.sum(dim=1) / batch.mask.sum(dim=1)).tolist())
            if not kept:
                continue
            places = [rows.index(row) for row in kept]
            chosen = ForgetBatch(
                found.log_probs[places],
                batch.mask[places],
                None if drawn.reference_nll is None else drawn.reference_nll[kept].to(found.log_probs),
            )
            share = _size([drawn.forget[row] for row in kept], average) / whole
            loss = share * FORGET_TERMS[self.method.name](chosen, self.parameters)
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
            batch = TextBatch.of(chosen, self.device)
            with self.precision():
                found = answers(model, batch)
            loss = _size(chosen, "tokens") / whole * self._retain_term(batch, found.log_probs, found.log_softmax)
            backward(self.retain_weight * loss)
            total += float(loss.detach())
        return total

    def _retain_term(self, batch: TextBatch, log_probs: Tensor, log_softmax: Tensor) -> Tensor:
        if self.reference is None:
            return nll_loss(log_probs, batch.mask, "tokens")
        positions = torch.ones(len(log_softmax), dtype=torch.bool, device=log_softmax.device)
        return kl_loss(self.reference(batch), log_softmax, positions)

    def _micro_batches(self, rows: Sequence[int]) -> Iterator[list[int]]:
        mine = part(rows, self.rank, self.processes)
        for start in range(0, len(mine), self.micro_batch):
            yield list(mine[start : start + self.micro_batch])


def _size(samples: Sequence[EncodedSample], average: Average) -> int:
    """Return how many tokens or samples a mean over these is over."""
    return len(samples) if average == "samples" else sum(int(sample.answer.sum()) for sample in samples)
