"""Memorization accuracy and extraction likelihood, held against slow loops over one prefix at a time."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from mrd_core.errors import UserError
from mrd_core.model.encoding import Encoded, EncodedSample
from mrd_core.model.memorization import (
    Memorized,
    extraction_cost,
    extraction_likelihood,
    measure_memorization,
    overlap,
)
from tests.support import tiny

EOS = 2
LENGTHS = (17, 5, 24, 4, 9, 30, 6, 12)
ROOM = 10_000


def closed(samples: Encoded) -> Encoded:
    """Return the samples with EOS as their last token."""

    def close(sample: EncodedSample) -> EncodedSample:
        return replace(sample, tokens=np.append(sample.tokens[:-1], EOS))

    return replace(samples, samples=tuple(close(sample) for sample in samples.samples))


SAMPLES = closed(tiny.encoded(*LENGTHS))


def trained(network: Any, samples: Encoded, steps: int) -> Any:
    """Train a model on whole samples, each its own text."""
    network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    width = max(samples.lengths)
    ids = torch.full((len(samples), int(width)), -100)
    for row, sample in enumerate(samples.samples):
        ids[row, : len(sample.tokens)] = torch.from_numpy(sample.tokens)
    for _ in range(steps):
        loss = network(input_ids=ids.clamp(min=0), labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def memorising() -> Any:
    """A model that knows SAMPLES by heart."""
    return tiny.seeded(lambda: trained(tiny.llama(), SAMPLES, 150))


@pytest.fixture(scope="module")
def forgetful(memorising: Any) -> Any:
    """The same model with noise in its weights, so that it knows the samples in parts."""

    def disturbed() -> Any:
        network = copy.deepcopy(memorising)
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        return network

    return tiny.seeded(disturbed)


def measure(network: Any, texts: Encoded = SAMPLES, batch_tokens: int = ROOM) -> Memorized:
    return measure_memorization(tiny.reader(network, batch_tokens), texts)


def extract(
    network: Any,
    texts: Encoded = SAMPLES,
    batch_tokens: int = ROOM,
    n: int = 3,
    end_ids: Collection[int] = (EOS,),
) -> np.ndarray:
    return extraction_likelihood(tiny.reader(network, batch_tokens, end_ids=end_ids), texts, n)


@torch.no_grad()
def next_log_probs(network: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Return log p of what follows `tokens`, shape (V,)."""
    return network(input_ids=torch.tensor([list(tokens)])).logits[0, -1].double().log_softmax(0)


def slow_memorization(network: Any, samples: Encoded) -> Memorized:
    """Measure MA and NLL with one forward pass per answer token."""
    found = []
    for sample in samples.samples:
        tokens = sample.tokens.tolist()
        places = [i + 1 for i in range(len(tokens) - 1) if sample.answer[i]]
        rows = [next_log_probs(network, tokens[:place]) for place in places]
        hits = [int(row.argmax()) == tokens[place] for row, place in zip(rows, places, strict=True)]
        nll = [-float(row[tokens[place]]) for row, place in zip(rows, places, strict=True)]
        # Without a margin MA is what counts as remembered.
        share = sum(hits) / len(hits)
        found.append((share, sum(nll) / len(nll), share))
    return Memorized(*np.array(found).T)


def slow_generation(network: Any, tokens: list[int], most: int, end_ids: Collection[int]) -> list[int]:
    """Write on greedily, token by token, without a cache."""
    written: list[int] = []
    while len(written) < most and not (written and written[-1] in end_ids):
        written.append(int(next_log_probs(network, tokens + written).argmax()))
    return written


def slow_overlap(generated: Sequence[int], label: Sequence[int], n: int) -> float:
    """Compare every window with every window."""
    found = [list(generated[i : i + n]) for i in range(len(generated)) if i + n <= len(generated)]
    true = [list(label[i : i + n]) for i in range(len(label)) if i + n <= len(label)]
    return sum(any(a == b for b in true) for a in found) / len(true)


def slow_extraction(network: Any, samples: Encoded, n: int, end_ids: Collection[int]) -> np.ndarray:
    """Measure EL_n with one generation per prefix."""
    found = []
    for sample in samples.samples:
        places = np.flatnonzero(sample.answer) + 1
        length, tokens = len(places), sample.tokens.tolist()
        order = min(n, length - 1)
        shares = [
            slow_overlap(
                slow_generation(network, tokens[:place], length - t, end_ids),
                tokens[place : places[-1] + 1],
                order,
            )
            for t, place in enumerate(places[: length - order])
        ]
        found.append(sum(shares) / len(shares) if order else np.nan)
    return np.array(found)


