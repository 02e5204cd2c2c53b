"""One teacher-forced pass, held against loops over one token at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from mrd_core.evaluation import likelihoods
from mrd_core.evaluation.likelihoods import LIKELIHOOD_METRICS, Likelihoods, answer_likelihoods, metrics_of
from mrd_core.model import reader
from mrd_core.model.encoding import Encoded
from mrd_core.scoring.measuring import measure
from tests.support import tiny

# peft calls what transformers will rename.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

SAMPLES = tiny.encoded(17, 5, 24, 4, 9, 30)
ROOM = 10_000


def adapted() -> Any:
    """Return a model with an adapter that is at work, on the head too."""

    def build() -> Any:
        network = get_peft_model(tiny.llama(), LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.data += 0.3 * torch.randn_like(parameter)
        return network.eval()

    return tiny.seeded(build)


FAMILIES = {"llama": tiny.llama, "tied": lambda: tiny.llama(tie_word_embeddings=True), "adapted": adapted}


def said_of(network: Any, samples: Encoded = SAMPLES, batch_tokens: int = ROOM) -> list[Likelihoods]:
    return answer_likelihoods(tiny.reader(network, batch_tokens), samples)


@torch.no_grad()
def slow(network: Any, samples: Encoded) -> list[np.ndarray]:
    """Return log p, hit, mean and variance of each answer token by sums over the vocabulary, in fp64."""
    found = []
    for sample in samples.samples:
        logits = network(input_ids=torch.from_numpy(sample.tokens)[None]).logits[0].double().numpy()
        rows = []
        for place in np.flatnonzero(sample.answer):
            p = np.exp(logits[place] - np.logaddexp.reduce(logits[place]))
            mean = sum(q * np.log(q) for q in p)
            variance = sum(q * (np.log(q) - mean) ** 2 for q in p)
            true = sample.tokens[place + 1]
            rows.append([np.log(p[true]), p.argmax() == true, mean, variance])
        found.append(np.array(rows).reshape(-1, 4).T)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_tokens", [1, 40, ROOM])
def test_a_pass_is_a_loop_over_tokens_whatever_the_batch(family: str, batch_tokens: int) -> None:
    network = FAMILIES[family]()
    for said, expected in zip(said_of(network, batch_tokens=batch_tokens), slow(network, SAMPLES), strict=True):
        np.testing.assert_allclose(np.array(said, dtype=np.float64), expected, rtol=2e-5, atol=1e-6)


def test_the_head_runs_in_chunks_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny.llama()
    whole = said_of(network)
    monkeypatch.setattr(reader, "LEAST_ROWS", 1)
    monkeypatch.setitem(reader.CHUNK_ELEMENTS, "cpu", 3 * tiny.VOCABULARY)
    for said, expected in zip(said_of(network), whole, strict=True):
        np.testing.assert_allclose(np.array(said, float), np.array(expected, float), rtol=1e-5, atol=1e-7)


def test_a_certain_model_keeps_the_digits_of_its_log_probs() -> None:
    logits = torch.tensor([[30.0, 0.0, 0.0]])
    log_probs, hits, means, variances = (float(part) for part in likelihoods._moments(logits, torch.tensor([0])))
    assert log_probs == pytest.approx(-2 * np.exp(-30), rel=1e-5)
    assert hits
    assert means <= 0
    assert variances == pytest.approx(2 * np.exp(-30) * 30**2, rel=1e-2)


def test_an_impossible_token_has_no_part_in_the_moments() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    log_probs, _hits, means, variances = (float(part) for part in likelihoods._moments(logits, torch.tensor([1])))
    assert (log_probs, means) == pytest.approx((np.log(0.5), np.log(0.5)))
    assert variances == pytest.approx(0, abs=1e-12)


def test_the_metrics_are_those_of_the_difficulty_measures() -> None:
    network = tiny.llama()
    expected = measure(tiny.reader(network, ROOM), SAMPLES, gradients=False)[list(LIKELIHOOD_METRICS)]
    np.testing.assert_allclose(metrics_of(said_of(network)), expected, rtol=1e-6)


def test_an_answer_beyond_the_context_is_undefined_and_raises_nothing() -> None:
    said = said_of(tiny.llama(), tiny.encoded(9, 2, 1, 12))
    assert [len(answer.log_probs) for answer in said] == [6, 0, 0, 9]
    assert metrics_of(said).isna().all(axis=1).tolist() == [False, True, True, False]
    assert [np.isnan(answer.mean_log_prob) for answer in said] == [False, True, True, False]
    assert [np.isnan(answer.sum_log_prob) for answer in said] == [False, True, True, False]


def test_an_answer_of_one_token_has_every_metric() -> None:
    said = said_of(tiny.llama(), tiny.encoded(4))
    assert len(said[0].log_probs) == 1
    assert metrics_of(said).notna().all(axis=None)


def test_no_samples_give_no_likelihoods() -> None:
    assert said_of(tiny.llama(), Encoded((), (), "plain")) == []
    assert metrics_of([]).empty


def test_dropout_is_off_and_the_mode_comes_back() -> None:
    network = tiny.llama(attention_dropout=0.5)
    expected = said_of(network)
    network.train()
    for said, quiet in zip(said_of(network), expected, strict=True):
        np.testing.assert_array_equal(said.log_probs, quiet.log_probs)
    assert all(module.training for module in network.modules())


def test_a_caller_can_stop_before_a_batch() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        answer_likelihoods(tiny.reader(tiny.llama(), ROOM, before_batch=stop), SAMPLES)
