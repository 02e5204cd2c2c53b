"""Samples as tokens: scope mask, flat axis, length buckets. `mrd_core.model.encoder` makes them.

A sample of L tokens has L − 1 *scored positions*: every token after the first, each predicted from the ones
before it. The scored positions of all samples, one sample after the other, form the *flat* axis (length T)
that log-probabilities, relative changes and token views share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError
from mrd_core.samples.config import Scope

IntArray = npt.NDArray[np.int64]

Scalar = TypeVar("Scalar", np.int64, np.bool_)


@dataclass(frozen=True)
class EncodedSample:
    """One sample as tokens.

    Attributes:
        tokens: Token ids, shape (L,).
        answer: True where the predicted token belongs to the answer or is its EOS, shape (L − 1,).
        pieces: The text of each token, length L.
        truncated: Whether the end was cut off, beyond the model's context.
        cut_prompt: Tokens at the beginning of the prompt that were cut off, so that the answer fits.
        is_literal: Whether the text holds what looks like special tokens and was read as text.
        lost_ends: Whether a BOS or EOS token that the data brought themselves was left out.
    """

    tokens: IntArray
    answer: BoolArray
    pieces: tuple[str, ...]
    truncated: bool
    cut_prompt: int = 0
    is_literal: bool = False
    lost_ends: bool = False


@dataclass(frozen=True)
class Encoded:
    """The forget set as tokens, with the flat axis of scored positions."""

    sample_ids: tuple[str, ...]
    samples: tuple[EncodedSample, ...]
    template: str

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def lengths(self) -> IntArray:
        """Tokens per sample, shape (N,)."""
        return np.array([len(sample.tokens) for sample in self.samples], dtype=np.int64)

    @cached_property
    def starts(self) -> IntArray:
        """Where each sample begins on the flat axis, shape (N + 1,); the last entry is T."""
        return np.concatenate([[0], np.cumsum(self.lengths - 1)]).astype(np.int64)

    @cached_property
    def owner(self) -> IntArray:
        """Index of the sample that each flat position belongs to, shape (T,)."""
        return np.repeat(np.arange(len(self)), self.lengths - 1)

    @cached_property
    def answer(self) -> BoolArray:
        """Answer scope on the flat axis, shape (T,)."""
        return np.concatenate([np.empty(0, dtype=np.bool_), *(sample.answer for sample in self.samples)])

    @cached_property
    def answer_slices(self) -> list[slice]:
        """Where each sample's answer tokens stand among those of all samples, N slices."""
        ends = np.cumsum([0, *(sample.answer.sum() for sample in self.samples)])
        return [slice(begin, end) for begin, end in pairwise(ends)]

    def answer_means(self, values: npt.NDArray[Any]) -> FloatArray:
        """Return the mean over each sample's answer of values of all answer tokens; (M,) → (N,), NaN for none."""
        owner = self.owner[self.answer]
        tokens = np.bincount(owner, minlength=len(self))
        sums = np.bincount(owner, weights=values, minlength=len(self))
        mean: FloatArray = np.divide(sums, tokens, out=np.full(len(self), np.nan), where=tokens > 0)
        return mean

    def in_scope(self, scope: Scope) -> BoolArray:
        """Return which flat positions `scope` covers, shape (T,)."""
        answer = self.answer
        return answer if scope is Scope.ANSWER else np.ones_like(answer)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of any figure of these samples should know, in sentences."""
        counts = {
            "had the beginning of the prompt cut off, so that the answer fits into the model's context": sum(
                sample.cut_prompt > 0 for sample in self.samples
            ),
            "hold what looks like special tokens of the model, which is read as text": sum(
                sample.is_literal for sample in self.samples
            ),
            "bring a BOS or EOS token of their own, which is left out": sum(
                sample.lost_ends for sample in self.samples
            ),
        }
        return tuple(f"{count} of {len(self)} samples {what}." for what, count in counts.items() if count)

    def subset(self, indices: IntArray) -> Encoded:
        """Return the samples at `indices`, in that order."""
        return Encoded(
            tuple(self.sample_ids[i] for i in indices), tuple(self.samples[i] for i in indices), self.template
        )

    def flat_positions(self, indices: IntArray) -> IntArray:
        """Return the flat positions of the samples at `indices`, in that order."""
        return np.concatenate([np.arange(self.starts[i], self.starts[i + 1]) for i in indices])


def answerable(encoded: Encoded, name: str, warnings: list[str]) -> Encoded:
    """Return the samples that have an answer token within the context; say how many have none."""
    kept = np.array([i for i, sample in enumerate(encoded.samples) if sample.answer.any()], dtype=np.int64)
    if not len(kept):
        raise UserError(
            f"The {name} set",
            "has no answer token within the context of the model.",
            "Use shorter samples or a model with a longer context, or check the column mapping.",
        )
    if len(kept) < len(encoded):
        warnings.append(
            f"{len(encoded) - len(kept)} of {len(encoded)} samples of the {name} set left out: the context of the "
            "model ends before their answers."
        )
    return encoded.subset(kept)


def length_buckets(lengths: IntArray, batch_tokens: int, switch: float = np.inf) -> list[IntArray]:
    """Split samples into batches of similar length, longest first.

    Longest first, so that a batch that does not fit into memory is met at once and not at the end.

    Args:
        lengths: Tokens per sample, shape (N,).
        batch_tokens: Most padded tokens in a batch; a sample longer than that is a batch of its own.
        switch: Samples longer than this share no batch with others, see `rope_switch`.

    Returns:
        Index arrays that together hold each of 0..N−1 once.
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    for side in (order[lengths[order] > switch], order[lengths[order] <= switch]):
        begin = 0
        while begin < len(side):
            size = max(1, batch_tokens // int(lengths[side[begin]]))
            batches.append(side[begin : begin + size])
            begin += size
    return batches


def padded(
    sequences: Sequence[npt.NDArray[Scalar]], *, filling: int = 0, left: bool = False
) -> npt.NDArray[Scalar]:
    """Return B sequences as one rectangle, shape (B, L), filled up behind them or on the `left` before them."""
    width = max(map(len, sequences))
    rectangle = np.full((len(sequences), width), filling, dtype=sequences[0].dtype)
    for row, sequence in zip(rectangle, sequences, strict=True):
        row[width - len(sequence) if left else 0 :][: len(sequence)] = sequence
    return rectangle


def padding_mask(sequences: Sequence[npt.NDArray[Any]], *, left: bool = False) -> BoolArray:
    """Return where the rectangle of `padded` holds the sequences and not its filling, shape (B, L)."""
    return padded([np.ones(len(sequence), dtype=np.bool_) for sequence in sequences], left=left)
