"""LoRA adapters: what is trained where the weights of the model stay as they are."""

from __future__ import annotations

from typing import Any

from mrd_core.errors import UserError


def adapted(network: Any, rank: int, alpha: int, *, checkpointing: bool) -> Any:
    """Return the peft wrapper of a model with a fresh LoRA adapter on all its linear layers.

    Args:
        network: A transformers causal language model; its own weights are frozen.
        rank: Rank of the adapter's matrices (Hu et al. 2022).
        alpha: The adapter is scaled by α / rank.
        checkpointing: Whether gradient checkpointing will be on. It follows gradients from the inputs, of which
            a frozen model has none unless they are asked for.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    if checkpointing:
        network.enable_input_require_grads()
    return get_peft_model(network, settings)


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