@pytest.mark.parametrize(
    ("generated", "label", "n", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 2, 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], 2, 0.0),
        # (1, 2) and (2, 3) of (1, 2), (2, 3), (3, 9) come back in a label of three bigrams.
        ([1, 2, 3, 9], [0, 1, 2, 3], 2, 2 / 3),
        # (1, 1) is generated twice and counts twice.
        ([1, 1, 1, 5], [1, 1, 2, 3], 2, 2 / 3),
        # Repeats in the label stand in the denominator.
        ([1, 2], [1, 2, 1, 2], 2, 1 / 3),
        ([7], [7, 8, 9], 2, 0.0),
        ([], [7, 8, 9], 1, 0.0),
        ([9, 7], [7, 8, 9], 1, 2 / 3),
    ],
)
def test_overlap_of_hand_worked_examples(generated: list[int], label: list[int], n: int, expected: float) -> None:
    assert overlap(generated, label, n) == pytest.approx(expected)


def test_overlap_is_that_of_a_comparison_of_all_windows() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        n = int(generator.integers(1, 4))
        label = generator.integers(0, 3, generator.integers(n, 9)).tolist()
        generated = generator.integers(0, 3, generator.integers(0, len(label) + 1)).tolist()
        found = overlap(generated, label, n)
        assert found == slow_overlap(generated, label, n)
        assert 0 <= found <= 1


def gpt2(**changes: Any) -> Any:
    settings = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64} | changes
    return tiny.seeded(lambda: GPT2LMHeadModel(GPT2Config(**settings, initializer_range=0.3)).eval())


@pytest.mark.parametrize("family", ["llama", "gpt2", "forgetful"])
@pytest.mark.parametrize("batch_tokens", [1, 40, ROOM])
def test_accuracy_and_nll_are_those_of_a_loop_over_tokens(
    family: str, batch_tokens: int, request: pytest.FixtureRequest
) -> None:
    build = {"llama": tiny.llama, "gpt2": gpt2}
    network = build[family]() if family in build else request.getfixturevalue(family)
    expected = slow_memorization(network, SAMPLES)
    found = measure(network, batch_tokens=batch_tokens)
    np.testing.assert_array_equal(found.accuracy, expected.accuracy)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-5)


def test_measures_follow_the_samples_that_are_asked_for(forgetful: Any) -> None:
    whole, likelihood = measure(forgetful), extract(forgetful)
    for order in (np.arange(len(LENGTHS))[::-1], np.array([5, 0]), np.array([3])):
        some = SAMPLES.subset(order)
        part = measure(forgetful, some, batch_tokens=50)
        np.testing.assert_array_equal(part.accuracy, whole.accuracy[order])
        np.testing.assert_allclose(part.nll, whole.nll[order], rtol=1e-5)
        np.testing.assert_array_equal(extract(forgetful, some, batch_tokens=50), likelihood[order])


def test_no_samples_give_no_values() -> None:
    nobody = SAMPLES.subset(np.array([], dtype=np.int64))
    assert measure(tiny.llama(), nobody).accuracy.shape == (0,)
    assert extract(tiny.llama(), nobody).shape == (0,)


def test_a_sample_whose_answer_was_cut_off_has_no_values() -> None:
    samples = tiny.encoded(2, 9)
    found = measure(tiny.llama(), samples)
    expected = slow_memorization(tiny.llama(), samples.subset(np.array([1])))
    assert np.isnan([found.accuracy[0], found.nll[0], extract(tiny.llama(), samples)[0]]).all()
    np.testing.assert_allclose(
        [found.accuracy[1], found.nll[1]], [expected.accuracy[0], expected.nll[0]], rtol=1e-5
    )


def test_a_model_in_training_is_measured_without_dropout_and_left_as_it_was() -> None:
    network = tiny.llama(attention_dropout=0.5).requires_grad_(True).train()
    network.model.layers[0].eval()
    modes = [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    found, likelihood = measure(network), extract(network)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in network.parameters())
    np.testing.assert_array_equal(found.nll, measure(tiny.llama()).nll)
    np.testing.assert_array_equal(likelihood, extract(tiny.llama()))


def test_the_mode_comes_back_after_an_error() -> None:
    network = tiny.llama().train()
    with pytest.raises(IndexError):
        measure(network, tiny.encoded(5, vocabulary=10_000))
    assert network.training


