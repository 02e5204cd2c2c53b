"""Samples become tokens: template, scope mask, truncation, length buckets.

A sample of L tokens has L − 1 *scored positions*: every token after the first, each predicted from the ones
before it. The scored positions of all samples, one sample after the other, form the *flat* axis (length T)
that log-probabilities, relative changes and token views share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError
from mrd_core.samples.config import Scope
from mrd_core.settings.configuration import Choice

if TYPE_CHECKING:
    from mrd_core.samples import ForgetSet

PLAIN_TEMPLATE = "Question: {prompt}\nAnswer: {answer}"

IntArray = npt.NDArray[np.int64]

Scalar = TypeVar("Scalar", np.int64, np.bool_)


@dataclass(frozen=True)
class EncodedSample:
    """One sample as tokens.

    Attributes:
        tokens: Token ids, shape (L,).
        answer: True where the predicted token belongs to the answer or is its EOS, shape (L − 1,).
        pieces: The text of each token, length L.
        truncated: Whether tokens beyond the model's context were cut off.
    """

    tokens: IntArray
    answer: BoolArray
    pieces: tuple[str, ...]
    truncated: bool


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

    def subset(self, indices: IntArray) -> Encoded:
        """Return the samples at `indices`, in that order."""
        return Encoded(
            tuple(self.sample_ids[i] for i in indices), tuple(self.samples[i] for i in indices), self.template
        )

    def flat_positions(self, indices: IntArray) -> IntArray:
        """Return the flat positions of the samples at `indices`, in that order."""
        return np.concatenate([np.arange(self.starts[i], self.starts[i + 1]) for i in indices])


def choose_template(tokenizer: Any, wanted: str) -> Choice:
    """Return `chat` or `plain` and the reason, from the wish and what the tokenizer brings.

    Raises:
        UserError: A chat template is wanted and the tokenizer has none.
    """
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    if wanted == "chat" and not has_chat:
        raise UserError(
            "The template 'chat'",
            "cannot be used: this model's tokenizer has no chat template.",
            "Choose the template 'plain' or 'auto'.",
        )
    if wanted != "auto":
        return Choice(wanted, "as asked")
    if has_chat:
        return Choice("chat", "the tokenizer brings a chat template")
    return Choice("plain", "the tokenizer has no chat template")


def encode(forget_set: ForgetSet, tokenizer: Any, context: int, template: str) -> Encoded:
    """Turn every sample into tokens, pieces and an answer mask.

    Args:
        forget_set: N validated samples.
        tokenizer: A fast tokenizer with an EOS token.
        context: The model's context [tokens]; longer samples are cut on the right and flagged.
        template: `chat` or `plain`, see `choose_template`.

    Raises:
        UserError: The tokenizer has no EOS token or cannot tell where a token stands in the text.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            "The model's tokenizer",
            "has no end-of-sequence token, so the end of an answer cannot be scored.",
            "Set eos_token in tokenizer_config.json to the token the model was trained to stop with.",
        )
    if not tokenizer.is_fast:
        raise UserError(
            "The model's tokenizer",
            "does not report where its tokens stand in the text, so answer tokens cannot be told apart.",
            "Convert it to a tokenizer.json (transformers: save_pretrained of the fast tokenizer).",
        )
    frame = forget_set.frame
    samples = [
        encode_one(prompt, answer, tokenizer, context, template)
        for prompt, answer in zip(frame["prompt"], frame["answer"], strict=True)
    ]
    return Encoded(tuple(frame["sample_id"]), tuple(samples), template)


def encode_one(prompt: str, answer: str, tokenizer: Any, context: int, template: str) -> EncodedSample:
    """Turn one prompt and answer into tokens; arguments as in `encode`."""
    if template == "chat" and prompt:
        text, begin, end = _chat_text(prompt, answer, tokenizer)
        tokens, spans = _tokenise(tokenizer, text, special=False)
        inside = [stop > begin and start < end for start, stop in spans]
        # The special token that closes the answer belongs to it.
        after = next((i for i, (start, _) in enumerate(spans) if start >= end), None)
        if after is not None and tokens[after] in special_ids(tokenizer):
            inside[after] = True
    else:
        text = PLAIN_TEMPLATE.format(prompt=prompt, answer=answer) if prompt else answer
        tokens, spans = _tokenise(tokenizer, text, special=True)
        # The blank before the answer belongs to its first token; BOS has an empty span at 0.
        begin = max(len(text) - len(answer) - 1, 0)
        inside = [stop > begin for _, stop in spans]
        # A sample ends with exactly one EOS, which belongs to the answer.
        if tokens and tokens[-1] == tokenizer.eos_token_id:
            tokens, spans, inside = tokens[:-1], spans[:-1], inside[:-1]
        tokens, spans = [*tokens, tokenizer.eos_token_id], [*spans, (len(text), len(text))]
        inside = [*inside, True]
    return EncodedSample(
        tokens=np.array(tokens[:context], dtype=np.int64),
        answer=np.array(inside[1:context], dtype=np.bool_),
        pieces=_pieces(text, tokens[:context], spans, tokenizer),
        truncated=len(tokens) > context,
    )


def _chat_text(prompt: str, answer: str, tokenizer: Any) -> tuple[str, int, int]:
    """Return the rendered conversation and the character span of the answer in it."""
    user = {"role": "user", "content": prompt}
    turn = {"role": "assistant", "content": answer}
    try:
        text: str = tokenizer.apply_chat_template([user, turn], tokenize=False)
        head: str = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise UserError(
            "The model's chat template", f"cannot be rendered: {error}.", "Choose the template 'plain'."
        ) from error
    # A closing tag may hold the answer's letters ("end" in <|im_end|>), so the look-up starts at the turn.
    turn_begins = len(head) if text.startswith(head) else text.rfind(answer.strip())
    # Templates may trim what they are given.
    for wanted in (answer, answer.strip()):
        at = text.find(wanted, turn_begins) if turn_begins >= 0 else -1
        if at >= 0:
            return text, at, at + len(wanted)
    raise UserError(
        "The model's chat template",
        "does not reproduce the answer in the text it renders, so answer tokens cannot be told apart.",
        "Choose the template 'plain'.",
    )


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


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of all special tokens; turn ends such as <|end|> are often no named ones."""
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _tokenise(tokenizer: Any, text: str, *, special: bool) -> tuple[list[int], list[tuple[int, int]]]:
    encoding = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, truncation=False)
    return list(encoding["input_ids"]), [(int(a), int(b)) for a, b in encoding["offset_mapping"]]


def _pieces(text: str, tokens: list[int], spans: list[tuple[int, int]], tokenizer: Any) -> tuple[str, ...]:
    """Return the text of each token, spaces included, so that the pieces join to the sample.

    Several tokens may share one character (bytes of an emoji): the first carries it, the others are empty.
    """
    pieces, done = [], 0
    for token, (start, stop) in zip(tokens, spans, strict=False):
        if start == stop:
            pieces.append(str(tokenizer.convert_ids_to_tokens(token)))
            continue
        pieces.append(text[done : max(stop, done)])
        done = max(stop, done)
    return tuple(pieces)


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
