"""Checkpoints of a training: tensors as safetensors and the rest as JSON, whole or absent, nothing pickled.

A checkpoint is a folder `checkpoint-<steps>` with the trained weights by name, the optimiser's tensors as
`<index of the weight>.<name>`, the state of torch's random numbers, and `training.json`: the steps taken, the
optimiser's groups and numbers, and the schedule. No step draws from the generators of Python or NumPy.

Those that transformers' Trainer made, up to the first release, hold the weights as `save_pretrained` writes them,
and optimiser, schedule and random numbers in pickles, of which nothing but tensors and plain values is loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers.trainer_pt_utils import safe_globals

from mrd_core.errors import UserError

STAGING = ".saving"
WEIGHTS, OPTIMISER, RANDOM = "weights.safetensors", "optimiser.safetensors", "random.safetensors"
TRAINING = "training.json"
# Among the files of a checkpoint by transformers' Trainer.
TRAINER_STATE = "trainer_state.json"


def existing(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest last."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


@contextmanager
def staged(folder: Path, steps: int) -> Iterator[Path]:
    """Have a checkpoint written into an empty folder, then put it into its place and drop older ones.

    Args:
        folder: Of the checkpoints.
        steps: Steps taken.
    """
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    staging.rename(folder / f"checkpoint-{steps}")
    for older in existing(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def save(folder: Path, steps: int, model: Any, optimiser: Optimizer, schedule: LRScheduler | None) -> None:
    """Write the state of a training into an empty folder.

    Args:
        folder: Of the checkpoint.
        steps: Steps taken.
        model: What is trained: a transformers model, or its peft wrapper.
        optimiser: Of its weights.
        schedule: Of the learning rate; None for a constant one.
    """
    state = optimiser.state_dict()
    tensors, numbers = _flat(state["state"])
    training = {
        "steps": steps,
        "optimiser": state["param_groups"],
        "numbers": numbers,
        "schedule": schedule and schedule.state_dict(),
    }
    save_file({name: weight.detach().contiguous() for name, weight in _trained(model).items()}, folder / WEIGHTS)
    save_file(tensors, folder / OPTIMISER)
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    save_file({"cpu": torch.get_rng_state()} | cuda, folder / RANDOM)
    (folder / TRAINING).write_text(json.dumps(training), encoding="utf-8")


def load(checkpoint: Path, model: Any, optimiser: Optimizer, schedule: LRScheduler | None) -> int:
    """Put model, optimiser, schedule and random numbers into the state of a checkpoint; return the steps taken.

    Raises:
        UserError: It holds other weights than those that are trained.
    """
    if (checkpoint / TRAINER_STATE).exists():
        return _load_of_trainer(checkpoint, model, optimiser, schedule)
    training = json.loads((checkpoint / TRAINING).read_text(encoding="utf-8"))
    weights, trained = load_file(checkpoint / WEIGHTS), _trained(model)
    if weights.keys() != trained.keys():
        raise _foreign(checkpoint)
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(weights[name])
    state = _nested(load_file(checkpoint / OPTIMISER) | training.get("numbers", {}))
    optimiser.load_state_dict({"state": state, "param_groups": training["optimiser"]})
    if schedule:
        schedule.load_state_dict(training["schedule"])
    _set_random_state(load_file(checkpoint / RANDOM))
    return int(training["steps"])


def _flat(state: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the tensors and the numbers of an optimiser's state, by `<index of the weight>.<name>[.<name>]`."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    places: set[int] = set()
    for key, value in _leaves({str(place): of_weight for place, of_weight in state.items()}):
        if not isinstance(value, Tensor):
            numbers[key] = value
            continue
        # What weights share, safetensors would refuse.
        tensors[key] = value.clone() if value.data_ptr() in places else value.contiguous()
        places.add(value.data_ptr())
    return tensors, numbers


def _leaves(nested: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _nested(flat: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return what `_flat` took apart."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in flat.items():
        place, *above, name = key.split(".")
        inner = state.setdefault(int(place), {})
        for part in above:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return state


def _load_of_trainer(checkpoint: Path, model: Any, optimiser: Optimizer, schedule: LRScheduler | None) -> int:
    if (adapter := checkpoint / "adapter_model.safetensors").exists():
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(adapter))
    else:
        # As `save_pretrained` wrote it: one file or several, each of several tied weights once.
        missing = {weight.data_ptr() for weight in _trained(model).values()}
        own = model.state_dict()
        for file in checkpoint.glob("model*.safetensors"):
            weights = load_file(file)
            model.load_state_dict(weights, strict=False)
            missing -= {own[name].data_ptr() for name in weights if name in own}
        if missing:
            raise _foreign(checkpoint)
    optimiser.load_state_dict(_unpickled(checkpoint / "optimizer.pt"))
    if schedule:
        schedule.load_state_dict(_unpickled(checkpoint / "scheduler.pt"))
    _set_random_state(_unpickled(checkpoint / "rng_state.pth"))
    return int(json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))["global_step"])


def _unpickled(path: Path) -> Any:
    # The states of Python's and NumPy's generators are there too.
    with safe_globals():  # type: ignore[no-untyped-call]
        return torch.load(path, map_location="cpu", weights_only=True)


def _trained(model: Any) -> dict[str, Tensor]:
    """Return the weights that are trained, by name; of tied ones the first."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _set_random_state(state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _foreign(checkpoint: Path) -> UserError:
    return UserError(
        f"The checkpoint {checkpoint}",
        "holds other weights than those that this run trains.",
        "Start the run anew.",
    )
