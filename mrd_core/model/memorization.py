"""How much of a sample a language model knows by heart (Jang et al., ACL 2023).

Both measures look at the answer x_1 … x_T, its EOS included, after the question. *Memorization accuracy* asks
for each token, given the true ones before it, whether it is the model's first choice. *Extraction likelihood*
lets the model write on by itself from every prefix of the answer and counts the n-grams that come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from mrd_core.errors import UserError
from mrd_core.model.encoding import BoolArray, Encoded, EncodedSample, IntArray
from mrd_core.model.likelihood import (
    CHUNK_ELEMENTS,
    Batch,
    FloatArray,
    is_out_of_memory,
    make_batches,
    target_log_probs,
)

# The n of EL_n that Jang et al. use.
NGRAM = 10
# Stands where nothing is looked at, so any id does.
PADDING = 0

Result = TypeVar("Result")


class Memorized(NamedTuple):
    """What one teacher-forced pass says of N samples; NaN where no answer token fits into the context.

    Attributes:
        accuracy: MA, share of the answer tokens that are the model's first choice, shape (N,).
        nll: Mean negative log-likelihood per answer token [nats], shape (N,).
    """

    accuracy: FloatArray
    nll: FloatArray


class ExtractionCost(NamedTuple):
    """What EL costs at most; tokens that the model predicts right need no generation of their own.

    Attributes:
        prefixes: Generations. Each reads or writes every token of its sample once, so in operations it costs
            about one forward pass of the sample.
        tokens: Tokens to generate, one after the other: what the time goes into.
    """

    prefixes: int
    tokens: int


def measure_memorization(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    samples: IntArray | None = None,
    before_batch: Callable[[], None] = lambda: None,
) -> Memorized:
    """Measure memorization accuracy and NLL in one pass without gradients, dropout off.

    MA(x) = (1/T) Σ_t 1[argmax p(· | question, x_<t) = x_t] (Jang et al., over the answer).

    Args:
        network: A transformers causal language model; each module gets back the mode it was in.
        encoded: The samples as tokens.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch; halved while memory runs out.
        samples: Which samples, in which order; all by default.
        before_batch: Called before each batch; raises to stop.

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    chosen = encoded if samples is None else encoded.subset(samples)
    if not len(chosen):
        return Memorized(np.empty(0), np.empty(0))
    with evaluating(network):
        passed = within_memory(
            lambda most: teacher_forced(network, chosen, device, most, before_batch), batch_tokens
        )
    return Memorized(_answer_mean(chosen, passed.hits), -_answer_mean(chosen, passed.log_probs))


