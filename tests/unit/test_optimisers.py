"""Optimisers from elsewhere, and models whose layers lie on several devices."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model

from mrd_core.errors import UserError
from mrd_core.model.loading import spread_over
from mrd_core.runs import RunState
from mrd_core.unlearning import checkpoints
from mrd_core.unlearning.adapters import adapted
from mrd_core.unlearning.config import OptimiserConfig
from mrd_core.unlearning.optimisers import BITSANDBYTES, optimiser_of, require_usable
from mrd_core.unlearning.texts import TextBatch, answers
from mrd_core.unlearning.trainer import decayed_groups
from tests.support import tiny
from tests.support.unlearning_runs import Place, scored_tiny

GPU = torch.device("cuda", 0)
has_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


def refusal(name: str, device: torch.device = tiny.CPU, dtype: torch.dtype = torch.float32) -> str:
    with pytest.raises(UserError) as refused:
        require_usable(OptimiserConfig.model_validate({"name": name}), device, dtype)
    return str(refused.value)


def test_the_state_in_8_bits_is_refused_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "needs bitsandbytes, which is not installed" in refusal("adamw_8bit")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert "the model is on cpu" in refusal("paged_adamw_8bit")
    assert "does not know weights in float64" in refusal("paged_adamw_8bit", GPU, torch.float64)
    for name in BITSANDBYTES:
        require_usable(OptimiserConfig.model_validate({"name": name}), GPU, torch.float32)
    require_usable(OptimiserConfig(name="sgd"), tiny.CPU, torch.float64)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_run_says_that_bitsandbytes_is_missing(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    scored = scored_tiny(tmp_path_factory.getbasetemp())
    unlearned = Place.of(tmp_path).carried_out(scored.config(optimiser={"name": "adamw_8bit"}))
    assert unlearned.run.state is RunState.FAILED
    assert unlearned.run.error is not None
    assert unlearned.run.error.advice == (
        "Install it with `pip install bitsandbytes`, or use adamw_torch, sgd, sign_sgd."
    )


def test_signs_move_each_weight_by_the_rate_and_the_decay() -> None:
    weights = [torch.tensor([1.0, -2.0, 3.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)]
    expected = [weight.detach().clone() for weight in weights]
    optimiser = optimiser_of(OptimiserConfig(name="sign_sgd"), [{"params": weights, "weight_decay": 0.1}], 0.01)
    for gradients in ([[5.0, -1e-9, 0.0], [-3.0]], [[-1.0, 1.0, 1e9], [2.0]]):
        for weight, old, gradient in zip(weights, expected, map(torch.tensor, gradients), strict=True):
            weight.grad = gradient.clone()
            signs = torch.tensor([(g > 0) - (g < 0) for g in gradient.tolist()], dtype=torch.float32)
            old -= 0.01 * (signs + 0.1 * old)
        optimiser.step()
    for weight, old in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), old)


def moved(network: Any, optimiser: torch.optim.Optimizer, steps: int) -> None:
    batch = TextBatch.of(tiny.encoded(9, 14, 7).samples, next(network.parameters()).device)
    for _ in range(steps):
        optimiser.zero_grad()
        answers(network, batch).log_probs.sum().backward()
        optimiser.step()


@has_bitsandbytes
def test_a_checkpoint_holds_a_state_in_8_bits(tmp_path: Path) -> None:
    def begun() -> tuple[Any, torch.optim.Optimizer]:
        # Weights of 4096 numbers and more have a state in 8 bits, smaller ones in 32.
        network = tiny.llama(hidden_size=64, intermediate_size=96).requires_grad_(True)
        config = OptimiserConfig(name="adamw_8bit")
        return network, optimiser_of(config, decayed_groups(network, 0.01), 1e-3)

    whole, optimiser = begun()
    moved(whole, optimiser, 3)
    checkpoints.save(tmp_path, 3, whole, optimiser, None)
    assert {state["state1"].dtype for state in optimiser.state.values()} == {torch.uint8, torch.float32}
    moved(whole, optimiser, 2)
    resumed, again = begun()
    assert checkpoints.load(tmp_path, resumed, again, None) == 3
    moved(resumed, again, 2)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_layers_are_spread_over_several_gpus_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="takes several GPUs, and torch sees"):
        spread_over(tiny.CPU)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert spread_over(GPU) == "balanced"


def test_a_model_whose_layers_were_placed_one_by_one_trains_as_it_does_in_one_piece() -> None:
    def trained(*, is_placed: bool) -> list[torch.Tensor]:
        network: Any = tiny.llama()
        if is_placed:
            parts = ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb"]
            places = dict.fromkeys([*parts, "lm_head"], "cpu")
            network = dispatch_model(network, places, main_device="cpu", force_hooks=True)
        network = adapted(network, 2, 4, seed=0, checkpointing=True)
        network.activation_checkpointing_enable()
        network.train()
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        moved(network, torch.optim.AdamW(weights, lr=1e-2), 3)
        return weights

    for one, other in zip(trained(is_placed=True), trained(is_placed=False), strict=True):
        assert torch.equal(one, other)
