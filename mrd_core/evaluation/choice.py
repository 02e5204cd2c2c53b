"""Questions with given options: the model's likeliest one, and the one that its own answer is closest to."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrd_core.arrays import FloatArray
from mrd_core.evaluation.likelihoods import answer_likelihoods
from mrd_core.evaluation.overlap import rouge_l
from mrd_core.model.encoding import Encoded, EncodedSample, IntArray
from mrd_core.model.generation import open_tokens
from mrd_core.model.reader import Reader


@dataclass(frozen=True)
class Question:
    """A question with its options.

    Attributes:
        id: Names it in tables.
        prompt: All that stands before the option.
        options: What may follow, each with the blank before it.
        right: Index of the right option.
    """

    id: str
    prompt: str
    options: tuple[str, ...]
    right: int


class Chosen(NamedTuple):
    """What a model makes of one question.

    Attributes:
        log_likelihoods: Of each option as a whole [nats], shape (C,).
        choice: The likeliest option, the first of equals; None where a log-likelihood is NaN.
        correct: 1.0 or 0.0; NaN where there is no choice.
    """

    log_likelihoods: FloatArray
    choice: int | None
    correct: float


def lettered(id: str, question: str, choices: Sequence[str], right: int, subject: str = "") -> Question:
    """Return a question in the layout of WMDP and MMLU, as lm-evaluation-harness asks it: the options are letters.

    Args:
        id: Names it in tables.
        question: Its text.
        choices: Two to 26 texts.
        right: Index of the right one.
        subject: Named in the line before the question ("biology"); no such line without one.
    """
    letters = string.ascii_uppercase[: len(choices)]
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n" if subject else ""
    lines = [f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True)]
    prompt = head + "\n".join([question.strip(), *lines, "Answer:"])
    return Question(id, prompt, tuple(f" {letter}" for letter in letters), right)


def encode_options(questions: Sequence[Question], tokenizer: Any, context: int) -> Encoded:
    """Return one sample per option, question after question; the option's tokens are its answer, without EOS.

    Args:
        questions: Each with its options.
        tokenizer: Any tokenizer.
        context: The model's context [tokens]; a longer text loses its beginning, never its option.
    """
    samples = [
        _encode_option(question.prompt, option, tokenizer, context)
        for question in questions
        for option in question.options
    ]
    ids = [f"{question.id}/{i}" for question in questions for i in range(len(question.options))]
    return Encoded(tuple(ids), tuple(samples), "plain")


def choose(reader: Reader, questions: Sequence[Question], tokenizer: Any, context: int) -> list[Chosen]:
    """Let the model choose among the options of each question, by their log-likelihoods.

    Options of one token, as letters are, take one pass together; all others one each.

    Args:
        reader: The model.
        questions: N questions.
        tokenizer: That of the model.
        context: The model's context [tokens].

    Returns:
        N entries, in the order of the questions.

    Raises:
        UserError: Out of memory with a single option in the batch.
    """
    encoded = encode_options(questions, tokenizer, context)
    ends = np.cumsum([0, *(len(question.options) for question in questions)])
    options = [np.arange(begin, end) for begin, end in pairwise(ends)]
    alike = [where for where in options if _differ_in_last_token([encoded.samples[i] for i in where])]
    quick = np.concatenate([np.empty(0, dtype=np.int64), *alike])
    rest = np.setdiff1d(np.arange(len(encoded)), quick)
    sums = np.empty(len(encoded))
    if len(quick):
        sums[quick] = _of_last_tokens(reader, encoded, alike)
    sums[rest] = [answer.sum_log_prob for answer in answer_likelihoods(reader, encoded.subset(rest))]
    return [chosen(question, sums[where]) for question, where in zip(questions, options, strict=True)]


def chosen(question: Question, log_likelihoods: FloatArray) -> Chosen:
    """Judge the log-likelihoods [nats] of a question's options, shape (C,)."""
    if np.isnan(log_likelihoods).any():
        return Chosen(log_likelihoods, None, float("nan"))
    choice = int(log_likelihoods.argmax())
    return Chosen(log_likelihoods, choice, float(choice == question.right))


def closest_is_true(closeness: Sequence[float] | FloatArray) -> float:
    """Return 1.0 where what a model wrote is closer to the true answer than to every perturbed one, else 0.0.

    A tie is a miss: an answer that shares no word with any of them would be right otherwise.

    Args:
        closeness: Of what it wrote to the paraphrased question to the true answer in other words, and to each
            wrong one: ROUGE-L F1 or the cosine of sentence embeddings (Jia et al. 2024).

    Returns:
        NaN where nothing could be written, an answer has no word, or there is no perturbed answer.
    """
    true, *others = closeness
    if not others or np.isnan([true, *others]).any():
        return float("nan")
    return float(true > max(others))


def overlaps(generated: str | None, answers: Sequence[str]) -> list[float]:
    """Return how close what a model wrote is to each answer, by ROUGE-L F1."""
    return [rouge_l(generated, answer).f1 for answer in answers]


def _encode_option(prompt: str, option: str, tokenizer: Any, context: int) -> EncodedSample:
    """Tokenise prompt and option as one text; what the tokens of the prompt alone do not cover is the option."""
    whole = open_tokens(prompt + option, tokenizer)
    # At least one token is the option's, even where it merges with the prompt's last.
    before = min(len(open_tokens(prompt, tokenizer)), len(whole) - 1)
    kept = whole[-context:]
    inside = np.arange(len(whole)) >= before
    return EncodedSample(
        tokens=np.array(kept, dtype=np.int64),
        answer=inside[-len(kept) :][1:],
        pieces=tuple(map(str, tokenizer.convert_ids_to_tokens(kept))),
        truncated=len(whole) > context,
    )


def _differ_in_last_token(options: Sequence[EncodedSample]) -> bool:
    """Return whether options are single tokens after one and the same prompt, as letters are."""
    before = options[0].tokens[:-1]
    return all(
        option.answer.sum() == 1 and option.answer[-1] and np.array_equal(option.tokens[:-1], before)
        for option in options
    )


def _of_last_tokens(reader: Reader, encoded: Encoded, groups: Sequence[IntArray]) -> FloatArray:
    """Return the log-likelihood [nats] of options that differ in their last token, group after group.

    One pass over each prompt tells those of all its options; shape (number of options,).
    """
    last = [np.array([encoded.samples[i].tokens[-1] for i in group]) for group in groups]
    wanted = np.unique(np.concatenate(last))
    firsts = encoded.subset(np.array([group[0] for group in groups]))

    def of_wanted(logits: Tensor, _targets: Tensor) -> tuple[Tensor]:
        return (logits.log_softmax(1)[:, torch.from_numpy(wanted).to(logits.device)],)

    (log_p,) = reader.answers(firsts, of_wanted, fine_head=True)
    rows = zip(log_p, last, strict=True)
    return np.concatenate([row[np.searchsorted(wanted, tokens)] for row, tokens in rows]).astype(np.float64)
