"""FADE held against every text of a tiny vocabulary, and drawn texts against the model's own probabilities."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mrd_core.evaluation.fade import Size, drawn, fade, ratios, same_tokens
from mrd_core.evaluation.subject import Subject
from mrd_core.model.encoding import Encoded, EncodedSample, IntArray
from mrd_core.model.generation import Prefix, Way, continuations
from tests.support import tiny

WORDS, END, LONGEST, ROOM = 6, 2, 3, 64
PROMPTS = ([3, 4], [5, 5, 1])


def network(seed: int) -> Any:
    return tiny.llama(seed, vocab_size=WORDS, initializer_range=0.6)


def subject(model: Any, batch_tokens: int = 512) -> Subject:
    """Return a network as it is asked."""
    loaded: Any = SimpleNamespace(
        network=model,
        context=ROOM,
        reader=lambda most, before: tiny.reader(model, most, before_batch=before, end_ids=[END]),
    )
    unused: Any = None
    return Subject(loaded, unused, batch_tokens, LONGEST, 40.0)


def asked(*prompts: list[int]) -> Encoded:
    """Return questions as tokens, each with an answer of one token."""
    samples = [
        EncodedSample(np.array([*prompt, 3]), np.arange(len(prompt)) >= len(prompt) - 1, (), truncated=False)
        for prompt in prompts
    ]
    return Encoded(tuple(map(str, range(len(samples)))), tuple(samples), "plain")


def texts() -> list[tuple[int, ...]]:
    """Return every text of at most `LONGEST` tokens: it ends with the end token, or is cut."""
    return [
        tokens
        for length in range(1, LONGEST + 1)
        for tokens in itertools.product(range(WORDS), repeat=length)
        if END not in tokens[:-1] and (tokens[-1] == END or length == LONGEST)
    ]


def written(model: Any, prefixes: list[Prefix], batch_tokens: int, seed: int) -> list[list[int]]:
    """Return what is drawn after each prefix, up to its end token."""
    drawn = continuations(tiny.reader(model, batch_tokens, end_ids=[END]), prefixes, seed)
    return [text[: text.index(END) + 1] if END in text else text for text in drawn]


@torch.no_grad()
def log_prob(model: Any, prompt: list[int], text: tuple[int, ...]) -> float:
    """Return log p of a text after a prompt, from one plain pass in fp64 of its logits."""
    logits = model(input_ids=torch.tensor([[*prompt, *text]])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(text))


@pytest.mark.parametrize("column", ["fade", "fade_per_token"])
def test_fade_is_what_all_texts_say(column: str) -> None:
    model, other = network(1), network(2)
    found = fade(subject(model), subject(other), asked(*PROMPTS), Size(3000, LONGEST, ROOM))[column]
    for prompt, value in zip(PROMPTS, found, strict=True):
        own = np.array([log_prob(model, prompt, text) for text in texts()])
        theirs = np.array([log_prob(other, prompt, text) for text in texts()])
        assert np.exp(own).sum() == pytest.approx(1, abs=1e-5)
        size = np.array([len(text) for text in texts()]) if column == "fade_per_token" else 1
        gaps = (theirs - own) / size
        exact = float((np.exp(theirs) * gaps).sum() - (np.exp(own) * gaps).sum())
        variance = sum(np.exp(p) @ gaps**2 - (np.exp(p) @ gaps) ** 2 for p in (own, theirs)) / 3000
        assert exact > 0.2
        assert abs(value - exact) < 4 * np.sqrt(variance)


def test_the_ratio_of_a_text_is_that_of_its_continuation() -> None:
    model, other = network(1), network(2)
    texts_drawn = drawn(subject(model), [np.array(PROMPTS[0]), None], Size(20, LONGEST, ROOM))
    assert set(texts_drawn.owners) == {0}
    found = ratios(subject(model), subject(other), texts_drawn.encoded)
    for sample, total, mean in zip(texts_drawn.encoded.samples, *found, strict=True):
        text = tuple(map(int, sample.tokens[2:]))
        assert text in texts()
        expected = log_prob(model, PROMPTS[0], text) - log_prob(other, PROMPTS[0], text)
        assert total == pytest.approx(expected, abs=1e-4)
        assert mean == pytest.approx(expected / len(text), abs=1e-4)


def test_texts_do_not_depend_on_what_is_written_beside_them() -> None:
    model, prefixes = network(1), [Prefix(np.array(prompt), 8) for prompt in (*PROMPTS, [1]) for _ in range(5)]
    together = written(model, prefixes, 10_000, seed=7)
    assert together == written(model, prefixes, 1, seed=7)
    assert together != written(model, prefixes, 10_000, seed=8)
    assert len({tuple(text) for text in together[:5]}) > 1


def test_a_model_that_writes_plainly_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes = [Prefix(np.array(prompt), 6) for prompt in PROMPTS]
    usual = written(network(1), prefixes, 10_000, seed=3)
    monkeypatch.setattr("mrd_core.model.generation.way_of", lambda *_: Way.PLAINLY)
    assert written(network(1), prefixes, 10_000, seed=3) == usual


def test_where_nothing_can_be_written_there_is_no_fade() -> None:
    model, other = network(1), network(2)
    long: list[int] = [3] * 10
    found = fade(subject(model), subject(other), asked(PROMPTS[0], long), Size(2, LONGEST, 8))
    assert np.isfinite(found.loc[0]).all()
    assert found.loc[1].isna().all()


def test_tokens_are_the_same_where_text_and_answer_are() -> None:
    def one(tokens: IntArray, begin: int) -> Encoded:
        sample = EncodedSample(tokens, np.arange(len(tokens) - 1) >= begin, (), truncated=False)
        return Encoded(("a",), (sample,), "plain")

    tokens = np.array([1, 2, 3, 4])
    assert same_tokens(one(tokens, 1), one(tokens.copy(), 1))
    assert not same_tokens(one(tokens, 1), one(tokens, 2))
    assert not same_tokens(one(tokens, 1), one(np.array([1, 2, 3, 5]), 1))
