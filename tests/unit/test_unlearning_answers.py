"""What a model says of the forget set, held against one sample at a time and one token at a time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from mrd_core.model.encoding import Encoded
from mrd_core.model.generation import chosen_for_answers, end_tokens, own_answers
from mrd_core.model.memorization import answer_log_probs
from tests.support import tiny
from tests.support.tiny import encode

# peft calls what transformers will rename.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

PAIRS = (
    ("Who wrote it?", "Ann wrote the old letter."),
    ("Where?", "In a house by the sea, said Bob."),
    ("When?", "1987"),
    ("", "Ann wrote."),
)
CONTEXT = 128
ROOM = 10_000


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    found = tiny.tokenizer()
    found.chat_template = tiny.CHAT_TEMPLATE
    return found


@pytest.fixture(scope="module", params=["plain", "chat"])
def samples(request: pytest.FixtureRequest, tokenizer: Any) -> Encoded:
    return encode(tiny.forget_set(*PAIRS), tokenizer, CONTEXT, request.param)


@pytest.fixture(scope="module")
def memorising(samples: Encoded, tokenizer: Any) -> Any:
    """A model that knows the samples by heart."""

    def trained() -> Any:
        network = tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, hidden_size=32)
        network.train().requires_grad_(True)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        for _ in range(60):
            for sample in samples.samples:
                ids = torch.from_numpy(sample.tokens)[None]
                network(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return network.eval().requires_grad_(False)

    return tiny.seeded(trained)


@pytest.fixture(scope="module")
def network(tokenizer: Any) -> Any:
    """A random model, which answers at length."""
    return tiny.llama(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)


def answers(network: Any, texts: Encoded, tokenizer: Any, batch_tokens: int = ROOM, **how: Any) -> list[str]:
    reader = tiny.reader(network, batch_tokens, **({"end_ids": end_tokens(tokenizer, network)} | how))
    return own_answers(reader, tokenizer, texts.samples)


@torch.no_grad()
def slow_answer(network: Any, samples: Encoded, index: int, tokenizer: Any, most: int) -> str:
    """Write one answer token by token, without a cache."""
    sample = samples.samples[index]
    tokens = sample.tokens[: int(sample.answer.argmax()) + 1].tolist()
    written: list[int] = []
    while len(written) < most and len(tokens) + len(written) < CONTEXT:
        token = int(network(input_ids=torch.tensor([tokens + written])).logits[0, -1].argmax())
        if token in end_tokens(tokenizer, network):
            break
        written.append(token)
    return tokenizer.decode(written, skip_special_tokens=True).strip()


def adapted(network: Any) -> Any:
    """Return a copy in peft's wrapper, with an adapter that changes its answers."""

    def build() -> Any:
        wrapped = get_peft_model(
            copy.deepcopy(network), LoraConfig(r=2, target_modules=["q_proj", "v_proj", "lm_head"])
        )
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data += 0.5 * torch.randn_like(parameter)
        return wrapped

    return tiny.seeded(build)


def test_a_model_that_knows_its_answers_gives_them(memorising: Any, samples: Encoded, tokenizer: Any) -> None:
    expected = [answer if prompt else "" for prompt, answer in PAIRS]
    assert answers(memorising, samples, tokenizer) == expected


@pytest.mark.parametrize("batch_tokens", [1, 200, ROOM])
def test_answers_are_those_of_a_loop_whatever_the_batch(
    network: Any, samples: Encoded, tokenizer: Any, batch_tokens: int
) -> None:
    budgets = [max(int(sample.answer.sum()) + 32, 64) for sample in samples.samples]
    expected = [slow_answer(network, samples, i, tokenizer, budgets[i]) for i in range(3)]
    assert answers(network, samples, tokenizer, batch_tokens) == [*expected, ""]
    assert len(set(expected)) == 3


def test_answers_follow_the_samples_that_are_asked_for(memorising: Any, samples: Encoded, tokenizer: Any) -> None:
    asked = answers(memorising, samples.subset(np.array([2, 3, 0])), tokenizer)
    assert asked == [PAIRS[2][1], "", PAIRS[0][1]]
    assert answers(memorising, samples.subset(np.array([], dtype=np.int64)), tokenizer) == []


def test_an_answer_has_room_beyond_the_true_one_and_stays_within_the_context(network: Any, tokenizer: Any) -> None:
    long = encode(tiny.forget_set(("?", "x" * 60), ("q" * 90, "y")), tokenizer, CONTEXT, "plain")
    true = [int(sample.answer.sum()) for sample in long.samples]
    room = CONTEXT - int(long.samples[1].answer.argmax()) - 1
    assert true[0] + 32 > 64 > room
    lengths = [true[0] + 32, room]
    written = answers(network, long, tokenizer, end_ids=[tokenizer.eos_token_id])
    assert written == [slow_answer(network, long, i, tokenizer, lengths[i]) for i in range(2)]


