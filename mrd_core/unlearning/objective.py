"""One training step's loss: the forget term of a method, and a retain term where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mrd_core.model.encoding import EncodedSample
from mrd_core.model.memorization import leads
from mrd_core.model.processes import ALONE, Processes
from mrd_core.model.reader import agreed
from mrd_core.unlearning.losses import at_positions, kl_loss, mean_over, nll_loss, sample_nll
from mrd_core.unlearning.methods.method import (
    Average,
    ForgetBatch,
    Method,
    Predictions,
    Refused,
    States,
    averaged_over,
    steered_layer,
)
from mrd_core.unlearning.norms import SampleNorms
from mrd_core.unlearning.texts import Answers, TextBatch, answers


class StepBatch(NamedTuple):
    """What is trained on in one step, by all processes together.

    Attributes:
        forget: B samples to forget; for a method that teaches refusals, with the refusal as their answer.
        reference_nll: Their summed NLL under the starting model [nats], shape (B,), where the method needs it.
        retain: B samples to keep, one beside each; empty without a retain term.
        retain_weight: λ of this step, where it changes from step to step; None for that of the objective.
        refusals: The forget samples with a refusal for an answer, where those are trained beside their own.
        is_measured: Whether the norm of each forget sample's own part of the gradient is wanted.
    """

    forget: Sequence[EncodedSample]
    reference_nll: Tensor | None
    retain: Sequence[EncodedSample]
    retain_weight: float | None = None
    refusals: Sequence[EncodedSample] = ()
    is_measured: bool = False


class Selection(Protocol):
    """Chooses which samples of a step's batch are trained on: those that are forgotten already are not."""

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:
        """Return which of these rows to train on, given their MA before the update, at the objective's margin."""

    def selected(self) -> list[int]:
        """Return all rows that are trained on, by any process; asked once all rows of this one were seen."""


class Losses(NamedTuple):
    """The losses of a step before it moves the weights.

    Attributes:
        forget: Forget term.
        retain: Retain term, unweighted: a mean over all partners that were drawn, of which those that were not
            trained on count as 0; 0 without one.
        nll: NLL of the drawn texts, summed [nats].
        tokens: What `nll` is a sum over.
        trained: Rows that were trained on.
        norms: Norm of what each of these adds to the gradient of the forget term, by row; none where it was not
            measured.
    """

    forget: float
    retain: float
    nll: float
    tokens: int
    trained: int
    norms: Mapping[int, float] = MappingProxyType({})


