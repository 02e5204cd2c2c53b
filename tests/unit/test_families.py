"""Families of language models, each as its own plain pass means it: draws, batches, evaluations, texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mrd_core.model.generation import Prefix, continuations
from mrd_core.model.lengths import rope_switch
from mrd_core.model.likelihood import KeepDouble, Passes, Scorer, target_log_probs
from mrd_core.model.own_pass import require_own_log_probs
from mrd_core.model.perturbation import Noise, PerturbedModel, streamed
from mrd_core.model.reader import Reader
from tests.support import families, replay, tiny

NOISE = Noise(seed=1, sigma=2e-3)
each_family = pytest.mark.parametrize("family", families.QUICK)


def reader(network: Any, batch_tokens: int = 64) -> Reader:
    return tiny.reader(network, batch_tokens, end_ids=[2], switch=rope_switch(network.config))


def passes(network: Any, batch_tokens: int = 64) -> Passes:
    read = reader(network, batch_tokens)
    return Passes(replace(read, network=Scorer(network)), families.samples())


@each_family
def test_log_probs_and_draws_are_those_of_an_independent_replay(family: str) -> None:
    network = families.network(family)
    require_own_log_probs(network, tiny.CPU)
    read = passes(network)
    with streamed(read.scorer, lambda _name, weight: weight.double()), KeepDouble():
        baseline = read()
    true = replay.log_probs(network, families.samples())
    np.testing.assert_allclose(baseline, true, rtol=1e-4)
    with PerturbedModel(read.scorer, NOISE, streamed=False).draw(0):
        copied = read()
    with PerturbedModel(read.scorer, NOISE, streamed=True).draw(0):
        np.testing.assert_array_equal(read(), copied)
    expected = (true - replay.log_probs(network, families.samples(), NOISE)) / true
    owner = families.samples().owner
    changes, replayed = (np.bincount(owner, weights=r) for r in ((baseline - copied) / baseline, expected))
    np.testing.assert_allclose(changes, replayed, rtol=5e-4, atol=5e-4 * np.abs(replayed).max())


@each_family
def test_a_sample_is_read_alike_alone_and_in_a_batch(family: str) -> None:
    network = families.network(family)
    with streamed(Scorer(network), lambda _name, weight: weight.double()), KeepDouble():
        together, alone = passes(network)(), passes(network, batch_tokens=1)()
    np.testing.assert_allclose(together, alone, rtol=1e-7)


@each_family
def test_an_evaluation_reads_what_the_model_says(family: str) -> None:
    network, samples = families.network(family), families.samples()
    (log_probs,) = reader(network).answers(
        samples, lambda logits, targets: (target_log_probs(logits, targets),), fine_head=True
    )
    expected = replay.log_probs(network, samples)[samples.answer]
    np.testing.assert_allclose(log_probs, expected, rtol=5e-3, atol=1e-6)


@each_family
def test_what_is_written_is_the_models_own_choice_token_by_token(family: str) -> None:
    network = families.network(family)
    prefixes = [
        Prefix(sample.tokens[:size], 6)
        for sample, size in zip(families.samples().samples, (9, 3, 5, 12), strict=True)
    ]
    written = continuations(reader(network, 32), prefixes)
    assert written == [greedy(network, prefix) for prefix in prefixes]


def greedy(network: Any, prefix: Prefix) -> list[int]:
    """Return what a plain loop writes, without cache, batch or padding."""
    ids = torch.from_numpy(prefix.tokens).unsqueeze(0)
    with torch.no_grad():
        for _ in range(prefix.budget):
            logits = network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, -1]
            ids = torch.cat([ids, logits.argmax().reshape(1, 1)], dim=1)
            if ids[0, -1] == 2:
                break
    return ids[0, len(prefix.tokens) :].tolist()
