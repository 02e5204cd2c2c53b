"""Per-token log-probabilities of a whole forget set, fast and to the last digit.

P_t = log p(x_t | x_<t; θ). MRD divides by P_t, and a model that memorises has P_t close to 0, where the usual
log-softmax rounds to nothing. Three habits keep it exact: log p is computed as
logsigmoid(z_y − logsumexp_{v≠y} z_v); the head runs in fp32 or finer; and only real tokens reach the head,
in chunks, so that the (N × T × V) logits never exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded, IntArray
from mrd_core.model.head import LanguageHead
from mrd_core.model.layer_major import Call, together
from mrd_core.model.perturbation import Transform
from mrd_core.model.reader import Batch, Gathered, Reader, Result, chunk_rows, make_batches, within_memory


def target_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log p of each target token, exact where p → 1.

    log p_y = logsigmoid(z_y − logsumexp_{v≠y} z_v). The textbook z_y − logsumexp(z) cancels: in fp32 it is
    6 % off at −log p = 5e-5 and returns 0 below 1e-7.

    Args:
        logits: Shape (M, V). Overwritten at the target's place.
        targets: Token ids, shape (M,).

    Returns:
        Log-probabilities [nats], shape (M,), in the dtype of the logits.
    """
    index = targets.unsqueeze(1)
    chosen = logits.gather(1, index).squeeze(1)
    rest = logits.scatter_(1, index, -torch.inf).logsumexp(1)
    return nn.functional.logsigmoid(chosen - rest)


# Most that hidden states take which wait for a second pass, where the weights take less [bytes].
KEPT = 1 << 26

Linear = Callable[[Tensor], Tensor]
# From the logits of two passes, shape (m, V) each, the first of which it may overwrite, and the targets (m,) to
# values of shape (m,).
Comparison = Callable[[Tensor, Tensor, Tensor], Tensor]
# Puts other weights in the place of the model's own, within.
Weights = Callable[[], AbstractContextManager[None]]


class Opposites:
    """Logits of two passes under opposite noise, side by side, of which only what is made of both is kept.

    The first pass leaves behind what its output embeddings were given; in the second its logits are made again, a
    chunk at a time.

    Args:
        compare: What is made of both.
        positions: Scored positions of either pass.

    Attributes:
        is_second: Which of the passes is running.
    """

    def __init__(self, compare: Comparison, positions: int) -> None:
        self._compare = compare
        self._inputs, self._values = Gathered(positions), Gathered(positions)
        self._linear: Linear | None = None
        self.is_second = False

    def logits(self, head: LanguageHead, hidden: Tensor, linear: Linear, targets: Tensor) -> Tensor:
        """Return the logits of some hidden states, and take note of them."""
        if not self.is_second:

            def noting(inputs: Tensor) -> Tensor:
                self._inputs.add(inputs.flatten(0, -2))
                # The weights are the same in every batch, also where each layer's are made as it runs.
                self._linear = linear
                return linear(inputs)

            return head(hidden, noting)
        logits, before = head(hidden, linear), self._linear
        assert before is not None  # the first pass came before
        begin = self._values.filled
        # A copy, so that rounding does not depend on where in the block the rows lie.
        inputs = self._inputs.blocks[0][begin : begin + len(hidden)].clone()
        opposite = head(hidden, lambda given: before(inputs.view_as(given)))
        self._values.add(self._compare(opposite, logits, targets))
        return logits

    @property
    def values(self) -> FloatArray:
        """What was made of both, for every scored position, batch after batch."""
        values: FloatArray = self._values.blocks[0].double().cpu().numpy()
        return values


class LogProbHead(nn.Module):
    """A model's way from hidden states straight to log-probabilities of the targets.

    Its parameters are those of the output embeddings, by the same names.
    """

    weight: nn.Parameter

    def __init__(self, head: LanguageHead) -> None:
        super().__init__()
        self._head = head
        # Looks at the logits of two passes.
        self.opposites: Opposites | None = None
        # The same Parameter objects as the model's: perturbing one perturbs the other, tied or not.
        self._names = {name.replace(".", "_"): name for name, _ in head.output.named_parameters()}
        for name, own in self._names.items():
            self.register_parameter(name, head.output.get_parameter(own))

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return log p(target | hidden) [nats], shape (M,), for hidden (M, d) and targets (M,)."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        # Read from here, where a perturbation or a derivative puts its own in their place.
        weights = {own: getattr(self, name) for name, own in self._names.items()}
        if self.opposites:
            # As they are now: the parameters themselves will be others in the second pass.
            weights = {own: weight.detach() for own, weight in weights.items()}
        linear = self._head.with_weights({own: weight.to(dtype) for own, weight in weights.items()})
        # Two blocks of logits and what is made of them take together what one does else, where words are few.
        rows = chunk_rows(hidden.device, len(self.weight), 2 if self.opposites else 1)
        return torch.cat(
            [
                target_log_probs(self._logits(part, linear, wanted).to(dtype), wanted)
                for part, wanted in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
            ]
        )

    def _logits(self, hidden: Tensor, linear: Linear, targets: Tensor) -> Tensor:
        if self.opposites:
            return self.opposites.logits(self._head, hidden, linear, targets)
        return self._head(hidden, linear)


