"""How hard each sample of a training pass pulls at the weights: the norm of its own part of the gradient.

The gradient of a step is Σ_i g_i, with g_i what reaches the weights through the predictions of sample i: of the
loss as its method weighs the samples, so that the weights of NPO and SatImp are in it. The norms follow from what
enters and leaves the modules (`tape`, `pieces`) while the pass that trains goes back: there is no further pass,
and the gradient of the step is the same to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mrd_core.model.encoding import EncodedSample
from mrd_core.model.gradients import Norms, total_of
from mrd_core.model.pieces import Piece
from mrd_core.model.reader import evaluating
from mrd_core.model.tape import Tape, UnknownLayoutError, rule_of
from mrd_core.unlearning.texts import TextBatch, answers

# By how much a norm may differ from autograd's; what is coarser than fp32 rounds.
RELATIVE, COARSE = 1e-3, 0.2


class SampleNorms:
    """Listens to passes that train.

    Args:
        model: What is trained: a transformers model, or its peft wrapper.

    Attributes:
        unknown: Kinds of modules whose weights are trained and of which it is not known what a sample adds.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {weight: name for name, weight in model.named_parameters() if weight.requires_grad}
        modules = {}
        for module in model.modules():
            own = dict(module.named_parameters(recurse=False))
            if names := {name: trained[weight] for name, weight in own.items() if weight in trained}:
                modules[module] = names
        self._tape = Tape(modules)
        self._passes = 0
        self.unknown = sorted({type(module).__name__ for module in modules if rule_of(module) is None})

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within to what is passed of one batch."""
        self._tape.reset()
        self._tape.sink = _unheard
        self._passes = 0
        with self._tape.listening():
            yield

    @contextmanager
    def passing(self, texts: TextBatch) -> Iterator[None]:
        """Say that these samples are passed forward within: those of the batch, in its order."""
        self._passes += 1
        with self._tape.batch(*texts.ids.shape):
            yield

    def of(self, samples: int, backward: Callable[[], None]) -> list[float]:
        """Go backward, and return the norm of what each of so many samples adds to the gradient."""
        tape, norms = self._tape, Norms(samples)
        # Where other texts of the same samples were passed besides, an embedding has looked up those of both.
        ids = dict(tape.ids) if self._passes == 1 else {}
        norms.share({name for name, uses in tape.uses.items() if uses > 1}, ids)
        tape.sink = norms.take
        backward()
        squared = total_of([norms.finished()])[0]
        return [math.sqrt(value) for value in squared.double().clamp(min=0).tolist()]


def fault(model: Any, samples: Sequence[EncodedSample], device: torch.device) -> str:
    """Return why the norms of this model's samples cannot be had; "" where they are those that autograd finds.

    Weights, modes and random numbers stay; gradients are gone afterwards.

    Args:
        model: What is trained.
        samples: Two of different lengths, or one where there are no more.
        device: Where the token ids go.
    """

    def passed(texts: TextBatch) -> torch.Tensor:
        return -answers(model, texts).log_probs.sum()

    norms, texts = SampleNorms(model), TextBatch.of(samples, device)
    if norms.unknown:
        return f"it is not known what a sample adds to the weights of {', '.join(norms.unknown)}"
    try:
        with evaluating(model), torch.enable_grad():
            with norms.listening():
                with norms.passing(texts):
                    loss = passed(texts)
                together = norms.of(len(samples), loss.backward)
            alone = []
            for sample in samples:
                model.zero_grad(set_to_none=True)
                torch.autograd.backward(passed(TextBatch.of([sample], device)))
                alone.append(_norm(model))
    except (UnknownLayoutError, RuntimeError) as error:
        return f"a trial ended in {type(error).__name__}"
    finally:
        model.zero_grad(set_to_none=True)
    is_fine = all(weight.dtype in (torch.float32, torch.float64) for weight in _trained(model))
    tolerance = RELATIVE if is_fine else COARSE
    if all(math.isclose(a, b, rel_tol=tolerance) for a, b in zip(together, alone, strict=True)):
        return ""
    return "in a trial they were not what autograd finds"


def _unheard(_name: str, _piece: Piece) -> None:
    """Take a piece that nobody asks for."""


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def _norm(model: nn.Module) -> float:
    """Return the norm of the gradient that the weights have."""
    squares = [weight.grad.double().square().sum().cpu() for weight in _trained(model) if weight.grad is not None]
    return float(torch.stack(squares).sum().sqrt())
