"""The norm of each sample's own gradient, for a whole batch in one backward pass.

Gradients of a batch add up in autograd. Here no gradient of a weight is made at all: each sample's own follows
from what enters and leaves the modules (`tape`, `pieces`). Whatever no rule is known for is left to autograd, a
sample at a time and a parameter at a time; a trial on two samples finds out which parameters these are.

The logits never exist for a whole batch: the pass ends at the last hidden states, and the head runs over a few
samples at a time, forward and backward.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded, IntArray, length_buckets, padded
from mrd_core.model.head import LanguageHead
from mrd_core.model.pieces import Crossing, Dense, Outer, Piece, squared_norms
from mrd_core.model.reader import Reader, chunk_rows, evaluating, in_fp32, within_memory
from mrd_core.model.tape import Tape

# A pass that will go backward keeps all of its activations.
BATCH_SHARE = {"cpu": 1, "cuda": 4}

# By how much the squared norm of a parameter's gradient may differ from autograd's: relative, and of the sum over
# all parameters, because the gradient of some, such as the bias of keys, is nothing but rounding.
RELATIVE = {torch.float64: 1e-6, torch.float32: 1e-3}
COARSE = 0.2
OF_THE_SUM = {torch.float64: 1e-9, torch.float32: 1e-6}
COARSE_OF_THE_SUM = 1e-3

# From logits (…, V), targets (…) and places on the flat axis (…) to the gradient at the logits of what is
# differentiated, (…, V).
Direction = Callable[[Tensor, Tensor, Tensor], Tensor]


class Probe(NamedTuple):
    """A function of the logits whose gradient is wanted, Σ_t weight_t f_t.

    Attributes:
        weights: One for each scored position, shape (T,); 0 where f_t does not count.
        direction: The gradient of f_t at the logits.
    """

    weights: FloatArray
    direction: Direction


def nll_direction(logits: Tensor, targets: Tensor, _places: Tensor) -> Tensor:
    """Return ∇(−log p_y) at the logits, without cancellation where the model is certain.

    With q the probabilities without the target's, it is (1 − p_y)(q − e_y).
    """
    odds, others = _log_odds(logits, targets)
    return -torch.sigmoid(-odds).unsqueeze(-1) * _rise(others, targets)


def log_odds_direction(logits: Tensor, targets: Tensor, _places: Tensor) -> Tensor:
    """Return ∇(z_y − log Σ_{v ≠ y} exp z_v) at the logits: e_y − q."""
    return _rise(_log_odds(logits, targets)[1], targets)


def competitors_direction(logits: Tensor, targets: Tensor, signs: Tensor) -> Tensor:
    """Return √q∘ε − q (√q·ε), q the softmax over all but the target, for signs ε = ±1 of shape (…, V).

    The squared norm of what it is the gradient of at the logits is Σ_v q_v ‖∇z_v − Σ_u q_u ∇z_u‖² on average.
    """
    others = _log_odds(logits, targets)[1]
    swung = (others / 2).exp() * signs
    return swung - others.exp() * swung.sum(-1, keepdim=True)


def _log_odds(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-odds of the targets (…) and the log-probabilities of the others, among themselves, (…, V)."""
    index = targets.unsqueeze(-1)
    rest = logits.scatter(-1, index, -torch.inf)
    total = rest.logsumexp(-1, keepdim=True)
    return (logits.gather(-1, index) - total).squeeze(-1), rest - total


def _rise(others: Tensor, targets: Tensor) -> Tensor:
    return -others.exp().scatter(-1, targets.unsqueeze(-1), -1)


