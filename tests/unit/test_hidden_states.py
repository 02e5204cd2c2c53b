"""The mean hidden state of each sample against the model's own, also after a pass that ran out of memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrd_core.model.hidden_states import HiddenStates
from mrd_core.model.likelihood import Passes, Scorer
from mrd_core.scoring.mrd import measure_baseline
from tests.support import tiny

SAMPLES = tiny.encoded(7, 12, 3, 20, 12, 1)


def listened(scorer: Scorer, batch_tokens: int = 10_000) -> np.ndarray:
    """Return the states that one pass gives."""
    passes, states = Passes(tiny.reader(scorer, batch_tokens), SAMPLES), HiddenStates()
    with states.of(passes):
        passes()
    return states.means()


def oracle(network: object) -> np.ndarray:
    """Return the mean over all positions but the last of each sample, run one by one."""
    with torch.no_grad():
        rows = [
            network.model(input_ids=torch.from_numpy(sample.tokens)[None]).last_hidden_state[0, :-1].mean(0)
            for sample in SAMPLES.samples
        ]
    return torch.stack(rows).numpy()


def test_means_are_those_of_each_sample_alone() -> None:
    network = tiny.llama()
    states = listened(Scorer(network))
    np.testing.assert_allclose(states[:-1], oracle(network)[:-1], rtol=1e-5, atol=1e-6)
    assert np.isnan(states[-1]).all(), "one token predicts nothing"


def test_batches_change_nothing() -> None:
    scorer = Scorer(tiny.llama())
    np.testing.assert_allclose(listened(scorer, 20), listened(scorer), rtol=1e-5, atol=1e-6)


def test_a_pass_that_ran_out_of_memory_leaves_no_trace() -> None:
    scorer = Scorer(tiny.llama())
    whole = listened(scorer)

    def overflow(_head: object, arguments: tuple[Tensor, Tensor]) -> None:
        if len(arguments[0]) > 25:
            raise torch.OutOfMemoryError("the head does not fit")

    hook = scorer.head.register_forward_pre_hook(overflow)
    halved = listened(scorer)
    hook.remove()
    np.testing.assert_allclose(halved, whole, rtol=1e-5, atol=1e-6)


def test_the_baseline_pass_brings_them_along_and_is_the_same_with_them() -> None:
    scorer, states = Scorer(tiny.llama()), HiddenStates()
    passes = Passes(tiny.reader(scorer, 10_000), SAMPLES)
    with_states = measure_baseline(passes, torch.float32, states)
    assert (with_states.log_probs == measure_baseline(passes, torch.float32).log_probs).all()
    np.testing.assert_allclose(states.means()[:-1], listened(scorer)[:-1], rtol=1e-4, atol=1e-5)
