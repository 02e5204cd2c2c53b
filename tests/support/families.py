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
    "unpadded_vocab_size": 512,
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
INKLING_2: dict[str, Any] = EXPERTS | {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 16,
    "rel_extent": 32,
    "sliding_window_size": 8,
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
# The decoder of an encoder-decoder, which has its own names for sizes.
HALF: dict[str, Any] = DECODER | {
    "is_encoder_decoder": False,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "hidden_size": None,
    "decoder_layers": 2,
    "encoder_layers": 2,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96,
    "d_model": 64,
}
PER_LAYER: dict[str, Any] = {"vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 16}
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
    "gemma3n_text": PER_LAYER
    | {
        "num_kv_shared_layers": 0,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0, 0.0],
        "layer_types": ["sliding_attention", "full_attention"],
        "final_logit_softcapping": 3.0,
    },
    "gemma4_text": PER_LAYER | {"num_kv_shared_layers": 0, "global_head_dim": 16},
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


# What each other type needs beside BASE.
OTHERS: dict[str, dict[str, Any]] = {
    "emu3": {"text_config": BASE},
    "git": {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        }
    },
    "moshi": {"ffn_dim": 96},
    "qwen4_exp_text": EXPERTS
    | LINEAR
    | {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "ngram_vocab_size_base": 50,
        "hc_lowrank": 8,
        "split_ngram_parts": 1,
    },
    "afmoe": EXPERTS,
    "apertus": {},
    "apertus1p5_text": {},
    "arcee": {},
    "aria_text": {},
    "axk1": LATENT,
    "axk2": LATENT,
    "bailing_hybrid": {},
    "bart": HALF,
    "beam": {},
    "bert": DECODER,
    "bert-generation": DECODER,
    "big_bird": DECODER,
    "bigbird_pegasus": HALF,
    "biogpt": {},
    "bitnet": {},
    "blenderbot": HALF,
    "blenderbot-small": HALF,
    "camembert": DECODER,
    "codegen": {"rotary_dim": 8, "n_embd": 64, "n_head": 4, "n_layer": 2},
    "cohere2": {"logit_scale": 0.25},
    "cohere2_moe": {},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "ctrl": {},
    "cwm": {},
    "data2vec-text": DECODER,
    "dbrx": {
        "d_model": 64,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 256,
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
    },
    "deepseek_v2": LATENT | {"topk_method": "greedy"},
    "deepseek_v32": LATENT,
    "deepseek_v4": EXPERTS,
    "diffllama": {},
    "doge": {},
    "dory": {},
    "dots1": EXPERTS,
    "dots3_note_text": LATENT,
    "electra": DECODER,
    "ernie": DECODER,
    "ernie4_5": {},
    "ernie4_5_moe": EXPERTS,
    "exaone": {},
    "exaone4": {},
    "exaone_moe": EXPERTS,
    "falcon_mamba": {},
    "flex_olmo": {},
    "flint": {},
    "fuyu": {},
    "gemma4_unified_text": {},
    "glm": {},
    "glm4": {},
    "glm4_moe": EXPERTS,
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": LATENT,
    "gpt-sw3": {},
    "gpt_bigcode": {},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gpt_neox_japanese": {},
    "gptj": {"rotary_dim": 8, "n_embd": 64, "n_head": 4, "n_layer": 2},
    "granite_swa": {},
    "granitemoe": {},
    "granitemoe_swa": {},
    "granitemoehybrid": EXPERTS
    | MAMBA_2
    | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 32, "logits_scaling": 4.0},
    "granitemoeshared": {},
    "helium": {},
    "hrm_text": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": {},
    "hy_v3": EXPERTS,
    "hy_v4": LATENT,
    "hyperclovax": {},
    "inkling2_loop_text": INKLING_2,
    "inkling2_text": INKLING_2,
    "inkling_text": EXPERTS,
    "internlm3": {},
    "iquestcoder": {},
    "jais2": {},
    "jetmoe": {},
    "kimi_linear": LATENT
    | {"q_lora_rank": None, "linear_head_dim": 16, "linear_num_heads": 4, "num_local_experts": 4},
    "kolibri1": EXPERTS,
    "laguna": EXPERTS,
    "lara_mini": EXPERTS,
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": EXPERTS | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm3": {},
    "longcat_flash": LATENT,
    "mamba": {},
    "marian": HALF,
    "mbart": HALF,
    "megatron-bert": DECODER,
    "mellum": EXPERTS,
    "mimo_v2_flash": EXPERTS,
    "minicpm3": LATENT,
    "minimax": EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "block_size": 8},
    "minimax_m2": EXPERTS,
    "minimax_m3_vl_text": EXPERTS,
    "ministral": {},
    "ministral3": {},
    "modernbert-decoder": {},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "mvp": HALF,
    "nanochat": {},
    "nemotron": {},
    "nemotron_h": EXPERTS
    | {
        "hybrid_override_pattern": "M*",
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 1,
        "ssm_state_size": 16,
        "chunk_size": 8,
    },
    "olmo2": {},
    "olmo3": {},
    "olmo_hybrid": {},
    "olmoe": EXPERTS,
    "openai-gpt": {},
    "pegasus": HALF,
    "persimmon": {},
    "phi": {},
    "phimoe": EXPERTS,
    "plbart": HALF,
    "qwen2_moe": EXPERTS | {"layer_types": ["full_attention"] * 2},
    "qwen3_5_moe_text": EXPERTS,
    "qwen3_moe": EXPERTS,
    "qwen3_next": EXPERTS | LINEAR,
    "recurrent_gemma": {"lru_width": 64, "attention_window_size": 16, "block_types": ["recurrent", "attention"]},
    "rembert": DECODER,
    "roberta": DECODER,
    "roberta-prelayernorm": DECODER,
    "roc_bert": DECODER | {"enable_pronunciation": False, "enable_shape": False},
    "roformer": DECODER,
    "sarvam_mla": LATENT,
    "sarvam_moe": EXPERTS,
    "seed_oss": {},
    "smollm3": {},
    "solar_open": EXPERTS,
    "stablelm": {},
    "starcoder2": {},
    "trocr": {},
    "vaultgemma": {"final_logit_softcapping": 3.0},
    "whisper": HALF,
    "xglm": {"d_model": 64, "ffn_dim": 96, "attention_heads": 4, "num_layers": 2},
    "xlm": {"causal": True},
    "xlm-roberta": DECODER,
    "xlm-roberta-xl": DECODER,
    "xlstm": {},
    "xmod": DECODER | {"languages": ["en_XX"], "default_language": "en_XX"},
    "youtu": LATENT,
    "zamba": EXPERTS | LINEAR,
    "zamba2": {
        "num_hidden_layers": 3,
        "layers_block_type": ["mamba", "mamba", "hybrid"],
        "hybrid_layer_ids": [2],
        "mamba_d_state": 16,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "mamba_expand": 2,
        "chunk_size": 8,
        "num_mem_blocks": 1,
        "use_mem_rope": False,
        "adapter_rank": 8,
    },
    "zaya": EXPERTS | {"num_experts_per_tok": 1, "router_hidden_size": 16},
}

