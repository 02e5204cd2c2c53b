"""One training step's loss: the forget term of a method, and a retain term where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mrd_core.encoding import EncodedSample
from mrd_core.unlearning.losses import Average, kl_loss, nll_loss
from mrd_core.unlearning.methods import ForgetBatch, Method, averaged_over
from mrd_core.unlearning.texts import TextBatch, answers


class Drawn(NamedTuple):
    """What one process trains on in one step.

    Attributes:
        forget: Samples to forget; for a method that teaches refusals, with the refusal as their answer.
        reference_nll: Their summed NLL under the starting model [nats], shape (B,), where the method needs it.
        retain: Samples to keep; empty without a retain term.
    """

    forget: Sequence[EncodedSample]
    reference_nll: Tensor | None
    retain: Sequence[EncodedSample]


# Takes a micro-batch's place in what was drawn and the MA of its samples before the update, and returns the rows
# that are not forgotten yet.
Judge = Callable[[slice, list[float]], list[int]]


class Losses(NamedTuple):
    """What a step found before it moved the weights.

    Attributes:
        forget: Forget term.
        retain: Retain term, unweighted; 0 without one.
        nll: Mean NLL per token of the forget batch [nats].
    """

    forget: float
    retain: float
    nll: float


@dataclass(frozen=True)
class Objective:
    """The loss of a method with its settings.

    Attributes:
        method: The method.
        parameters: Its settings, as `methods.parsed` returns them.
        retain_weight: λ; 0 leaves the retain term out.
        retain_term: NLL of the retain answers, or KL against the starting model.
        reference: Returns log p(· | x_<t) of the starting model at a batch's scored positions, shape (M, V).
        micro_batch: Most samples in memory at a time.
        device: Where the token ids go.
    """

    method: Method
    parameters: Mapping[str, Any]
    retain_weight: float
    retain_term: Literal["nll", "kl"]
    reference: Callable[[TextBatch], Tensor] | None
    micro_batch: int
    device: torch.device

    def accumulate(self, model: Any, drawn: Drawn, judge: Judge, backward: Callable[[Tensor], None]) -> Losses:
        """Call `backward` on the parts of the step's loss, a micro-batch at a time, and return what was found.

        Each part weighs by its share of what the loss is a mean over (tokens or samples of all that was drawn),
        so the gradients add up to those of the whole batch. Only the group weights of WGA, SimImp and SatImp see
        their own part alone. Samples that `judge` finds forgotten add nothing.
        """
        forget, nll = self._forget(model, drawn, judge, backward)
        retain = self._retain(model, drawn.retain, backward) if self.retain_weight else 0.0
        return Losses(forget, retain, nll)

    def _forget(
        self, model: Any, drawn: Drawn, judge: Judge, backward: Callable[[Tensor], None]
    ) -> tuple[float, float]:
        total, log_prob, tokens = 0.0, 0.0, 0
        for part, share in self._parts(drawn.forget, averaged_over(self.parameters)):
            batch = TextBatch.of(drawn.forget[part], self.device)
            found = answers(model, batch)
            log_prob += float(found.log_probs.detach().sum())
            tokens += int(batch.mask.sum())
            kept = judge(part, (found.hits.sum(dim=1) / batch.mask.sum(dim=1)).tolist())
            if not kept:
                continue
            reference = (
                None if drawn.reference_nll is None else drawn.reference_nll[part][kept].to(found.log_probs)
            )
            chosen = ForgetBatch(found.log_probs[kept], batch.mask[kept], reference)
            whole, average = drawn.forget[part], averaged_over(self.parameters)
            left = _size([whole[row] for row in kept], average) / _size(whole, average)
            loss = share * left * self.method.loss(chosen, self.parameters)
            backward(loss)
            total += float(loss.detach())
        return total, -log_prob / max(tokens, 1)

    def _retain(self, model: Any, samples: Sequence[EncodedSample], backward: Callable[[Tensor], None]) -> float:
        total = 0.0
        for part, share in self._parts(samples, "tokens"):
            batch = TextBatch.of(samples[part], self.device)
            found = answers(model, batch)
            if self.reference is None:
                loss = nll_loss(found.log_probs, batch.mask, "tokens")
            else:
                positions = torch.ones(len(found.log_softmax), dtype=torch.bool, device=found.log_softmax.device)
                loss = kl_loss(self.reference(batch), found.log_softmax, positions)
            backward(self.retain_weight * share * loss)
            total += share * float(loss.detach())
        return total

    def _parts(self, samples: Sequence[EncodedSample], average: Average) -> Iterator[tuple[slice, float]]:
        """Yield each micro-batch with its share of what the loss is a mean over."""
        whole = _size(samples, average)
        for start in range(0, len(samples), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            yield part, _size(samples[part], average) / whole


def _size(samples: Sequence[EncodedSample], average: Average) -> int:
    """Return how many tokens or samples a mean over these is over."""
    return len(samples) if average == "samples" else sum(int(sample.answer.sum()) for sample in samples)
