"""LoRA adapters: what is trained where the weights of the model stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.model.loading import TRAINING_DTYPE, LoadedModel, load, switch_chance_off


def adapted(network: Any, rank: int, alpha: int, seed: int, *, checkpointing: bool = False) -> Any:
    """Return the peft wrapper of a model with a fresh LoRA adapter on all its linear layers.

    Args:
        network: A transformers causal language model; its own weights are frozen.
        rank: Rank of the adapter's matrices (Hu et al. 2022).
        alpha: The adapter is scaled by α / rank.
        seed: Of its first weights, which are random.
        checkpointing: Whether gradient checkpointing will be on. It follows gradients from the inputs, of which
            a frozen model has none unless they are asked for.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    if checkpointing:
        network.enable_input_require_grads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return get_peft_model(network, settings)


def changes(network: Any) -> Iterator[Tensor]:
    """Yield what an adapter adds to each weight that it has a part in, in the shape of the weight.

    Args:
        network: A model whose linear layers carry an adapter.
    """
    from peft.tuners.lora import Linear

    for module in network.modules():
        if isinstance(module, Linear):
            for name in module.active_adapters:
                yield module.get_delta_weight(name)


def load_trainable(
    config: ModelConfig,
    reasons: dict[str, str],
    *,
    keeps: Collection[str],
    frozen: bool = False,
    spread: bool = False,
) -> LoadedModel:
    """Load a model in a precision that can be trained, without dropout; `reasons` is told what was chosen and why.

    Args:
        config: Which model.
        reasons: For each automatic choice, what was chosen and why.
        keeps: The wishes for a precision that are kept.
        frozen: Whether its own weights stay as they are; those of a quantised model must.
        spread: Whether its layers are to lie on all GPUs.

    Raises:
        UserError: It cannot be loaded, or its weights have no gradients.
    """
    own = {}
    if config.dtype not in keeps:
        config = config.model_copy(update={"dtype": TRAINING_DTYPE.value})
        own = {"dtype": TRAINING_DTYPE.stated}
    model = load(config, spread=spread)
    switch_chance_off(model.network)
    reasons |= {name: choice.stated for name, choice in model.choices.items()} | own
    if not frozen:
        require_gradients(model.network, config.source)
    return model


def require_gradients(network: Any, source: str) -> None:
    """Refuse to train weights that have no gradients: those of a quantised model.

    Raises:
        UserError: Some weights are whole numbers, or quantised.
    """
    whole = any(not weight.dtype.is_floating_point for weight in network.parameters())
    if whole or getattr(network, "is_quantized", False):
        raise UserError(
            f"The model '{source}'",
            "is quantised, so its weights have no gradients.",
            "Train a LoRA adapter on it (--lora-rank 8), or take the model in full precision.",
        )
