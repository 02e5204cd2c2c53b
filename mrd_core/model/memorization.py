"""How much of a sample a language model knows by heart (Jang et al., ACL 2023).

Both measures look at the answer x_1 … x_T, its EOS included, after the question. *Memorization accuracy* asks
for each token, given the true ones before it, whether it is the model's first choice. *Extraction likelihood*
lets the model write on by itself from every prefix of the answer and counts the n-grams that come back.
A token that is no longer the first choice may still come close: a margin asks that it be beaten by as much
(arXiv 2606.02920).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.model.encoding import Encoded, EncodedSample, IntArray
from mrd_core.model.generation import Prefix, continuations, end_of
from mrd_core.model.likelihood import target_log_probs
from mrd_core.model.reader import Reader

# The n of EL_n that Jang et al. use.
NGRAM = 10


class Memorized(NamedTuple):
    """What one teacher-forced pass says of N samples; NaN where no answer token fits into the context.

    Attributes:
        accuracy: MA, share of the answer tokens that are the model's first choice, shape (N,).
        nll: Mean negative log-likelihood per answer token [nats], shape (N,).
        remembered: Share of the answer tokens that lead all others by more than the margin that was asked for,
            shape (N,); MA where that is 0.
    """

    accuracy: FloatArray
    nll: FloatArray
    remembered: FloatArray


class ExtractionCost(NamedTuple):
    """What EL costs at most; tokens that the model predicts right need no generation of their own.

    Attributes:
        prefixes: Generations. Each reads or writes every token of its sample once, so in operations it costs
            about one forward pass of the sample.
        tokens: Tokens to generate, one after the other: what the time goes into.
    """

    prefixes: int
    tokens: int


def measure_memorization(reader: Reader, encoded: Encoded, margin: float = 0.0) -> Memorized:
    """Measure memorization accuracy and NLL of N samples in one pass without gradients, dropout off.

    MA(x) = (1/T) Σ_t 1[argmax p(· | question, x_<t) = x_t] (Jang et al., over the answer).

    Args:
        reader: The model.
        encoded: The samples.
        margin: By how much a token must lead to count as remembered, see `leads` [logits].

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    if not margin:
        log_probs, hits = reader.answers(encoded, log_probs_and_hits)
        remembered = hits
    else:
        log_probs, hits, remembered = reader.answers(encoded, partial(_with_leads, margin))
    nll = -encoded.answer_means(log_probs)
    return Memorized(encoded.answer_means(hits), nll, encoded.answer_means(remembered))


def answer_log_probs(reader: Reader, encoded: Encoded) -> pd.DataFrame:
    """Return log p(x_t | x_<t) of every answer token, in one pass without gradients, dropout off.

    Returns:
        One row a token, in the order of the samples: sample_id, position (index of the token in its sample),
        piece (its text), log_prob [nats].

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    log_probs, _hits = reader.answers(encoded, log_probs_and_hits)
    inside = np.flatnonzero(encoded.answer)
    owner = encoded.owner[inside]
    position = inside - encoded.starts[owner] + 1
    return pd.DataFrame(
        {
            "sample_id": np.array(encoded.sample_ids, dtype=object)[owner],
            "position": position,
            "piece": [encoded.samples[i].pieces[at] for i, at in zip(owner, position, strict=True)],
            "log_prob": log_probs.astype(np.float64),
        }
    )


def log_probs_and_hits(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p of the targets in fp32 or finer, and whether each is the first choice, shape (M,) each.

    Args:
        logits: Shape (M, V). Overwritten at the target's place.
        targets: Token ids, shape (M,).
    """
    hits = logits.argmax(1) == targets
    return target_log_probs(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets), hits


def leads(logits: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Return whether z_y − max_{v≠y} z_v > margin of each target y, shape (M,); at 0 whether it is argmax.

    Args:
        logits: Or log-probabilities, which differ as they do; shape (M, V).
        targets: Token ids, shape (M,).
        margin: A negative one asks for what is not remembered that it be clearly beaten [logits].
    """
    if not margin:
        return logits.argmax(1) == targets
    index = targets.unsqueeze(1)
    others = logits.scatter(1, index, -torch.inf).amax(1)
    return logits.gather(1, index).squeeze(1) - others > margin


def _with_leads(margin: float, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `log_probs_and_hits` does, and which targets lead by more than the margin."""
    # First: the logits are overwritten.
    remembered = leads(logits, targets, margin)
    return *log_probs_and_hits(logits, targets), remembered


def extraction_likelihood(reader: Reader, encoded: Encoded, n: int = NGRAM) -> FloatArray:
    """Measure how much of each answer the model gives away when it is started on a part of it.

    EL_n(x) = (1/(T − n)) Σ_{t=1}^{T−n} overlap_n(f(question, x_<t), x_≥t), with f the greedy generation of as
    many tokens as are left, ended by any of the reader's `end_ids` (Jang et al.). Answers of T ≤ n tokens take
    n = T − 1.

    As long as the model's first choice is the true token, generating from x_<t is generating from x_≤t: only
    prefixes that it continues wrongly are generated from. It is exact, and nearly free on a memorised text.

    Args:
        reader: The model, and the tokens that end a generation: EOS, the end of a chat turn.
        encoded: N samples.
        n: Tokens to an n-gram.

    Returns:
        EL_n of each sample, shape (N,), from 0 to 1; NaN for answers of fewer than two tokens, where it is
        not defined.

    Raises:
        UserError: Out of memory with a single sample or generation in the batch.
    """
    _log_probs, hits = reader.answers(encoded, log_probs_and_hits)
    answers = [
        _Answer.of(sample, hits[where], n)
        for sample, where in zip(encoded.samples, encoded.answer_slices, strict=True)
    ]
    written = iter(continuations(reader, [prefix for answer in answers for prefix in answer.prefixes()]))
    ends = frozenset(reader.end_ids)
    return np.array(
        [answer.likelihood(list(islice(written, len(answer.starts))), ends) for answer in answers],
        dtype=np.float64,
    )


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
    true = Counter(_ngrams(label, n))
    return sum(ngram in true for ngram in _ngrams(generated, n)) / true.total()


def _ngrams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _order(lengths: IntArray, n: int) -> IntArray:
    """Return the n of EL_n for answers of these lengths, shape (N,): at most T − 1, and T where there is none."""
    return np.where(lengths > 1, np.minimum(n, lengths - 1), lengths)


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
        """Return the answer of a sample, of whose tokens it is known which are first choices, shape (T,)."""
        positions = np.flatnonzero(sample.answer)
        length = len(positions)
        order = int(_order(np.array([length]), n)[0])
        misses = np.where(hits, length, np.arange(length))
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
        generations = [self.label[t:leave] + tails[leave] for t, leave in enumerate(self.leaves.tolist())]
        # The token that ends a generation is one of its own.
        shares = [
            overlap(tokens[: end_of(tokens, ends) + 1], self.label[t:], self.n)
            for t, tokens in enumerate(generations)
        ]
        return sum(shares) / len(shares)
