"""Norms of samples' own parts of a step's gradient, against autograd with all others cut off."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from mrd_core.unlearning.adapters import adapted
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.norms import SampleNorms, fault
from mrd_core.unlearning.objective import Losses, StepBatch
from tests.support import tiny
from tests.support.unlearning_runs import RATE, Place, Scored, scored_tiny
from tests.unit.test_trainer import FORGET, RETAIN, Keep, network, objective

DRAWN = (0, 3, 4, 1)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


def gpt2() -> Any:
    settings = GPT2Config(
        vocab_size=tiny.llama().config.vocab_size, n_positions=64, n_embd=16, n_layer=2, n_head=2
    )
    return tiny.seeded(lambda: GPT2LMHeadModel(settings)).eval()


class Only(nn.Module):
    """A model whose predictions let a gradient through for one sample of a batch alone."""

    def __init__(self, model: Any, row: int) -> None:
        super().__init__()
        self.model, self.row, self.config = model, row, model.config

    def forward(self, **inputs: Any) -> Any:
        result = self.model(**inputs)

        def cut(values: torch.Tensor) -> torch.Tensor:
            mine = torch.arange(len(values)).reshape(-1, *[1] * (values.dim() - 1)) == self.row
            return torch.where(mine, values, values.detach())

        states = result.hidden_states
        return SimpleNamespace(logits=cut(result.logits), hidden_states=states and [*map(cut, states)])


def step(method: str) -> StepBatch:
    reference = torch.tensor([30.0, 20.0, 25.0, 40.0]) if METHODS[method].needs_reference else None
    drawn = StepBatch([FORGET.samples[i] for i in DRAWN], reference, (), is_measured=True)
    if METHODS[method].refuses_beside:
        drawn = drawn._replace(refusals=[RETAIN.samples[i] for i in (1, 3, 2, 0)])
    return drawn


def accumulated(model: Any, method: str, micro_batch: int, norms: SampleNorms | None, kept: Any = None) -> Losses:
    for weight in model.parameters():
        weight.grad = None
    passing = objective(method, micro_batch, norms=norms)
    return passing.accumulate(model, step(method), Keep(kept), torch.Tensor.backward)


def norm(model: Any) -> float:
    squares = [weight.grad.square().sum() for weight in model.parameters() if weight.grad is not None]
    return float(torch.stack(squares).sum().sqrt())


def by_autograd(model: Any, method: str, kept: Any = None) -> list[float]:
    """Return the norm of each sample's part of the gradient, with the parts of all others cut off."""
    found = []
    for row in range(len(DRAWN)):
        accumulated(Only(model, row), method, 4, None, kept)
        found.append(norm(model))
    return found


@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_samples_part_is_what_autograd_gives_with_the_others_cut_off(method: str) -> None:
    model = tiny.in_double(network())
    losses = accumulated(model, method, 4, SampleNorms(model))
    assert list(losses.norms) == [0, 1, 2, 3]
    np.testing.assert_allclose(list(losses.norms.values()), by_autograd(model, method), rtol=1e-6)


@pytest.mark.parametrize("method", ["ga", "npo", "satimp"])
def test_a_model_with_biases_positions_and_transposed_layers_gives_them_too(method: str) -> None:
    model = tiny.in_double(gpt2()).requires_grad_(True)
    losses = accumulated(model, method, 4, SampleNorms(model))
    np.testing.assert_allclose(list(losses.norms.values()), by_autograd(model, method), rtol=1e-6)


