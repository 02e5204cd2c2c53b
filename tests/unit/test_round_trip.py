"""Weights through whole numbers and back, held against a loop over single weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mrd_core.model.round_trip import GROUP, round_weights, rounded
from tests.support import tiny
from tests.support.families import built


def by_loop(weight: np.ndarray, bits: int, group: int) -> np.ndarray:
    """Round a matrix weight by weight, in single precision."""
    most, result = np.float32(2 ** (bits - 1) - 1), weight.copy()
    for row in range(weight.shape[0]):
        for begin in range(0, weight.shape[1], group):
            part = weight[row, begin : begin + group]
            scale = np.float32(np.abs(part).max()) / most
            for place, value in enumerate(part):
                result[row, begin + place] = scale * np.float32(round(float(value / scale))) if scale else value
    return result


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, GROUP), (4, 7), (2, None)])
def test_every_weight_is_the_nearest_of_its_groups_levels(bits: int, group: int | None) -> None:
    weight = torch.randn(5, 150, generator=torch.Generator().manual_seed(3))
    weight[2, :64] = 0
    expected = by_loop(weight.numpy(), bits, group or 150)
    np.testing.assert_array_equal(rounded(weight, bits, group).numpy(), expected)
    assert len(np.unique(expected[0][: group or 150])) <= 2**bits - 1


@pytest.mark.parametrize("bits", [8, 4])
def test_a_second_trip_changes_nothing_and_the_error_is_half_a_level_at_most(bits: int) -> None:
    weight = torch.randn(3, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    once = rounded(weight, bits, GROUP)
    torch.testing.assert_close(rounded(once, bits, GROUP), once, rtol=1e-6, atol=0)
    levels = weight.abs().unflatten(1, (-1, GROUP)).amax(2) / (2 ** (bits - 1) - 1)
    errors = (once - weight).abs().unflatten(1, (-1, GROUP)).amax(2)
    assert bool((errors <= levels / 2 * (1 + 1e-5)).all())


def test_linear_layers_are_rounded_and_embeddings_head_norms_and_biases_stay() -> None:
    model = tiny.llama()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    count = round_weights(model, 4)
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    linear = {name for name in before if "proj" in name}
    assert changed == linear
    assert count == sum(before[name].numel() for name in linear)
    for name in linear:
        torch.testing.assert_close(model.get_parameter(name), rounded(before[name], 4, GROUP))


def test_layers_that_keep_their_weights_transposed_share_a_scale_along_their_input_too() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    before = model.transformer.h[0].mlp.c_fc.weight.detach().clone()
    round_weights(model, 8)
    expected = by_loop(before.T.numpy(), 8, 16).T
    np.testing.assert_array_equal(model.transformer.h[0].mlp.c_fc.weight.detach().numpy(), expected)


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_experts_are_rounded_one_by_one_along_their_input(family: str) -> None:
    model = built(family)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    round_weights(model, 8)
    stacks = [name for name, weight in before.items() if weight.dim() == 3]
    assert stacks
    for name in stacks:
        for expert, old in zip(model.get_parameter(name), before[name], strict=True):
            # gpt_oss keeps them as (in, out).
            expected = rounded(old.T, 8, None).T if family == "gpt_oss" else rounded(old, 8, None)
            torch.testing.assert_close(expert, expected)
