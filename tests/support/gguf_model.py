"""The demo's model as a GGUF file, written by llama.cpp's own package, and the same weights as a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Stored
from safetensors.numpy import load_file, save_file

from mrd_core.demo import MODEL_DIR

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers": "blk",
}


def write_gguf(path: Path, *, parts: int = 1, scaling: str = "", weights: bool = True) -> Path:
    """Write the demo's model as a GGUF file: the last matrices of layers in 8 bits, other matrices in 16.

    Args:
        path: Of the file.
        parts: Of so many it says it is one.
        scaling: How it says that positions are stretched.
        weights: Whether it holds any.
    """
    settings = json.loads((MODEL_DIR / "config.json").read_text())
    tokenizer = json.loads((MODEL_DIR / "tokenizer.json").read_text())["model"]
    heads = settings["num_attention_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(settings["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
    writer.add_rope_freq_base(settings["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(settings["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(tokenizer["vocab"], key=tokenizer["vocab"].__getitem__))
    # Three of control, then texts.
    writer.add_token_types([3, 3, 3] + [1] * (settings["vocab_size"] - 3))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    writer.add_pad_token_id(settings["pad_token_id"])
    writer.add_bos_token_id(settings["bos_token_id"])
    writer.add_eos_token_id(settings["eos_token_id"])
    writer.add_chat_template((MODEL_DIR / "chat_template.jinja").read_text())
    if parts > 1:
        writer.add_uint16("split.count", parts)
    if scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling))
    for name, weight in load_file(MODEL_DIR / "model.safetensors").items() if weights else ():
        stored = name
        for ours, theirs in NAMES.items():
            stored = stored.replace(ours, theirs)
        if ".q_proj" in name or ".k_proj" in name:
            # llama.cpp rotates neighbours where transformers rotates halves.
            weight = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        kind = _kind(name, weight)
        writer.add_tensor(stored, gguf.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_rounded(folder: Path) -> Path:
    """Write the model that such a file stands for as a folder of safetensors."""
    shutil.copytree(MODEL_DIR, folder)
    weights = load_file(MODEL_DIR / "model.safetensors")
    kinds = {name: _kind(name, weight) for name, weight in weights.items()}
    rounded = {
        name: gguf.dequantize(gguf.quantize(weight, kinds[name]), kinds[name]).astype(np.float32)
        for name, weight in weights.items()
    }
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _kind(name: str, weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Stored:
    if weight.ndim == 1:
        return Stored.F32
    return Stored.Q8_0 if "down_proj" in name else Stored.F16