def test_of_an_adapter_the_norms_are_those_of_the_weights_that_are_trained() -> None:
    model = adapted(tiny.in_double(network()).requires_grad_(False), 2, 4, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight += 0.1
    losses = accumulated(model, "ga", 4, SampleNorms(model))
    np.testing.assert_allclose(list(losses.norms.values()), by_autograd(model, "ga"), rtol=1e-6)


def test_smaller_parts_of_a_step_give_the_same_and_a_sample_that_is_left_out_has_none() -> None:
    model = tiny.in_double(network())
    whole, parts = (accumulated(model, "npo", size, SampleNorms(model)).norms for size in (4, 1))
    # Normalisation layers round to fp32, differently for a padded batch.
    np.testing.assert_allclose(list(whole.values()), list(parts.values()), rtol=1e-3)
    kept = accumulated(model, "ga", 4, SampleNorms(model), kept=[1, 2]).norms
    assert list(kept) == [1, 2]
    np.testing.assert_allclose(list(kept.values()), by_autograd(model, "ga", kept=[1, 2])[1:3], rtol=1e-6)
    assert not accumulated(model, "dpo", 4, SampleNorms(model), kept=[1, 2]).norms


@pytest.mark.parametrize("make", [network, lambda: gpt2().requires_grad_(True)])
def test_listening_changes_no_bit_of_the_gradient(make: Any) -> None:
    model = make()
    gradients = []
    for norms in (None, SampleNorms(model)):
        losses = accumulated(model, "satimp", 2, norms)
        gradients.append([weight.grad for weight in model.parameters()])
        assert bool(losses.norms) == (norms is not None)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_model_whose_layers_are_known_has_no_fault_and_one_with_another_is_told() -> None:
    model = network()
    before = [weight.clone() for weight in model.parameters()]
    state = torch.random.get_rng_state()
    assert fault(model, FORGET.samples[:2], tiny.CPU) == ""
    assert fault(model, FORGET.samples[:1], tiny.CPU) == ""
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)

    class Scaled(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer, self.scales = layer, nn.Parameter(torch.ones(8, layer.out_features))

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.layer(hidden) * self.scales.sum(0)

    model.model.layers[0].mlp.down_proj = Scaled(model.model.layers[0].mlp.down_proj)
    assert fault(model, FORGET.samples[:2], tiny.CPU).endswith("adds to the weights of Scaled")

    class Across(nn.Module):
        """Passes tokens on with the samples in their second axis, as some experts do."""

        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.layer(hidden.transpose(0, 1)).transpose(0, 1)

    model = network()
    for layer in model.model.layers:
        layer.mlp.up_proj = Across(layer.mlp.up_proj)
    assert fault(model, FORGET.samples[:2], tiny.CPU) == "a trial ended in UnknownLayoutError"
    # A batch of as many tokens as samples would be taken for one that is laid out as usual.
    short = tiny.encoded(4, 4, 4, 4).samples
    assert fault(model, short, tiny.CPU) == "in a trial they were not what autograd finds"


# In a run


@pytest.mark.slow
def test_a_run_writes_them_down_at_its_steps_and_ends_on_the_same_bits_without(
    place: Place, scored: Scored
) -> None:
    settings: dict[str, Any] = {"method": "npo", "retain": scored.kept, "limits": {"max_steps": 7}}
    measured, without = (place.carried_out(scored.config(**settings, gradient_steps=every)) for every in (3, 0))
    assert [step["step"] for step in measured.steps if "gradient_norms" in step] == [1, 4, 7]
    for one in measured.steps[::3]:
        assert [value is not None for value in one["gradient_norms"]] == one["trained"]
    assert not [step for step in without.steps if "gradient_norms" in step]
    weights = without.weights()
    assert all(torch.equal(value, weights[name]) for name, value in measured.weights().items())
    assert measured.summary["reasons"]["gradient shares"] == "every 3 steps (from the pass that trains)"
    assert "gradient shares" not in without.summary["reasons"]
    assert scored.config(**settings, gradient_steps=3).setting == scored.config(**settings).setting


@pytest.mark.slow
def test_a_run_that_keeps_no_inputs_says_that_it_cannot_measure(place: Place, scored: Scored) -> None:
    optimiser = {"learning_rate": RATE, "lora_rank": 2, "gradient_checkpointing": True}
    run = place.carried_out(scored.config(optimiser=optimiser, limits={"max_steps": 2}))
    assert run.summary["reasons"]["gradient shares"].startswith("not measured (gradient checkpointing")
    assert not [step for step in run.steps if "gradient_norms" in step]
