"""The optimisers by their names in transformers; those of bitsandbytes are loaded where they are asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from mrd_core.errors import UserError
from mrd_core.unlearning.config import OptimiserConfig
from mrd_core.unlearning.sign_sgd import SignSGD

BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}
OWN: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw_torch": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "sign_sgd": SignSGD,
}


def require_usable(config: OptimiserConfig, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse an optimiser that is not there, or that cannot move these weights.

    Args:
        config: Names it.
        device: Where the weights are.
        dtype: Theirs.

    Raises:
        UserError: It is so.
    """
    if config.name in OWN:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"The optimiser {config.name}",
            "needs bitsandbytes, which is not installed.",
            f"Install it with `pip install bitsandbytes`, or use {', '.join(OWN)}.",
        )
    if config.name == "paged_adamw_8bit" and device.type != "cuda":
        raise UserError(
            f"The optimiser {config.name}",
            f"moves its state between a GPU and the memory of the machine, and the model is on {device}.",
            "Use adamw_8bit there.",
        )
    if dtype is torch.float64:
        raise UserError(
            f"The optimiser {config.name}",
            "does not know weights in float64.",
            "Use --dtype float32, or adamw_torch.",
        )


def optimiser_of(config: OptimiserConfig, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Return the optimiser of these groups of weights, see `decayed_groups`, at a learning rate."""
    if config.name in OWN:
        return OWN[config.name](groups, lr=rate)
    from bitsandbytes import optim

    made: torch.optim.Optimizer = getattr(optim, BITSANDBYTES[config.name])(groups, lr=rate)
    return made