def extraction_likelihood(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    end_ids: Collection[int],
    samples: IntArray | None = None,
    n: int = NGRAM,
    before_batch: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Measure how much of each answer the model gives away when it is started on a part of it.

    EL_n(x) = (1/(T − n)) Σ_{t=1}^{T−n} overlap_n(f(question, x_<t), x_≥t), with f the greedy generation of as
    many tokens as are left, ended by any of `end_ids` (Jang et al.). Answers of T ≤ n tokens take n = T − 1.

    As long as the model's first choice is the true token, generating from x_<t is generating from x_≤t: only
    prefixes that it continues wrongly are generated from. It is exact, and nearly free on a memorised text.

    Args:
        network: A transformers causal language model; each module gets back the mode it was in.
        encoded: The samples as tokens.
        device: Where the token ids go.
        batch_tokens: Most padded tokens in a batch, generated ones included; halved while memory runs out.
        end_ids: Tokens that end a generation: EOS, the end of a chat turn.
        samples: Which samples, in which order; all by default.
        n: Tokens to an n-gram.
        before_batch: Called before each batch; raises to stop.

    Returns:
        EL_n of each sample, shape (N,), from 0 to 1; NaN for answers of fewer than two tokens, where it is
        not defined.

    Raises:
        UserError: Out of memory with a single generation in the batch.
    """
    chosen = encoded if samples is None else encoded.subset(samples)
    if not len(chosen):
        return np.empty(0)
    with evaluating(network), plainly_greedy(network) as generator:
        passed = within_memory(
            lambda most: teacher_forced(network, chosen, device, most, before_batch), batch_tokens
        )
        parts = [passed.hits[start:stop] for start, stop in pairwise(chosen.starts)]
        answers = [_Answer.of(sample, hits, n) for sample, hits in zip(chosen.samples, parts, strict=True)]
        wanted = [prefix for answer in answers for prefix in answer.prefixes()]
        written = within_memory(
            lambda most: continuations(generator, wanted, device, most, end_ids, before_batch), batch_tokens
        )
    rest, ends = iter(written), frozenset(end_ids)
    return np.array([answer.likelihood(list(islice(rest, len(answer.starts))), ends) for answer in answers])


def extraction_cost(encoded: Encoded, samples: IntArray | None = None, n: int = NGRAM) -> ExtractionCost:
    """Return the most that `extraction_likelihood` costs on these samples: a generation from each prefix."""
    chosen = encoded.samples if samples is None else [encoded.samples[i] for i in samples]
    lengths = np.array([sample.answer.sum() for sample in chosen], dtype=np.int64)
    prefixes = lengths - _order(lengths, n)
    return ExtractionCost(
        prefixes=int(prefixes.sum()),
        # T + (T − 1) + …, one summand for each prefix.
        tokens=int((prefixes * lengths - prefixes * (prefixes - 1) // 2).sum()),
    )


def overlap(generated: Sequence[int], label: Sequence[int], n: int) -> float:
    """Return the n-grams of `generated` that occur in `label`, over the number of n-grams of `label`.

    An n-gram that is generated twice counts twice, as in the code of Jang et al.; the formula of their paper
    divides by the n-grams of the generation instead, which a short one fulfils easily. At most 1 where `generated`
    is no longer than `label`, and 0 where it has no n-gram.

    Args:
        generated: Token ids.
        label: At least n token ids.
        n: Tokens to an n-gram, at least 1.
    """
    true, found = Counter(_ngrams(label, n)), _ngrams(generated, n)
    return sum(ngram in true for ngram in found) / true.total()


def _ngrams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _order(lengths: IntArray, n: int) -> IntArray:
    """Return the n of EL_n for answers of these lengths, shape (N,): at most T − 1, and T where there is none."""
    return np.where(lengths > 1, np.minimum(n, lengths - 1), lengths)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch dropout off within, without gradients; then give each module the mode it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def plainly_greedy(network: Any) -> Iterator[Any]:
    """Yield the model that generates, without what its own settings would add (repetition penalty and such)."""
    # An adapter's wrapper copies settings into the model beneath; that one has the adapter's layers in it.
    model = network.get_base_model() if hasattr(network, "get_base_model") else network
    settings = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield model
    finally:
        model.generation_config = settings


def within_memory(run: Callable[[int], Result], batch_tokens: int) -> Result:
    """Return `run(batch_tokens)`, with half as many as long as memory runs out."""
    while True:
        try:
            return run(batch_tokens)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if batch_tokens <= 1:
                raise UserError(
                    "A single sample",
                    "does not fit into the memory of the device beside what unlearning holds there.",
                    "Use an adapter, a coarser dtype, a device with more memory, or shorter samples.",
                ) from error
        torch.cuda.empty_cache()
        batch_tokens //= 2


class _Passed(NamedTuple):
    """A teacher-forced pass on the flat axis, shape (T,) each; NaN and False outside the answers."""

    log_probs: FloatArray
    hits: BoolArray


def teacher_forced(
    network: Any,
    encoded: Encoded,
    device: torch.device,
    batch_tokens: int,
    before_batch: Callable[[], None] = lambda: None,
) -> _Passed:
    """Run the true texts through the model; arguments as in `measure_memorization`."""
    answer = encoded.answer
    passed = _Passed(np.full(len(answer), np.nan), np.zeros(len(answer), dtype=np.bool_))
    # Results stay on the device until the pass ends: a copy per batch would make a GPU wait each time.
    results = []
    for batch in make_batches(encoded, batch_tokens, device):
        before_batch()
        inside = np.flatnonzero(answer[batch.flat])
        results.append((batch.flat[inside], *_predict(network, batch, torch.from_numpy(inside).to(device))))
    for where, log_probs, hits in results:
        passed.log_probs[where] = log_probs.double().cpu().numpy()
        passed.hits[where] = hits.cpu().numpy()
    return passed


def _predict(network: Any, batch: Batch, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p and whether it is the first choice, for the scored positions `inside` a batch, shape (M,)."""
    rows, columns = batch.rows[inside], batch.columns[inside]
    hidden = network.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    targets = batch.ids[rows, columns + 1].to(hidden.device)
    hidden = hidden[rows.to(hidden.device), columns.to(hidden.device)]
    # The module and not its weight, which would pass over an adapter on the head.
    head = network.get_output_embeddings()
    chunk = max(1, CHUNK_ELEMENTS[hidden.device.type] // head.weight.shape[0])
    parts = [
        _judge(head(some), wanted)
        for some, wanted in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
    ]
    log_probs, hits = zip(*parts, strict=True)
    return torch.cat(log_probs), torch.cat(hits)


def _judge(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    hits = logits.argmax(1) == targets
    return target_log_probs(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets), hits


def _answer_mean(encoded: Encoded, values: FloatArray | BoolArray) -> FloatArray:
    """Return the mean over each sample's answer, shape (N,), of values on the flat axis."""
    owner, count = encoded.owner[encoded.answer], len(encoded)
    tokens = np.bincount(owner, minlength=count)
    sums = np.bincount(owner, weights=values[encoded.answer], minlength=count)
    mean: FloatArray = np.divide(sums, tokens, out=np.full(count, np.nan), where=tokens > 0)
    return mean


@dataclass(frozen=True)
class Prefix:
    """Where a generation starts, and how many tokens it may have."""

    tokens: IntArray
    budget: int


@dataclass(frozen=True)
class _Answer:
    """The answer of one sample, and where the model leaves it.

    Attributes:
        before: Every token that comes before the answer's last, shape (L − 1,).
        positions: The answer's places among the scored positions, shape (T,).
        label: Its token ids, length T.
        leaves: The first position from t on whose token is not the model's first choice, T where there is
            none; for the prefixes t = 0 … T − n − 1.
        n: Tokens to an n-gram.
    """

    before: IntArray
    positions: IntArray
    label: list[int]
    leaves: IntArray
    n: int

    @classmethod
    def of(cls, sample: EncodedSample, hits: BoolArray, n: int) -> _Answer:
        """Return the answer of a sample whose first choices are known, shape (L − 1,)."""
        positions = np.flatnonzero(sample.answer)
        length = len(positions)
        order = int(_order(np.array([length]), n)[0])
        misses = np.where(hits[positions], length, np.arange(length))
        leaves = np.minimum.accumulate(misses[::-1])[::-1]
        return cls(
            sample.tokens[:-1], positions, sample.tokens[positions + 1].tolist(), leaves[: length - order], order
        )

    @cached_property
    def starts(self) -> list[int]:
        """The positions to generate from: those where the model leaves the answer."""
        return [int(leave) for leave in np.unique(self.leaves) if leave < len(self.label)]

    def prefixes(self) -> list[Prefix]:
        """Return what stands before each of `starts`."""
        return [Prefix(self.before[: self.positions[start] + 1], len(self.label) - start) for start in self.starts]

    def likelihood(self, written: Sequence[list[int]], ends: frozenset[int]) -> float:
        """Return EL_n, given what the model wrote at each of `starts`."""
        if not len(self.leaves):
            return float("nan")
        tails = dict(zip(self.starts, written, strict=True)) | {len(self.label): []}
        shares = [
            overlap(_ended(self.label[t:leave] + tails[leave], ends), self.label[t:], self.n)
            for t, leave in enumerate(self.leaves.tolist())
        ]
        return sum(shares) / len(shares)


def _ended(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """Return the tokens up to and with the first that ends a generation."""
    end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: end + 1]


def continuations(
    model: Any,
    prefixes: Sequence[Prefix],
    device: torch.device,
    batch_tokens: int,
    end_ids: Collection[int],
    before_batch: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Return what the model writes after each prefix, at most its budget."""
    written: list[list[int]] = [[] for _ in prefixes]
    context = getattr(model.config, "max_position_embeddings", None) or float("inf")
    for batch in _alike(prefixes, batch_tokens, context):
        before_batch()
        texts = _generate(model, [prefixes[i] for i in batch], device, end_ids)
        for i, text in zip(batch, texts, strict=True):
            written[i] = text[: prefixes[i].budget]
    return written


def _alike(prefixes: Sequence[Prefix], batch_tokens: int, context: float) -> list[list[int]]:
    """Split generations into batches of similar budget, longest first, none wider than the context."""
    batches: list[list[int]] = []
    width = budget = 0
    for i in sorted(range(len(prefixes)), key=lambda i: (-prefixes[i].budget, -len(prefixes[i].tokens))):
        size = len(prefixes[i].tokens)
        widened = max(width, size)
        total = widened + budget
        if not batches or total > context or total * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
            widened, budget = size, prefixes[i].budget
        batches[-1].append(i)
        width = widened
    return batches


def _generate(
    model: Any, prefixes: Sequence[Prefix], device: torch.device, end_ids: Collection[int]
) -> list[list[int]]:
    """Generate greedily from prefixes that are padded on the left, as many tokens as the largest budget."""
    width = max(len(prefix.tokens) for prefix in prefixes)
    ids = np.full((len(prefixes), width), PADDING, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prefix in enumerate(prefixes):
        ids[row, width - len(prefix.tokens) :] = prefix.tokens
        mask[row, width - len(prefix.tokens) :] = 1
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max(prefix.budget for prefix in prefixes),
        do_sample=False,
        eos_token_id=sorted(end_ids),
        pad_token_id=PADDING,
    )
    output: Tensor = model.generate(
        torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=settings,
    )
    texts: list[list[int]] = output[:, width:].tolist()
    return texts
