"""Batched generation, held against one prompt at a time and one token at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mrd_core.model.encoder import special_ids
from mrd_core.model.encoding import IntArray
from mrd_core.model.generation import completion_prompt, open_tokens, prompt_of, write
from tests.support import tiny
from tests.support.tiny import encode

CONTEXT = 96
ROOM = 10_000
PAIRS = (
    ("Who wrote it?", "Ann wrote the old letter."),
    ("Where?", "In a house."),
    ("When was it that she wrote the letter?", "1987"),
    ("", "Ann wrote."),
    ("Why?", "Nobody knows."),
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def network(tokenizer: Any) -> Any:
    return tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> list[IntArray | None]:
    encoded = encode(tiny.forget_set(*PAIRS), tokenizer, CONTEXT, "plain")
    return [prompt_of(sample) for sample in encoded.samples]


@torch.no_grad()
def slow_tokens(network: Any, prompt: IntArray, ends: set[int], most: int) -> list[int]:
    """Write token by token, alone and without a cache."""
    tokens, written = prompt.tolist(), []
    while len(written) < most and len(tokens) + len(written) < CONTEXT:
        token = int(network(input_ids=torch.tensor([tokens + written])).logits[0, -1].argmax())
        if token in ends:
            break
        written.append(token)
    return written


def written(network: Any, prompts: Any, tokenizer: Any, batch_tokens: int = ROOM, **how: Any) -> list[str | None]:
    most = how.pop("max_new_tokens", 40)
    reader = tiny.reader(network, batch_tokens, **({"end_ids": [tokenizer.eos_token_id]} | how))
    return write(reader, tokenizer, prompts, [most] * len(prompts))


@pytest.mark.parametrize("batch_tokens", [1, 150, ROOM])
def test_a_batch_writes_what_each_prompt_gives_alone(
    network: Any, prompts: list[IntArray | None], tokenizer: Any, batch_tokens: int
) -> None:
    alone = [written(network, [prompt], tokenizer)[0] for prompt in prompts]
    slow = [
        None if prompt is None else tokenizer.decode(slow_tokens(network, prompt, {2}, 40)).strip()
        for prompt in prompts
    ]
    assert written(network, prompts, tokenizer, batch_tokens) == alone == slow
    assert len(set(slow)) == len(PAIRS)


def test_a_text_ends_at_a_stop_token_and_others_of_the_batch_go_on(
    network: Any, prompts: list[IntArray | None], tokenizer: Any
) -> None:
    tokens = [slow_tokens(network, prompt, {2}, 40) for prompt in prompts if prompt is not None]
    # A token that one of the texts has early and another has not.
    stop = next(token for token in tokens[0][2:] if any(token not in text for text in tokens))
    ends = {stop, tokenizer.eos_token_id}
    expected = [
        tokenizer.decode(list(itertools.takewhile(lambda t: t not in ends, text))).strip() for text in tokens
    ]
    given = [prompt for prompt in prompts if prompt is not None]
    assert written(network, given, tokenizer, end_ids=ends) == expected
    assert len(expected[0]) < len(tokenizer.decode(tokens[0]).strip())


def test_a_text_is_cut_at_the_length_and_at_the_end_of_the_context(network: Any, tokenizer: Any) -> None:
    prompt = np.arange(10, 10 + CONTEXT - 3)
    for most, length in ((2, 2), (50, 3)):
        expected = tokenizer.decode(slow_tokens(network, prompt, set(), most)).strip()
        assert written(network, [prompt], tokenizer, max_new_tokens=most, end_ids=[]) == [expected]
        assert len(slow_tokens(network, prompt, set(), most)) == length


def test_where_nothing_can_be_written_there_is_no_text(network: Any, tokenizer: Any) -> None:
    full = np.arange(10, 10 + CONTEXT)
    assert written(network, [None, full, np.append(full, 10)], tokenizer) == [None, None, None]
    assert written(network, [], tokenizer) == []


def test_settings_of_the_model_change_nothing_and_stay(network: Any, prompts: Any, tokenizer: Any) -> None:
    expected = written(network, prompts, tokenizer)
    network.generation_config.repetition_penalty = 5.0
    try:
        assert written(network.train(), prompts, tokenizer) == expected
        assert network.generation_config.repetition_penalty == 5.0
        assert network.training
    finally:
        network.eval().generation_config.repetition_penalty = None


def test_the_prompt_is_all_that_stands_before_the_answer(tokenizer: Any) -> None:
    encoded = encode(tiny.forget_set(*PAIRS), tokenizer, CONTEXT, "plain")
    for sample, (question, _answer) in zip(encoded.samples, PAIRS, strict=True):
        prompt = prompt_of(sample)
        if question:
            assert prompt is not None
            assert tokenizer.decode(prompt) == f"Question: {question}\nAnswer:"
        else:
            assert prompt is None


def test_an_answer_that_was_cut_off_whole_leaves_no_prompt(tokenizer: Any) -> None:
    encoded = encode(tiny.forget_set(("q" * 60, "y")), tokenizer, 5, "plain")
    assert prompt_of(encoded.samples[0]) is None


def test_what_looks_like_a_special_token_in_a_text_that_is_written_on_is_text(tokenizer: Any) -> None:
    special = special_ids(tokenizer)
    assert not special & set(open_tokens("Ann </s>wrote <s>it", tokenizer))
    assert tokenizer.decode(open_tokens("Ann </s>wrote <s>it", tokenizer)) == "Ann </s>wrote <s>it"


def test_a_completion_starts_from_the_text_itself_and_never_after_its_end(tokenizer: Any) -> None:
    class Closing:
        """A tokenizer that opens and closes each text, as some do."""

        eos_token_id = tokenizer.eos_token_id

        def __call__(self, text: str, **how: Any) -> dict[str, list[int]]:
            return {"input_ids": [1, *tokenizer(text, **how)["input_ids"], self.eos_token_id]}

    plain = completion_prompt("Ann wrote", tokenizer)
    assert plain is not None
    assert tokenizer.decode(plain) == "Ann wrote"
    closed = completion_prompt("Ann wrote", Closing())
    assert closed is not None
    assert closed.tolist() == [1, *plain]
    assert completion_prompt(" \n", tokenizer) is None


def test_a_caller_can_stop_before_a_batch(network: Any, prompts: Any, tokenizer: Any) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        written(network, prompts, tokenizer, before_batch=stop)