def gradient_norms(
    reader: Reader,
    encoded: Encoded,
    announce: Callable[[str], None] = warnings.warn,
    layout: Layout | None = None,
) -> FloatArray:
    """Return ‖∇_θ NLL‖ of each sample's summed answer NLL, dropout off.

    θ is every floating-point parameter, frozen or not; tied weights are one parameter.

    Args:
        reader: The model; its modes, gradients and flags stay as they are.
        encoded: N samples.
        announce: Told, once, what is left to autograd.
        layout: What was found before, and is not tried again.

    Returns:
        Shape (N,) [nats]; NaN where a sample has no answer token.

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    gradients = SampleGradients(reader, encoded, layout, announce)
    squared = gradients.squared_norms(encoded, [Probe(encoded.answer.astype(np.float64), nll_direction)])[0]
    has_answer = np.array([sample.answer.any() for sample in encoded.samples])
    norms: FloatArray = np.where(has_answer, np.sqrt(squared), np.nan)
    return norms


@dataclass(frozen=True)
class Layout:
    """How gradients of single samples are had from a model.

    Attributes:
        by_autograd: Names of the parameters that no rule gives the gradient of.
        in_batches: Whether the samples of a batch can be told apart; otherwise each is a batch.
    """

    by_autograd: frozenset[str] = frozenset()
    in_batches: bool = True


class SampleGradients:
    """Gradients of single samples with respect to every parameter of a model.

    Args:
        reader: The model.
        encoded: Samples to find the layout on.
        layout: What was found before, and is not tried again.
        announce: Told what is left to autograd, where that is found out here.

    Raises:
        UserError: Out of memory with a single sample.
    """

    def __init__(
        self,
        reader: Reader,
        encoded: Encoded,
        layout: Layout | None = None,
        announce: Callable[[str], None] = lambda _way: None,
    ) -> None:
        self._reader = reader
        self._head = LanguageHead(reader.network)
        self._names = {
            parameter: name
            for name, parameter in reader.network.named_parameters()
            if parameter.is_floating_point()
        }
        self._in_head = {self._names[parameter] for parameter in self._head.output.parameters()}
        self._in_body = {self._names[parameter] for parameter in self._head.body.parameters()}
        self._tape = Tape(self._modules())
        self._layout = Layout()
        self._layout = layout or within_memory(lambda _most: self._found(encoded), 1)
        if self.by_autograd and layout is None:
            announce(f"Gradients: {self.way}.")

    @property
    def layout(self) -> Layout:
        """How they are had."""
        return self._layout

    @property
    def by_autograd(self) -> frozenset[str]:
        """Names of the parameters that no rule gives the gradient of."""
        return self._layout.by_autograd

    @property
    def in_batches(self) -> bool:
        """Whether the samples of a batch can be told apart."""
        return self._layout.in_batches

    @property
    def way(self) -> str:
        """How gradients are taken, in words."""
        if not self.by_autograd:
            return "from inputs and outputs" + ("" if self.in_batches else ", one sample at a time")
        kinds = sorted(
            {
                type(module).__name__
                for module in self._reader.network.modules()
                for parameter in module.parameters(recurse=False)
                if self._names.get(parameter) in self.by_autograd
            }
        )
        return (
            f"one sample at a time, {len(self.by_autograd)} of {len(self._names)} tensors of weights by autograd "
            f"({', '.join(kinds)})"
        )

    def norms_cost(self, tokens: float) -> float:
        """Return what the norms cost beside a forward pass of samples of so many tokens, in forward passes.

        The square of a p × q matrix's gradient takes as many operations as its layer, or T (p + q) for p q if that
        is less.
        """
        sizes = [parameter.shape for parameter in self._names if parameter.dim() == 2]
        layer = sum(p * q for p, q in sizes)
        return float(sum(min(tokens * (p + q), p * q) for p, q in sizes) / layer)

    def squared_norms(self, encoded: Encoded, probes: Sequence[Probe]) -> FloatArray:
        """Return the squared norm of every sample's gradient of every probe, shape (R, N); 0 where none counts.

        All probes share one forward pass.

        Raises:
            UserError: Out of memory with a single sample in the batch.
        """
        squared = np.zeros((len(probes), len(encoded)))

        def measure_all(most: int) -> None:
            results = [(chosen, total_of(by_name)) for chosen, by_name in self._norms(encoded, probes, most)]
            for chosen, total in results:
                squared[:, chosen] = total.double().cpu().numpy()

        with self.ready():
            within_memory(measure_all, self.batch_tokens)
        return squared

    @property
    def batch_tokens(self) -> int:
        """Most padded tokens in a batch at first; halved while memory runs out."""
        return max(1, self._reader.batch_tokens // BATCH_SHARE[self._reader.device.type])

    @property
    def entries_a_token(self) -> int:
        """Numbers that the pieces of one token hold, about, where each matrix is used once."""
        matrices = (parameter for parameter in self._names if parameter.dim() > 1)
        return max(1, sum(sum(matrix.shape) for matrix in matrices))

    def batches(self, encoded: Encoded, probes: Sequence[Probe], most: int) -> Iterator[tuple[IntArray, Batch]]:
        """Yield the samples that count in batches of at most so many padded tokens, with their indices.

        A batch is one sample where those of a batch cannot be told apart.
        """
        weights = np.stack([probe.weights for probe in probes])
        counts = np.bincount(encoded.owner, weights=(weights != 0).any(axis=0), minlength=len(encoded))
        counted = np.flatnonzero(counts)
        buckets = length_buckets(encoded.lengths[counted], most if self.in_batches else 1, self._reader.switch)
        for place, bucket in enumerate(buckets):
            self._reader.before_batch()
            self._reader.on_batch(place / len(buckets))
            chosen = counted[bucket]
            yield chosen, Batch.of(encoded, chosen, weights, self._reader.device)

    def _norms(
        self, encoded: Encoded, probes: Sequence[Probe], most: int
    ) -> Iterator[tuple[IntArray, list[dict[str, Tensor]]]]:
        """Yield the squared norms of each parameter's gradient by name, (B,) each, for each probe and batch."""
        for chosen, batch in self.batches(encoded, probes, most):
            norms = [Norms(len(batch.ids)) for _ in probes]
            self.backward(batch, [probe.direction for probe in probes], norms)
            yield chosen, [of_probe.finished() for of_probe in norms]

    def backward(self, batch: Batch, directions: Sequence[Direction], sinks: Sequence[Norms]) -> None:
        """Run a batch forward once and backward for each probe, whose pieces go to its sink."""
        tape = self._tape
        tape.reset()
        with tape.batch(*batch.ids.shape):
            hidden = self._head.body(input_ids=batch.ids, use_cache=False).last_hidden_state
            rows = torch.arange(len(batch.ids), device=hidden.device).unsqueeze(1)
            states = hidden[rows, batch.columns.to(hidden.device)]
            again = {name for name, uses in tape.uses.items() if uses > 1}
            shared = again | (self._in_head & ({*tape.uses} | (self.by_autograd & self._in_body)))
            ids = dict(tape.ids)
            for sink in sinks:
                sink.share(shared, ids)
            gradients = self._through_head(states, batch, directions, sinks)
            for place, (gradient, sink) in enumerate(zip(gradients, sinks, strict=True)):
                tape.sink = sink.take
                torch.autograd.backward(states, gradient, retain_graph=place < len(sinks) - 1)

    def _through_head(
        self, states: Tensor, batch: Batch, directions: Sequence[Direction], sinks: Sequence[Norms]
    ) -> list[Tensor]:
        """Return the gradients of the states (B, A, d), for each probe."""
        head, tape = self._head, self._tape
        fine = in_fp32(head)
        gradients: list[list[Tensor]] = [[] for _ in directions]
        words = head.output.weight.shape[0]
        at_once = max(1, chunk_rows(states.device, words) // states.shape[1])
        for begin in range(0, len(states), at_once):
            part = slice(begin, begin + at_once)
            state = states[part].detach().requires_grad_()
            with tape.batch(*state.shape[:2]):
                logits = head(state, partial(self._listened, fine))
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
                targets = batch.targets[part].to(logits.device)
                with torch.no_grad():
                    # Probes of one kind differ in their weights alone.
                    by_kind = {
                        direction: direction(logits, targets, batch.places[part]) for direction in {*directions}
                    }
                for place, (direction, sink) in enumerate(zip(directions, sinks, strict=True)):
                    gradient = batch.weights[place, part].to(logits).unsqueeze(-1) * by_kind[direction]
                    sink.part = part
                    tape.sink = sink.take
                    torch.autograd.backward(logits, gradient, retain_graph=place < len(sinks) - 1)
                    sink.part = slice(None)
                    assert state.grad is not None  # the logits follow from the states
                    gradients[place].append(state.grad)
                    state.grad = None
        return [torch.cat(parts) for parts in gradients]

    def _listened(self, linear: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """Return the raw logits of hidden states, and send the pieces of the output embeddings on the way back."""
        logits = linear(hidden)
        states = hidden.detach().to(logits.dtype)
        own = {name: self._names[parameter] for name, parameter in self._head.output.named_parameters()}

        def send(gradient: Tensor) -> None:
            pieces: dict[str, Piece] = {"weight": Outer(gradient, states), "bias": Dense(gradient.sum(1))}
            for name, full in own.items():
                if full not in self.by_autograd and name in pieces:
                    self._tape.sink(full, pieces[name])

        logits.register_hook(send)  # type: ignore[no-untyped-call]
        return logits

    def _modules(self) -> dict[nn.Module, dict[str, str]]:
        """Return the modules that are listened to, with the names of their own parameters."""
        output = {*self._head.output.modules()}
        return {
            module: names
            for module in self._reader.network.modules()
            if module not in output
            and (
                names := {
                    name: self._names[parameter]
                    for name, parameter in module.named_parameters(recurse=False)
                    if parameter in self._names
                }
            )
        }

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Freeze every weight that a rule is known for, listen, and leave everything as it was."""
        parameters = list(self._reader.network.parameters())
        before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in parameters]
        with ExitStack() as stack:
            stack.enter_context(evaluating(self._reader.network))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_every_row_counts(self._reader.network))
            stack.enter_context(self._tape.listening())
            self._tape.skipped = self.by_autograd
            try:
                for parameter in parameters:
                    name = self._names.get(parameter)
                    parameter.requires_grad_(name in self.by_autograd)
                    parameter.grad = None
                    if name in self.by_autograd:
                        handle = parameter.register_post_accumulate_grad_hook(partial(self._accumulated, name))
                        stack.callback(handle.remove)
                yield
            finally:
                for parameter, requires_grad, gradient in before:
                    parameter.requires_grad_(requires_grad)
                    parameter.grad = gradient

    def _accumulated(self, name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None  # it has just been made
        gradient = parameter.grad.flatten().unsqueeze(0)
        parameter.grad = None
        self._tape.sink(name, Dense(gradient.to(torch.promote_types(gradient.dtype, torch.float32))))

    def _found(self, encoded: Encoded) -> Layout:
        """Return what has to be left to autograd, found on two samples of different lengths."""
        answered = np.array([i for i, sample in enumerate(encoded.samples) if sample.answer.any()], dtype=np.int64)
        if not len(answered):
            return Layout()
        order = answered[np.argsort(encoded.lengths[answered], kind="stable")]
        few = encoded.subset(order[[0, len(order) // 4]] if len(order) > 1 else order)
        expected = self._trial(few, Layout(frozenset(self._names.values()), in_batches=False))
        if not self._disagreements(self._trial(few, Layout()), expected):
            return Layout()
        alone = self._disagreements(self._trial(few, Layout(in_batches=False)), expected)
        return Layout(frozenset(alone), in_batches=False)

    def _trial(self, few: Encoded, layout: Layout) -> list[dict[str, float]]:
        """Return the squared norm of each parameter's gradient, by name, for each of a few samples."""
        self._layout, self._tape.is_trying = layout, True
        norms: list[dict[str, float]] = [{} for _ in few.samples]
        try:
            with self.ready():
                probe = Probe(few.answer.astype(np.float64), nll_direction)
                for chosen, (by_name,) in self._norms(few, [probe], int(few.lengths.max()) * len(few)):
                    for place, sample in enumerate(chosen):
                        norms[sample] = {name: float(values[place]) for name, values in by_name.items()}
        finally:
            self._tape.is_trying = False
        return norms

    def _disagreements(self, found: list[dict[str, float]], expected: list[dict[str, float]]) -> set[str]:
        dtype = next(iter(self._names)).dtype
        relative, of_the_sum = RELATIVE.get(dtype, COARSE), OF_THE_SUM.get(dtype, COARSE_OF_THE_SUM)
        return {
            name
            for mine, true in zip(found, expected, strict=True)
            for name in mine.keys() | true.keys()
            if not abs(mine.get(name, 0.0) - true.get(name, 0.0))
            <= relative * true.get(name, 0.0) + of_the_sum * sum(true.values())
        }


@dataclass(frozen=True)
class Batch:
    """B samples, padded on the right to L tokens, and their positions that count, padded to A.

    Attributes:
        ids: Token ids, shape (B, L).
        columns: Where the tokens that count are predicted, shape (B, A), each below L − 1.
        targets: These tokens, shape (B, A).
        places: Where they stand on the flat axis of all samples, shape (B, A).
        weights: Of R probes, shape (R, B, A); 0 for padding.
    """

    ids: Tensor
    columns: Tensor
    targets: Tensor
    places: Tensor
    weights: Tensor

    @classmethod
    def of(cls, encoded: Encoded, chosen: IntArray, weights: FloatArray, device: torch.device) -> Batch:
        own = [weights[:, encoded.starts[i] : encoded.starts[i + 1]] for i in chosen]
        columns = [np.flatnonzero((of_sample != 0).any(axis=0)) for of_sample in own]
        tokens = [encoded.samples[i].tokens for i in chosen]
        targets = [sample[places + 1] for sample, places in zip(tokens, columns, strict=True)]
        flat = [encoded.starts[i] + places for i, places in zip(chosen, columns, strict=True)]
        width = max(map(len, columns))
        values = np.zeros((len(weights), len(chosen), width))
        for row, (of_sample, places) in enumerate(zip(own, columns, strict=True)):
            values[:, row, : len(places)] = of_sample[:, places]
        # The padding is behind the text, where a causal model does not look, so any id does.
        parts = (padded(tokens), padded(columns), padded(targets), padded(flat), values)
        return cls(*(torch.from_numpy(part).to(device) for part in parts))


class Norms:
    """Adds up squared norms; holds only the pieces of parameters that are used more than once.

    Attributes:
        part: The samples of the batch that the pieces to come belong to.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._by_name: dict[str, Tensor] = {}
        self._held: dict[str, list[Piece]] = {}
        self._shared: set[str] = set()
        self._ids: dict[str, Tensor] = {}
        self.part = slice(None)

    def share(self, shared: set[str], ids: dict[str, Tensor]) -> None:
        """Say which parameters are used more than once, and at which ids rows of them are looked up."""
        self._shared, self._ids = shared, ids

    def take(self, name: str, piece: Piece) -> None:
        """Take what one use of a parameter adds."""
        if name not in self._shared:
            self._add(name, squared_norms([piece]))
            return
        if isinstance(piece, Outer) and name in self._ids:
            # Of logits only what meets the rows of the same weight is worth its memory.
            self._add(name, squared_norms([piece]))
            ids = self._ids[name].to(piece.left.device)
            piece = Crossing.of(piece, ids.expand(self._samples, -1)[self.part])
        self._held.setdefault(name, []).append(piece)

    def finished(self) -> dict[str, Tensor]:
        """Return the squared norms, by name."""
        for name, pieces in self._held.items():
            whole = _joined([piece for piece in pieces if isinstance(piece, Crossing)])
            rest = [piece for piece in pieces if not isinstance(piece, Crossing)]
            self._add(name, squared_norms([*whole, *rest]))
        return self._by_name

    def _add(self, name: str, squared: Tensor) -> None:
        if name not in self._by_name:
            self._by_name[name] = squared.new_zeros(self._samples)
        self._by_name[name][self.part] += squared.to(self._by_name[name].device)


def _joined(parts: list[Crossing]) -> list[Crossing]:
    """Join what belongs to parts of a batch."""
    if not parts:
        return []
    return [Crossing(torch.cat([part.left for part in parts]), torch.cat([part.right for part in parts]))]


def total_of(by_probe: list[dict[str, Tensor]]) -> Tensor:
    """Return the sum over the parameters, shape (R, B)."""
    first = next(iter(by_probe[0].values())).device
    return torch.stack(
        [torch.stack([values.to(first) for values in by_name.values()]).sum(0) for by_name in by_probe]
    )


@contextmanager
def _every_row_counts(network: nn.Module) -> Iterator[None]:
    """Within it the row of the padding token has a gradient like any other: noise moves it, too."""
    embeddings = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    before = [embedding.padding_idx for embedding in embeddings]
    try:
        for embedding in embeddings:
            embedding.padding_idx = None
        yield
    finally:
        for embedding, index in zip(embeddings, before, strict=True):
            embedding.padding_idx = index
