"""A model held against one that never saw the forget set, text by text and token by token.

FADE (Cho et al. 2025) asks both models to write, and each how likely what the other wrote is. Membership looks at
the true answers instead: how much likelier each of their tokens is than under the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mrd_core.arrays import FloatArray
from mrd_core.evaluation.likelihoods import answer_likelihoods
from mrd_core.evaluation.sets import EvaluationSet
from mrd_core.evaluation.subject import Subject
from mrd_core.model.encoding import Encoded, EncodedSample, IntArray
from mrd_core.model.generation import Prefix, continuations, end_of, prompt_of

# Of the texts that are drawn: the same for every model, so that two evaluations differ in the models alone.
SEED = 0


class Texts(NamedTuple):
    """Texts that a model drew from its own distribution.

    Attributes:
        owners: Which of the prompts each belongs to, length T.
        encoded: T texts, prompt and continuation; the continuation, its end token included, is the answer.
    """

    owners: IntArray
    encoded: Encoded


class Ratios(NamedTuple):
    """log p of texts under the one model less that under the other: one value a text, shape (T,) each.

    Attributes:
        sums: Over the tokens of a text [nats].
        means: The same over their number [nats per token].
    """

    sums: FloatArray
    means: FloatArray


class Size(NamedTuple):
    """How much is drawn.

    Attributes:
        texts: For each prompt.
        tokens: Most of a text, its end token included.
        room: Most of a text and its prompt: the shorter context of the two models.
        seed: Of the draws; a text does not depend on the others.
    """

    texts: int
    tokens: int
    room: float
    seed: int = SEED


def drawn(subject: Subject, prompts: Sequence[IntArray | None], size: Size) -> Texts:
    """Draw texts from a model at temperature 1.

    Args:
        subject: The model.
        prompts: Token ids; to None, and where there is no room, nothing is drawn.
        size: How much.

    Raises:
        UserError: Out of memory with a single text in the batch.
    """
    wanted = [
        (owner, Prefix(prompt, int(min(size.tokens, size.room - len(prompt)))))
        for owner, prompt in enumerate(prompts)
        if prompt is not None and len(prompt) < size.room
        for _ in range(size.texts)
    ]
    reader = subject.reader
    texts = continuations(reader, [prefix for _, prefix in wanted], size.seed)
    samples = [
        _text(prefix.tokens, tokens[: end_of(tokens, reader.end_ids) + 1])
        for (_, prefix), tokens in zip(wanted, texts, strict=True)
    ]
    owners = np.array([owner for owner, _ in wanted], dtype=np.int64)
    return Texts(owners, Encoded(tuple(map(str, range(len(samples)))), tuple(samples), "plain"))


def ratios(first: Subject, second: Subject, texts: Encoded) -> Ratios:
    """Return log p of each text under the first model less that under the second.

    Raises:
        UserError: Out of memory with a single text in the batch.
    """
    pairs = zip(*(answer_likelihoods(subject.reader, texts) for subject in (first, second)), strict=True)
    differences = [own.log_probs - other.log_probs for own, other in pairs]
    return Ratios(np.array([each.sum() for each in differences]), np.array([_mean(each) for each in differences]))


def fade(subject: Subject, reference: Subject, encoded: Encoded, size: Size) -> pd.DataFrame:
    """Return FADE of each sample: what the one model writes and the other would not, both ways, summed.

    It estimates KL(ref‖θ) + KL(θ‖ref) over the texts, cut at `size.tokens`, that follow on the prompt.

    Args:
        subject: The model θ.
        reference: The model that never saw the forget set, of the same tokens.
        encoded: N samples; their prompts alone are read.
        size: What each of the models draws.

    Returns:
        N rows: `fade` [nats per text], `fade_per_token` [nats per token, each text over its own tokens]; NaN for a
        sample without a prompt or without room after it.

    Raises:
        UserError: Out of memory with a single text in the batch.
    """
    prompts = [prompt_of(sample) for sample in encoded.samples]
    sides = []
    for writer, other in ((reference, subject), (subject, reference)):
        texts = drawn(writer, prompts, size)
        sides.append(_by_owner(ratios(writer, other, texts.encoded), texts.owners, len(encoded)))
    return sides[0] + sides[1]


def membership(subject: Subject, reference: Subject, asked: EvaluationSet, encoded: Encoded) -> pd.DataFrame:
    """Return log p_θ and log p_ref of every answer token of a set.

    Args:
        subject: The model θ.
        reference: The model that never saw the forget set, of the same tokens.
        asked: N samples.
        encoded: The same as tokens.

    Returns:
        A row per token, in the order of the samples, see `mrd_core.evaluation.files.REFERENCE_TOKENS`.

    Raises:
        UserError: Out of memory with a single sample in the batch.
    """
    own, other = (
        np.concatenate([np.empty(0), *(each.log_probs for each in answer_likelihoods(one.reader, encoded))])
        for one in (subject, reference)
    )
    counts = [int(sample.answer.sum()) for sample in encoded.samples]
    pieces = [
        piece
        for sample in encoded.samples
        for piece, inside in zip(sample.pieces[1:], sample.answer, strict=True)
        if inside
    ]
    return pd.DataFrame(
        {
            "sample_id": np.repeat(asked.frame["sample_id"].to_numpy(object), counts),
            "place": np.concatenate([np.empty(0, dtype=np.int64), *map(np.arange, counts)]),
            "piece": pieces,
            "log_prob": own,
            "log_prob_reference": other,
        }
    )


def same_tokens(first: Encoded, second: Encoded) -> bool:
    """Tell whether two models read texts as the same tokens, and take the same of them for the answer."""
    return all(
        np.array_equal(own.tokens, other.tokens) and np.array_equal(own.answer, other.answer)
        for own, other in zip(first.samples, second.samples, strict=True)
    )


def _text(prompt: IntArray, written: Sequence[int]) -> EncodedSample:
    tokens = np.concatenate([prompt, np.array(written, dtype=np.int64)])
    answer = np.arange(len(tokens) - 1) >= len(prompt) - 1
    return EncodedSample(tokens, answer, tuple(map(str, tokens)), truncated=False)


def _by_owner(values: Ratios, owners: IntArray, count: int) -> pd.DataFrame:
    """Return the mean over each prompt's texts, `count` rows; NaN for a prompt without a text."""
    frame = pd.DataFrame({"fade": values.sums, "fade_per_token": values.means}, dtype=np.float64)
    return frame.groupby(owners).mean().reindex(range(count))


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else float("nan")