class _Piece(NamedTuple):
    """The losses of one micro-batch, as in `Losses`."""

    loss: float
    nll: float = 0.0
    tokens: int = 0
    norms: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Objective:
    """The loss of a method with its settings.

    Attributes:
        method: The method.
        parameters: Its settings, as `methods.parsed` returns them.
        retain_weight: λ; 0 leaves the retain term out.
        reference: Returns log p(· | x_<t) of the starting model at a batch's scored positions, shape (M, V), for
            a retain term KL(p_ref ‖ p_θ); None for the NLL of the retain answers.
        starting_model: Returns what the starting model says of a batch, with the states of `layer`, where the loss
            needs it; else None.
        layer: Whose states are steered; None where none are.
        direction: What they are steered to, a unit vector of shape (d,).
        micro_batch: Most samples in memory at a time.
        device: Where the token ids go.
        processes: Those that work on one batch together.
        margin: By how much a token must lead for MA to count it [logits].
        norms: Measures the norms of samples' gradients in steps that ask for them; None where it cannot be done.
        autocast: Entered around each pass, the starting model's too: the precision of mixed passes. Around passes
            alone, since what is measured of a sample between two of them has its own.
    """

    method: Method
    parameters: Mapping[str, Any]
    retain_weight: float
    reference: Callable[[TextBatch], Tensor] | None
    micro_batch: int
    device: torch.device
    processes: Processes = ALONE
    starting_model: Callable[[TextBatch], Answers] | None = None
    layer: int | None = None
    direction: Tensor | None = None
    margin: float = 0.0
    norms: SampleNorms | None = None
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext

    def accumulate(
        self,
        model: Any,
        batch: StepBatch,
        selection: Selection,
        backward: Callable[[Tensor], None],
        after_round: Callable[[], None] = lambda: None,
    ) -> Losses:
        """Call `backward` on the parts of the step's loss, a micro-batch at a time, and return the losses.

        Each part weighs by its share of what the loss is a mean over (tokens or samples of all that was drawn),
        so the gradients add up to those of the whole batch. Only the group weights of WGA, SimImp and SatImp see
        their own micro-batch alone. Samples that are forgotten already add nothing, and neither do their retain
        partners; where all are, no gradient arises at all.

        Micro-batches are the same however many processes there are. In a round each process has one of them, in
        the order of their ranks; `after_round` adds their gradients up.
        """
        whole = _size(batch.forget, averaged_over(self.parameters))

        def forget(rows: Sequence[int]) -> _Piece:
            return self._forget(model, batch, rows, whole, selection, backward)

        pieces = self._pieces(range(len(batch.forget)), forget, after_round)
        trained = set(selection.selected())
        kept = [row for row in range(len(batch.retain)) if row in trained] if self.retain_weight else []
        tokens = _size(batch.retain, "tokens")
        weight = self.retain_weight if batch.retain_weight is None else batch.retain_weight

        def retain(rows: Sequence[int]) -> _Piece:
            return self._retain(model, [batch.retain[row] for row in rows], tokens, weight, backward)

        retained = self._pieces(kept, retain, after_round)
        # Not by `sum`, which rounds otherwise in some versions of Python.
        forget_loss, nll, retain_loss = (
            reduce(add, values, 0.0)
            for values in (
                (piece.loss for piece in pieces),
                (piece.nll for piece in pieces),
                (piece.loss for piece in retained),
            )
        )
        tokens_seen = sum(piece.tokens for piece in pieces)
        norms = dict(norm for piece in pieces for norm in piece.norms)
        return Losses(forget_loss, retain_loss, nll, tokens_seen, len(trained), norms)

    def _pieces(
        self, rows: Sequence[int], work: Callable[[Sequence[int]], _Piece], after_round: Callable[[], None]
    ) -> list[_Piece]:
        """Do the work on each micro-batch of these rows, and return what all processes found, in its order."""
        batches = [rows[start : start + self.micro_batch] for start in range(0, len(rows), self.micro_batch)]
        pieces: list[_Piece] = []
        for start in range(0, len(batches), self.processes.count):
            mine = self.processes.share(batches[start : start + self.processes.count])
            shares = agreed(self.processes, lambda mine=mine: list(map(work, mine)))  # type: ignore[misc]
            pieces += [piece for share in shares for piece in share]
            after_round()
        return pieces

    def _forget(
        self,
        model: Any,
        batch: StepBatch,
        rows: Sequence[int],
        whole: int,
        selection: Selection,
        backward: Callable[[Tensor], None],
    ) -> _Piece:
        """Train on those of a micro-batch's rows that are selected; `whole` is what the loss is a mean over."""
        rows = list(rows)
        texts = TextBatch.of([batch.forget[row] for row in rows], self.device)
        norms = self._listener(model, batch, texts)
        with norms.listening() if norms else nullcontext():
            return self._pass(model, batch, rows, texts, whole, selection, backward, norms)

    def _pass(
        self,
        model: Any,
        batch: StepBatch,
        rows: list[int],
        texts: TextBatch,
        whole: int,
        selection: Selection,
        backward: Callable[[Tensor], None],
        norms: SampleNorms | None,
    ) -> _Piece:
        """Pass these rows, whose texts are given, forward and, of those that are selected, backward."""
        with norms.passing(texts) if norms else nullcontext():
            predictions = self._answers(model, texts)
        seen = -float(predictions.log_probs.detach().sum()), int(texts.mask.sum())
        hits = predictions.hits
        if self.margin:
            leading = leads(predictions.log_softmax.detach(), texts.ids[:, 1:][texts.mask], self.margin)
            hits = at_positions(leading, texts.mask)
        # In fp64, as thresholds are and as MA is measured: at its threshold a sample is not below it.
        accuracy = hits.sum(dim=1).double() / texts.mask.sum(dim=1)
        chosen = selection.select(rows, accuracy.tolist())
        if not chosen:
            return _Piece(0.0, *seen)
        places = [rows.index(row) for row in chosen]
        reference = batch.reference_nll
        forget_batch = ForgetBatch(
            predictions.log_probs[places],
            texts.mask[places],
            None if reference is None else reference[chosen].to(predictions.log_probs),
            self._predictions(texts, predictions, places),
            self._refused(model, [batch.refusals[row] for row in chosen], norms) if batch.refusals else None,
            self._states(texts, predictions, places),
        )
        share = _size([batch.forget[row] for row in chosen], averaged_over(self.parameters)) / whole
        loss = share * self.method.loss(forget_batch, **self.parameters)
        # Refusals are passed of those that are chosen alone: otherwise the rows of both passes do not match.
        if norms is None or (batch.refusals and len(chosen) < len(rows)):
            backward(loss)
            return _Piece(float(loss.detach()), *seen)
        values = norms.of(len(rows), lambda: backward(loss))
        return _Piece(float(loss.detach()), *seen, tuple((row, values[rows.index(row)]) for row in chosen))

    def _listener(self, model: Any, batch: StepBatch, texts: TextBatch) -> SampleNorms | None:
        """Return what measures the norms of these texts; None where it is not asked for or cannot be done."""
        if not batch.is_measured or self.norms is None:
            return None
        beside = [TextBatch.of(batch.refusals, self.device)] if batch.refusals else []
        return None if any(each.is_mixed(model.config) for each in (texts, *beside)) else self.norms

    def _predictions(self, texts: TextBatch, predicted: Answers, places: Sequence[int]) -> Predictions | None:
        """Return what is predicted of the samples at these places, where the loss needs it."""
        if self.method.predictions == "none":
            return None
        mine, targets = _at(texts, places), texts.ids[:, 1:][texts.mask]
        reference = self._starting_answers(texts).log_softmax[mine] if self.starting_model else None
        return Predictions(predicted.log_softmax[mine], targets[mine], reference)

    def _states(self, texts: TextBatch, predicted: Answers, places: Sequence[int]) -> States | None:
        """Return the hidden states of the samples at these places, where the loss steers them."""
        if predicted.states is None or self.direction is None:
            return None
        return States(predicted.states[_at(texts, places)], self.direction.to(predicted.states))

    def _refused(self, model: Any, samples: Sequence[EncodedSample], norms: SampleNorms | None) -> Refused:
        """Return what model and starting model say of refusals beside the answers."""
        texts = TextBatch.of(samples, self.device)
        with norms.passing(texts) if norms else nullcontext():
            nll = sample_nll(self._answers(model, texts).log_probs, texts.mask)
        return Refused(nll, sample_nll(self._starting_answers(texts).log_probs, texts.mask).to(nll))

    def _answers(self, model: Any, texts: TextBatch) -> Answers:
        with self.autocast():
            return answers(model, texts, self.layer)

    def _starting_answers(self, texts: TextBatch) -> Answers:
        assert self.starting_model is not None  # a loss that compares with it is given one
        with self.autocast():
            return self.starting_model(texts)

    def _retain(
        self,
        model: Any,
        samples: Sequence[EncodedSample],
        whole: int,
        weight: float,
        backward: Callable[[Tensor], None],
    ) -> _Piece:
        """Train on a micro-batch of retain partners; `whole` is what the loss is a mean over."""
        texts = TextBatch.of(samples, self.device)
        predictions = self._answers(model, texts)
        if predictions.states is not None:
            kept = self._starting_answers(texts).states
            assert kept is not None
            moved = predictions.states - kept
            term = mean_over(at_positions(moved.square().mean(1), texts.mask), texts.mask, "tokens")
        elif self.reference is None:
            term = nll_loss(predictions.log_probs, texts.mask, "tokens")
        else:
            everywhere = torch.ones(len(predictions.log_softmax), dtype=torch.bool, device=self.device)
            with self.autocast():
                reference = self.reference(texts)
            term = kl_loss(reference, predictions.log_softmax, everywhere)
        loss = _size(samples, "tokens") / whole * term
        backward(weight * loss)
        return _Piece(float(loss.detach()))


def steering(
    method: Method, parameters: Mapping[str, Any], model: Any, seed: int
) -> tuple[int, Tensor] | tuple[None, None]:
    """Return the layer whose states a method steers and the direction, a unit vector of positive numbers.

    Args:
        method: The method.
        parameters: Its settings.
        model: Configuration of the model, as transformers has it.
        seed: Of the run.
    """
    if not method.steers:
        return None, None
    text = model.get_text_config()
    direction = torch.rand(text.hidden_size, generator=torch.Generator().manual_seed(seed))
    return steered_layer(parameters, int(text.num_hidden_layers)), direction / direction.norm()


def _at(texts: TextBatch, places: Sequence[int]) -> Tensor:
    """Return which scored positions of a batch belong to the samples at these places, shape (M,)."""
    owners = texts.mask.nonzero()[:, 0]
    return torch.isin(owners, torch.tensor(places, device=owners.device))


def _size(samples: Sequence[EncodedSample], average: Average) -> int:
    """Return how many tokens or samples a mean over these is over."""
    return len(samples) if average == "samples" else sum(int(sample.answer.sum()) for sample in samples)