# Types that read more than text: what their text part needs beside BASE.
MULTIMODAL: dict[str, dict[str, Any]] = {
    "gemma3": {},
    "gemma3n": {},
    "gemma4": PER_LAYER | {"num_kv_shared_layers": 0, "global_head_dim": 16},
    "gemma4_unified": {},
    "got_ocr2": {},
    "internvl": {},
    "llama4": EXPERTS | {"intermediate_size_mlp": 96, "attention_chunk_size": 32},
    "llava": {},
    "mistral3": {},
    "mllama": {"cross_attention_layers": [1]},
    "moss_transcribe_diarize": {},
    "paligemma": {},
    "qwen2_audio": {},
    "qwen3_5": LINEAR,
    "qwen3_vl": {},
    "smolvlm": {},
}
# Their other parts, in the names of many.
SENSES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "image_size": 28,
    "patch_size": 14,
    "depth": 1,
    "num_heads": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
    "vision_output_dim": 64,
    "projection_dim": 64,
    "projector_input_dim": 64,
    "projector_output_dim": 64,
}
# Causal by name, and refused by the check of their own pass. What each needs beside BASE.
REFUSED: dict[str, dict[str, Any]] = {
    "cpmant": {},
    "prophetnet": HALF
    | {
        "num_decoder_layers": 2,
        "num_encoder_layers": 2,
        "num_decoder_attention_heads": 4,
        "num_encoder_attention_heads": 4,
        "hidden_size": 64,
    },
    "xlnet": {"max_position_embeddings": None, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96},
}
# Of MULTIMODAL those whose whole is not read, and why.
NOT_WHOLE: dict[str, str] = {
    "gemma3n": "is refused without the package timm, which its part for images comes from",
    "llama4": "is read without its part for images: the class of transformers 5 that holds both does not run",
    "paligemma": "is refused: its prompt is read in both directions",
}
# Types of causal language models that are not tried, and why.
LEFT_OUT: dict[str, str] = {
    "blt": "reads bytes in patches, which a second model cuts: no tiny settings were found",
    "gemma4_assistant": "drafts for another model, whose keys and values it needs",
    "gemma4_unified_assistant": "drafts for another model, whose keys and values it needs",
    "musicgen": "writes sound in several codebooks",
    "musicgen_melody": "writes sound in several codebooks",
    "phi4_multimodal": "no tiny settings were found for its parts for images and sound",
    "reformer": "trains on texts alone whose length is a multiple of its chunks",
}
FAMILIES = QUICK | OTHERS


@cache
def network(family: str, steps: int = 80) -> Any:
    """Return a model of a family that nearly knows `samples` by heart, in fp32, in evaluation mode."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = built(family)
        settle(model)
        tiny.seeded(lambda: _fit(model, steps))
    return model.eval().requires_grad_(False)


def built(family: str) -> Any:
    """Return a random model of a family: the whole of one that reads more than text."""
    kind = transformers.AutoModelForMultimodalLM if family in MULTIMODAL else transformers.AutoModelForCausalLM
    return tiny.seeded(lambda: kind.from_config(configuration(family)))


def configuration(family: str) -> Any:
    """Return a family's configuration."""
    kind = getattr(transformers, CONFIG_MAPPING_NAMES[family])
    changes = (FAMILIES | MULTIMODAL | REFUSED)[family]
    settings = {name: value for name, value in (BASE | changes).items() if value is not None}
    if family not in MULTIMODAL:
        return kind(**settings)
    usual = kind()
    text = usual.get_text_config()
    parts = {"text_config": settings | {"model_type": text.model_type}}
    for name in kind.sub_configs:
        part = getattr(usual, name)
        if part is not None and part is not text:
            sizes = {size: value for size, value in SENSES.items() if hasattr(part, size)}
            parts[name] = sizes | {"model_type": part.model_type}
    return kind(**parts)


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