@pytest.mark.parametrize("n", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_tokens", [1, 90, ROOM])
def test_extraction_is_that_of_one_generation_per_prefix(forgetful: Any, n: int, batch_tokens: int) -> None:
    expected = slow_extraction(forgetful, SAMPLES, n, [EOS])
    np.testing.assert_allclose(extract(forgetful, n=n, batch_tokens=batch_tokens), expected, rtol=1e-12)
    assert 0 < np.nanmean(expected) < 1


def test_generations_end_where_the_model_ends_them(forgetful: Any) -> None:
    ends = [EOS, *range(3, 9)]
    expected = slow_extraction(forgetful, SAMPLES, 2, ends)
    np.testing.assert_allclose(extract(forgetful, n=2, end_ids=ends), expected, rtol=1e-12)
    assert not np.allclose(expected, extract(forgetful, n=2), equal_nan=True)


def test_generations_stay_within_a_learned_context() -> None:
    # Its positions are a table of 30 rows: a batch that mixes prefixes freely would look up row 31.
    network = trained(gpt2(n_positions=30), SAMPLES, 25)
    expected = slow_extraction(network, SAMPLES, 2, [EOS])
    np.testing.assert_allclose(extract(network, n=2), expected, rtol=1e-12)
    assert 0 < np.nanmean(expected) < 1


def test_a_model_that_knows_its_texts_gives_them_away(memorising: Any) -> None:
    np.testing.assert_array_equal(measure(memorising).accuracy, 1.0)
    expected = np.where(np.array(LENGTHS) - 3 > 1, 1.0, np.nan)
    np.testing.assert_array_equal(extract(memorising, n=10), expected)


def test_a_random_model_gives_nothing_away() -> None:
    assert measure(tiny.llama()).accuracy.mean() < 0.15
    assert np.nanmean(extract(tiny.llama(), n=3)) < 0.02


def test_an_answer_of_one_token_has_no_extraction_likelihood_and_two_take_single_tokens(forgetful: Any) -> None:
    one, two = closed(tiny.encoded(4)), closed(tiny.encoded(5))
    assert extract(forgetful, one).shape == (1,)
    assert np.isnan(extract(forgetful, one)[0])
    np.testing.assert_array_equal(extract(forgetful, two, n=10), slow_extraction(forgetful, two, 1, [EOS]))


def passes_of(network: nn.Module, run: Any) -> list[int]:
    """Return the tokens of each forward pass that `run` makes."""
    sizes: list[int] = []
    hook = network.register_forward_pre_hook(
        lambda _module, _args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    run()
    hook.remove()
    return sizes


def test_a_memorised_text_costs_no_generation(memorising: Any, forgetful: Any) -> None:
    # The head alone is asked for the answers, once.
    assert passes_of(memorising, lambda: extract(memorising)) == [SAMPLES.answer.sum()]
    assert len(passes_of(forgetful, lambda: extract(forgetful))) > 1


@pytest.mark.parametrize("n", [1, 3, 10])
def test_the_cost_counts_a_generation_from_each_prefix(n: int) -> None:
    prefixes = tokens = 0
    for sample in SAMPLES.samples:
        length = int(sample.answer.sum())
        for t in range(length - min(n, length - 1)) if length > 1 else ():
            prefixes += 1
            tokens += length - t
    assert extraction_cost(SAMPLES, n=n) == (prefixes, tokens)
    parts = [extraction_cost(SAMPLES, np.array([i]), n=n) for i in range(len(SAMPLES))]
    assert tuple(np.sum(parts, axis=0)) == (prefixes, tokens)


def test_the_models_own_generation_settings_play_no_part_and_stay(forgetful: Any) -> None:
    network = copy.deepcopy(forgetful)
    network.generation_config.update(repetition_penalty=5.0, suppress_tokens=list(range(20)), max_length=3)
    settings = network.generation_config.to_dict()
    np.testing.assert_array_equal(extract(network), extract(forgetful))
    assert network.generation_config.to_dict() == settings


def test_adapters_count_on_the_head_too(forgetful: Any) -> None:
    def adapted() -> Any:
        targets = ["q_proj", "v_proj", "lm_head"]
        network = get_peft_model(copy.deepcopy(forgetful), LoraConfig(r=2, target_modules=targets))
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.data += 0.3 * torch.randn_like(parameter)
        return network

    network = tiny.seeded(adapted)
    merged = copy.deepcopy(network).merge_and_unload()
    found, expected = measure(network), slow_memorization(merged, SAMPLES)
    np.testing.assert_array_equal(found.accuracy, expected.accuracy)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-4)
    np.testing.assert_allclose(extract(network, n=2), slow_extraction(merged, SAMPLES, 2, [EOS]), rtol=1e-12)
    assert not np.allclose(found.nll, measure(forgetful).nll, rtol=0.05)


def cramped(network: Any, room: int) -> Any:
    """Return the model on a device that holds no more than `room` tokens of input at once."""
    network = copy.deepcopy(network)

    def refuse(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > room:
            raise torch.OutOfMemoryError("full")

    network.model.register_forward_pre_hook(refuse, with_kwargs=True)
    return network


def test_out_of_memory_halves_the_batches_and_changes_nothing(forgetful: Any) -> None:
    small = cramped(forgetful, 40)
    np.testing.assert_array_equal(measure(small).accuracy, measure(forgetful).accuracy)
    np.testing.assert_array_equal(extract(small), extract(forgetful))


def test_one_sample_that_does_not_fit_is_an_error_with_advice(forgetful: Any) -> None:
    with pytest.raises(UserError, match="single sample does not fit"):
        measure(cramped(forgetful, 20))