def test_an_answer_beyond_the_context_has_no_answer_of_its_own(network: Any, tokenizer: Any) -> None:
    cut = encode(tiny.forget_set(("q" * 60, "y"), PAIRS[0]), tokenizer, 5, "plain")
    assert not cut.samples[0].answer.any()
    assert answers(network, cut, tokenizer)[0] == ""


def test_adapters_answer_too_and_the_mode_comes_back(network: Any, samples: Encoded, tokenizer: Any) -> None:
    wrapped = adapted(network).train()
    merged = copy.deepcopy(wrapped).merge_and_unload().eval()
    written = answers(wrapped, samples, tokenizer)
    assert written == answers(merged, samples, tokenizer)
    assert written != answers(network, samples, tokenizer)
    assert wrapped.training


@pytest.mark.parametrize("batch_tokens", [1, 60, ROOM])
def test_log_probs_are_those_of_the_scorer(network: Any, samples: Encoded, batch_tokens: int) -> None:
    found = answer_log_probs(tiny.reader(network, batch_tokens), samples)
    expected = tiny.log_probs(network, samples)[samples.answer]
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-5)


def test_each_answer_token_has_its_place_and_its_text(network: Any, samples: Encoded) -> None:
    found = answer_log_probs(tiny.reader(network), samples)
    assert list(found) == ["sample_id", "position", "piece", "log_prob"]
    # The first token of a text without prompt is predicted from nothing, so it has no log p.
    for index, sample in enumerate(samples.samples[:3]):
        rows = found[found["sample_id"] == samples.sample_ids[index]]
        assert rows["position"].tolist() == (np.flatnonzero(sample.answer) + 1).tolist()
        assert PAIRS[index][1] in "".join(rows["piece"])
        assert rows["piece"].tolist() == [sample.pieces[at] for at in rows["position"]]


def test_log_probs_of_an_adapter_are_those_of_the_merged_model(network: Any, samples: Encoded) -> None:
    wrapped = adapted(network)
    merged = copy.deepcopy(wrapped).merge_and_unload()
    found = answer_log_probs(tiny.reader(wrapped), samples)["log_prob"]
    np.testing.assert_allclose(found, tiny.log_probs(merged, samples)[samples.answer], rtol=1e-4)
    assert not np.allclose(found, tiny.log_probs(network, samples)[samples.answer], rtol=0.05)


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        # Ranks: 4 (0.1), 2 (0.2), 0 (0.3), 5 (0.4), 1 (0.5), 3 (NaN).
        (0, []),
        (1, [4]),
        (2, [3, 4]),
        (3, [0, 3, 4]),
        (6, [0, 1, 2, 3, 4, 5]),
        (9, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_answers_are_written_of_all_degrees_of_difficulty(most: int, expected: list[int]) -> None:
    scores = np.array([0.3, 0.5, 0.2, np.nan, 0.1, 0.4])
    assert chosen_for_answers(scores, most).tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_as_many_answers_are_chosen_as_asked_for_and_none_twice(count: int) -> None:
    for most in range(1, count + 1):
        chosen = chosen_for_answers(np.arange(count, dtype=np.float64), most)
        assert len(set(chosen.tolist())) == most
        assert np.ptp(np.diff(chosen)) <= 1 if most > 2 else True


def test_ends_are_eos_those_of_the_settings_and_the_end_of_a_turn(tokenizer: Any) -> None:
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in ("</s>", "<|end|>", "<pad>", "<|user|>")}
    network = tiny.llama(vocab_size=len(tokenizer))
    assert end_tokens(tiny.tokenizer(), network) == [ids["</s>"]]
    assert end_tokens(tokenizer, network) == sorted([ids["</s>"], ids["<|end|>"]])
    network.generation_config.eos_token_id = [ids["<|user|>"], ids["<pad>"]]
    assert end_tokens(tiny.tokenizer(), network) == sorted([ids["</s>"], ids["<|user|>"], ids["<pad>"]])
    assert end_tokens(tiny.tokenizer(), adapted(network)) == end_tokens(tiny.tokenizer(), network)


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no') }}", "{% for m in messages %}{{ m.content }}. {% endfor %}", "hello"]
)
def test_a_template_that_closes_no_turn_adds_no_end(template: str) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    assert end_tokens(tokenizer, tiny.llama(vocab_size=len(tokenizer))) == [tokenizer.eos_token_id]
