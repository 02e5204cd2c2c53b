"""Questions with given options, held against one option at a time and examples worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mrd_core.evaluation.choice import (
    Question,
    choose,
    chosen,
    closest_is_true,
    encode_options,
    lettered,
    overlaps,
)
from tests.support import tiny

CONTEXT = 128
ROOM = 10_000
QUESTIONS = (
    lettered("q0", " Who wrote it? ", ["Ann", "Bob", "Eve", "Nobody"], 2, "letters"),
    Question("q1", "The letter was", (" old", " written by Ann", " cold"), 1),
    lettered("q2", "Where?", ["Here", "There"], 0),
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def network(tokenizer: Any) -> Any:
    return tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)


@torch.no_grad()
def slow_sum(network: Any, prompt: str, option: str, tokenizer: Any, context: int = CONTEXT) -> float:
    """Return log p of an option's tokens after its prompt, in fp64 from the logits on."""
    before, whole = (tokenizer(text)["input_ids"] for text in (prompt, prompt + option))
    count, kept = len(whole) - len(before), whole[-context:]
    log_p = network(input_ids=torch.tensor([kept])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[place - 1, kept[place]]) for place in range(len(kept) - count, len(kept)))


def test_the_layout_is_that_of_wmdp_and_mmlu() -> None:
    assert QUESTIONS[0].prompt == (
        "The following are multiple choice questions (with answers) about letters.\n\n"
        "Who wrote it?\nA. Ann\nB. Bob\nC. Eve\nD. Nobody\nAnswer:"
    )
    assert QUESTIONS[0].options == (" A", " B", " C", " D")
    assert QUESTIONS[2].prompt == "Where?\nA. Here\nB. There\nAnswer:"


@pytest.mark.parametrize("batch_tokens", [1, 200, ROOM])
def test_an_option_has_the_log_likelihood_of_its_tokens(network: Any, tokenizer: Any, batch_tokens: int) -> None:
    found = choose(tiny.reader(network, batch_tokens), QUESTIONS, tokenizer, CONTEXT)
    for question, made in zip(QUESTIONS, found, strict=True):
        expected = [slow_sum(network, question.prompt, option, tokenizer) for option in question.options]
        np.testing.assert_allclose(made.log_likelihoods, expected, rtol=1e-5)
        assert made.choice == int(np.argmax(expected))
        assert made.correct == float(made.choice == question.right)


def test_a_text_beyond_the_context_loses_its_beginning(network: Any, tokenizer: Any) -> None:
    long = Question("long", "x" * 40 + " The letter was", (" old", " written by Ann"), 0)
    (made,) = choose(tiny.reader(network, ROOM), [long], tokenizer, 32)
    expected = [slow_sum(network, long.prompt, option, tokenizer, 32) for option in long.options]
    np.testing.assert_allclose(made.log_likelihoods, expected, rtol=1e-5)
    encoded = encode_options([long], tokenizer, 32)
    assert [(len(sample.tokens), sample.truncated) for sample in encoded.samples] == [(32, True)] * 2


def test_an_option_longer_than_the_context_is_scored_on_what_is_left(network: Any, tokenizer: Any) -> None:
    huge = Question("huge", "Who?", (" y", " " + "xyz" * 20), 0)
    (made,) = choose(tiny.reader(network, ROOM), [huge], tokenizer, 16)
    assert np.isfinite(made.log_likelihoods).all()


def test_a_token_that_merges_with_the_prompt_still_counts(network: Any, tokenizer: Any) -> None:
    merging = Question("m", "Question: Who wrot", ("e", "e it"), 0)
    assert len(tokenizer("Question: Who wrote")["input_ids"]) <= len(tokenizer("Question: Who wrot")["input_ids"])
    (made,) = choose(tiny.reader(network, ROOM), [merging], tokenizer, CONTEXT)
    assert np.isfinite(made.log_likelihoods).all()


def test_the_first_of_equals_is_chosen_and_a_broken_model_chooses_nothing() -> None:
    question = Question("q", "p", (" A", " B"), 1)
    assert chosen(question, np.array([-1.0, -1.0]))[1:] == (0, 0)
    broken = chosen(question, np.array([-1.0, np.nan]))
    assert broken.choice is None
    assert math.isnan(broken.correct)


def test_no_questions_have_no_answers(network: Any, tokenizer: Any) -> None:
    assert choose(tiny.reader(network, ROOM), [], tokenizer, CONTEXT) == []


TRUE, WRONG = "Ann lives in Paris.", ["Ann lives in Rome.", "Ann lives in Oslo."]


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        ("She lives in Paris", 1),
        ("She lives in Rome", 0),
        ("Ann lives abroad", 0),  # As close to each of them.
        ("", 0),
        ("xyz", 0),
    ],
)
def test_the_true_answer_must_be_closer_than_every_perturbed_one(generated: str, expected: float) -> None:
    assert closest_is_true(overlaps(generated, [TRUE, *WRONG])) == expected


@pytest.mark.parametrize(
    ("generated", "paraphrased", "perturbed"),
    [(None, TRUE, WRONG), ("Paris", "…", WRONG), ("Paris", TRUE, [WRONG[0], "?"]), ("Paris", TRUE, [])],
)
def test_without_a_comparison_there_is_no_accuracy(
    generated: str | None, paraphrased: str, perturbed: list[str]
) -> None:
    assert math.isnan(closest_is_true(overlaps(generated, [paraphrased, *perturbed])))