class Scorer(nn.Module):
    """A causal language model, seen as a function from token ids to log-probabilities of chosen positions.

    Padding is on the right and there is no attention mask: in a causal model nothing before the padding sees
    it, and padded positions are dropped before the head. `require_own_log_probs` holds that against the model's
    own pass.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        head = LanguageHead(model)
        self.body = head.body
        self.head = LogProbHead(head)
        # What lies between the two answers, too.
        self.between = nn.ModuleList(
            child for child in model.children() if child is not head.output and not _holds(child, head.body)
        )

    def forward(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return log p(ids[row, column + 1] | ids[row, :column + 1]) for each (row, column).

        Args:
            ids: Right-padded token ids, shape (B, L).
            rows: Shape (M,).
            columns: Shape (M,), each below L − 1.

        Returns:
            Log-probabilities [nats], shape (M,), fp32 or finer.
        """
        hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state
        targets = ids[rows, columns + 1].to(hidden.device)
        log_probs: Tensor = self.head(hidden[rows.to(hidden.device), columns.to(hidden.device)], targets)
        return log_probs


def _holds(module: nn.Module, inner: nn.Module) -> bool:
    return any(part is inner for part in module.modules())


class Passes:
    """Runs whole passes over a forget set, in batches that are halved for good when memory runs out.

    Args:
        reader: Its network is a scorer: a module from ids, rows and columns to log-probabilities, see `Scorer`.
        encoded: N samples.
        on_halved: Called with the new `batch_tokens` whenever memory ran out.
    """

    def __init__(
        self,
        reader: Reader,
        encoded: Encoded,
        *,
        on_halved: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.reader = reader
        self.encoded = encoded
        self._on_halved = on_halved
        self.batches = make_batches(encoded, reader.batch_tokens, reader.device, reader.switch)

    @property
    def scorer(self) -> nn.Module:
        """The model as a function from tokens to log-probabilities."""
        scorer: nn.Module = self.reader.network
        return scorer

    @property
    def batch_tokens(self) -> int:
        """Most padded tokens in a batch."""
        return self.reader.batch_tokens

    def __call__(self) -> FloatArray:
        """Return log p of every scored position [nats], shape (T,), fp64 holding the pass's own precision.

        Raises:
            UserError: Out of memory with a single sample in the batch.
        """
        return self._within_memory(self._whole)

    def narrower(self) -> Passes:
        """Return the same passes in batches of half the tokens, for a precision of twice the size."""
        narrow = replace(self.reader, batch_tokens=max(1, self.batch_tokens // 2))
        return Passes(narrow, self.encoded, on_halved=self._on_halved)

    def of(self, samples: IntArray) -> Passes:
        """Return passes over some of the samples, in this order."""
        # They are too short to say how far they are.
        return Passes(replace(self.reader, on_batch=lambda _: None), self.encoded.subset(samples))

    def pair(
        self, first: Weights, second: Weights, compare: Comparison
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Run a pass under each of two weights, and compare their logits.

        Args:
            first: Puts the weights of the first pass in their place within it; second: those of the second.
            compare: Tells two logits of a position apart.

        Returns:
            log p of every scored position under both [nats], and what `compare` gives, shape (T,) each.
        """
        return self._within_memory(lambda: self._pair((first, second), compare))

    def by_layers(
        self, transforms: Sequence[Transform], compare: Comparison | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Run a pass under each of several weights, all of them together, a layer at a time.

        Args:
            transforms: Make the weights of each pass.
            compare: Tells two logits of a position apart, where there are two passes.

        Returns:
            log p of every scored position under each [nats], shape (passes, T); and what `compare` gives, shape
            (T,), NaN without it.

        Raises:
            NestedLayersError: A layer of the model runs within another one.
        """
        return self._within_memory(lambda: self._by_layers(transforms, compare))

    def _by_layers(
        self, transforms: Sequence[Transform], compare: Comparison | None
    ) -> tuple[FloatArray, FloatArray]:
        head: LogProbHead = self.scorer.get_submodule("head")  # type: ignore[assignment]
        length, done = int(self.encoded.starts[-1]), 0
        log_probs, values = np.empty((len(transforms), length)), np.full(length, np.nan)
        try:
            for batches in self._portions(head):
                places = _places(batches)
                head.opposites = Opposites(compare, len(places)) if compare else None
                log_probs[:, places] = self._through_layers(batches, transforms, head, done)
                if head.opposites:
                    values[places] = head.opposites.values
                done += len(batches)
        finally:
            head.opposites = None
        return log_probs, values

    def _through_layers(
        self, batches: Sequence[Batch], transforms: Sequence[Transform], head: LogProbHead, done: int
    ) -> FloatArray:
        """Return log p of the scored positions of some batches under each of the weights, shape (passes, M)."""
        calls = [
            Call(partial(self.scorer, batch.ids, batch.rows, batch.columns), weights)
            for weights in range(len(transforms))
            for batch in batches
        ]

        def before(index: int) -> None:
            self.reader.before_batch()
            self.reader.on_batch(done / len(self.batches))
            if head.opposites:
                head.opposites.is_second = bool(calls[index].weights)

        log_probs = torch.cat(together(self.scorer, calls, transforms, before)).double().cpu().numpy()
        by_weights: FloatArray = log_probs.reshape(len(transforms), -1)
        return by_weights

    def _within_memory(self, run: Callable[[], Result]) -> Result:
        """Return what `run` returns, done anew in batches of half the tokens while memory runs out."""
        longest = int(self.encoded.lengths.max())

        @torch.no_grad()
        def in_batches(most: int) -> Result:
            if most < self.batch_tokens:
                self.reader = replace(self.reader, batch_tokens=most)
                self.batches = make_batches(self.encoded, most, self.reader.device, self.reader.switch)
            return run()

        return within_memory(
            in_batches,
            self.batch_tokens,
            least=longest,
            on_halved=self._on_halved,
            what=f"A batch of one sample ({longest} tokens)",
        )

    def _whole(self) -> FloatArray:
        flat = np.empty(int(self.encoded.starts[-1]))
        if self.batches:
            flat[_places(self.batches)] = self._pass(self.batches, 0, len(self.batches))
        return flat

    def _pair(
        self, pair: tuple[Weights, Weights], compare: Comparison
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        head: LogProbHead = self.scorer.get_submodule("head")  # type: ignore[assignment]
        length, done = int(self.encoded.starts[-1]), 0
        log_probs, values = np.empty((2, length)), np.empty(length)
        try:
            for batches in self._portions(head):
                places = _places(batches)
                head.opposites = Opposites(compare, len(places))
                for is_second, weights in enumerate(pair):
                    head.opposites.is_second = bool(is_second)
                    with weights():
                        log_probs[is_second, places] = self._pass(batches, done, 2 * len(self.batches))
                    done += len(batches)
                values[places] = head.opposites.values
        finally:
            head.opposites = None
        return log_probs[0], log_probs[1], values

    def _portions(self, head: LogProbHead) -> Iterator[list[Batch]]:
        """Yield the batches, so many at a time that their hidden states take no more than the weights or KEPT."""
        weights = sum(weight.numel() * weight.element_size() for weight in self.scorer.parameters())
        most = max(KEPT, weights) // (4 * head.weight.shape[-1])
        portion: list[Batch] = []
        for batch in self.batches:
            if portion and sum(len(other.flat) for other in (*portion, batch)) > most:
                yield portion
                portion = []
            portion.append(batch)
        if portion:
            yield portion

    def _pass(self, batches: Sequence[Batch], done: int, total: int) -> FloatArray:
        """Return log p of the scored positions of some batches, in their order; `done` of `total` are behind."""
        results = Gathered(sum(len(batch.flat) for batch in batches))
        for place, batch in enumerate(batches, done):
            self.reader.before_batch()
            self.reader.on_batch(place / total)
            results.add(self.scorer(batch.ids, batch.rows, batch.columns))
        log_probs: FloatArray = results.blocks[0].double().cpu().numpy()
        return log_probs


def _places(batches: Sequence[Batch]) -> IntArray:
    """Return where the scored positions of batches stand on the flat axis, in their order."""
    return np.concatenate([batch.flat for batch in batches])


class KeepDouble(TorchFunctionMode):
    """Within it, a cast of fp64 values to fp32 is ignored.

    Normalisation layers cast to fp32 whatever they are given, which would make an fp64 baseline no finer
    than fp32. Buffers that were fp32 from the start (rotary frequencies) stay what they are: rounding them
    otherwise than the perturbed passes do would be an error shared by every draw.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else None
        if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
            if func is Tensor.float:
                return tensor
            if func is Tensor.to:
                args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs = kwargs | {"dtype": torch.float64}
        if func is torch.full and isinstance(args[1], float) and abs(args[1]) > torch.finfo(torch.float32).max:
            # The least number of an fp64 tensor, to be put into it.
            kwargs = {"dtype": torch.float64} | kwargs
        return func(*args, **kwargs)
