"""Checkpoints hold no pickle, and those that transformers' Trainer made before still go on to the same end."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mrd_core.errors import UserError
from mrd_core.unlearning import checkpoints
from mrd_core.unlearning.adapters import adapted
from mrd_core.unlearning.trainer import Trainer, decayed_groups
from tests.support import tiny
from tests.support.unlearning_runs import Place, Scored, Unlearned, scored_tiny


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "home")


CONFIGS: dict[str, dict[str, Any]] = {
    "AdamW": {"schedule": "cosine"},
    "SGD": {"name": "sgd", "learning_rate": 5e-2},
    "adapter": {"lora_rank": 2, "learning_rate": 1e-2},
}


def interrupted(
    place: Place, scored: Scored, name: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Unlearned, Path]:
    """Return a run that died in its sixth step, and its checkpoint after the fourth."""
    step = Trainer.step

    def dies(self: Trainer, *arguments: Any) -> bool:
        if self.steps == 5:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", dies)
        run = place.carried_out(config_of(scored, name))
    (checkpoint,) = checkpoints.existing(run.files.checkpoints)
    return run, checkpoint


def config_of(scored: Scored, name: str) -> Any:
    optimiser = {"learning_rate": 2e-3} | CONFIGS[name]
    return scored.config(method="graddiff", retain=scored.kept, optimiser=optimiser, checkpoint_steps=4)


def as_the_trainer_made_it(checkpoint: Path) -> None:
    """Turn a checkpoint into one with the files that transformers' Trainer wrote."""
    training = json.loads((checkpoint / checkpoints.TRAINING).read_text())
    weights = load_file(checkpoint / checkpoints.WEIGHTS)
    if any("lora_" in name for name in weights):
        bare = {name.replace(".default.", "."): weight for name, weight in weights.items()}
        save_file(bare, checkpoint / "adapter_model.safetensors")
    else:
        for number, names in enumerate(np.array_split(sorted(weights), 2)):
            part = {str(name): weights[str(name)] for name in names}
            save_file(part, checkpoint / f"model-0000{number + 1}-of-00002.safetensors")
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in load_file(checkpoint / checkpoints.OPTIMISER).items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = tensor
    torch.save({"state": state, "param_groups": training["optimiser"]}, checkpoint / "optimizer.pt")
    torch.save(training["schedule"], checkpoint / "scheduler.pt")
    generators = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    torch.save(generators, checkpoint / "rng_state.pth")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": training["steps"]}))
    for name in (checkpoints.WEIGHTS, checkpoints.OPTIMISER, checkpoints.RANDOM, checkpoints.TRAINING):
        (checkpoint / name).unlink()


def end_of(run: Unlearned) -> tuple[Any, ...]:
    assert run.summary["steps"] == 6
    (file,) = run.files.model.glob("*.safetensors")
    return run.order, run.losses, {name: weight.tolist() for name, weight in load_file(file).items()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.slow
def test_a_run_that_goes_on_from_either_kind_of_checkpoint_ends_on_the_same_bits(
    name: str, place: Place, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = end_of(place.carried_out(config_of(scored, name)))
    for convert in (False, True):
        run, checkpoint = interrupted(place, scored, name, monkeypatch)
        assert {path.suffix for path in checkpoint.iterdir()} == {".safetensors", ".json"}
        if convert:
            as_the_trainer_made_it(checkpoint)
        assert end_of(run.resumed()) == whole


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    whole = tiny.llama().requires_grad_(True)
    adapter = adapted(tiny.llama(), rank=2, alpha=4, seed=0)
    checkpoints.save(tmp_path, 3, adapter, torch.optim.AdamW(decayed_groups(adapter, 0.0)), None)
    with pytest.raises(UserError, match="other weights"):
        checkpoints.load(tmp_path, whole, torch.optim.AdamW(decayed_groups(whole, 0.0)), None)


def test_an_old_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    network = tiny.llama().requires_grad_(True)
    optimiser = torch.optim.AdamW(decayed_groups(network, 0.0))
    checkpoints.save(tmp_path, 3, network, optimiser, None)
    as_the_trainer_made_it(tmp_path)
    next(tmp_path.glob("model-*")).unlink()
    with pytest.raises(UserError, match="other weights"):
        checkpoints.load(tmp_path, network, optimiser, None)
