"""Families of causal language models, each so small that a test builds it and fits it to a few rows.

A family is a type of model as config.json names it. Two types of one class are one family.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from mrd_core.model.encoding import Encoded
from mrd_core.model.loading import settle
from tests.support import tiny

BASE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS: dict[str, Any] = {
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "shared_expert_intermediate_size": 32,
}
LATENT: dict[str, Any] = EXPERTS | {
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
}
MAMBA_2: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
DECODER: dict[str, Any] = {"is_decoder": True}
SHORT = 16
LONG_ROPE: dict[str, Any] = {
    "original_max_position_embeddings": SHORT,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": SHORT,
    },
}

# Tried with every commit. What each type needs beside BASE.
QUICK: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "qwen3_5_text": LINEAR,
    "mistral": {"sliding_window": 8},
    "mixtral": EXPERTS,
    "gemma": {},
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3_text": {},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": 512,
        "hidden_size_per_layer_input": 16,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0, 0.0],
        "layer_types": ["sliding_attention", "full_attention"],
        "final_logit_softcapping": 3.0,
    },
    "gemma4_text": {
        "vocab_size_per_layer_input": 512,
        "hidden_size_per_layer_input": 16,
        "num_kv_shared_layers": 0,
        "global_head_dim": 16,
    },
    "phi3": LONG_ROPE,
    "gpt2": {},
    "gpt_neox": {},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 96},
    "bloom": {},
    "falcon": {"head_dim": None},
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.1, "embedding_multiplier": 12.0},
    "cohere": {"logit_scale": 0.0625},
    "olmo": {},
    "deepseek_v3": LATENT,
    "gpt_oss": EXPERTS,
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2, "n_groups": 1, "state_size": 16, "chunk_size": 8},
    "jamba": EXPERTS
    | {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
        "mamba_d_state": 8,
    },
    "bamba": MAMBA_2 | {"attn_layer_indices": [1]},
    "falcon_h1": MAMBA_2 | {"mamba_d_ssm": 64, "mamba_n_heads": 4},
    "llama4_text": EXPERTS | {"intermediate_size_mlp": 96, "attention_chunk_size": 32},
    "rwkv": {"context_length": 256, "attention_hidden_size": 64},
}


@cache
def network(family: str, steps: int = 80) -> Any:
    """Return a model of a family that nearly knows `samples` by heart, in fp32, in evaluation mode."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tiny.seeded(lambda: transformers.AutoModelForCausalLM.from_config(configuration(family)))
        settle(model)
        tiny.seeded(lambda: _fit(model, steps))
    return model.eval().requires_grad_(False)


def configuration(family: str) -> Any:
    """Return a family's configuration."""
    settings = {name: value for name, value in (BASE | QUICK[family]).items() if value is not None}
    return getattr(transformers, CONFIG_MAPPING_NAMES[family])(**settings)


def samples() -> Encoded:
    """Return samples of different lengths, two of them longer than SHORT."""
    return tiny.encoded(20, 12, 7, 18, vocabulary=300)


def _fit(model: Any, steps: int) -> None:
    model.get_output_embeddings().weight.data.normal_(0, 0.3)
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    texts = [torch.from_numpy(sample.tokens).unsqueeze(0) for sample in samples().samples]
    for step in range(steps):
        text = texts[step % len(texts)]
        logits = model(input_ids=text, use_cache=False).logits[0, :-1].float()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, text[0, 1:]).backward()
        optimiser.step()
