"""Models in: what can be wrong with a folder is said clearly, and what is loaded is what was asked for."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, BertConfig, T5Config

from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.config import ModelConfig
from mrd_core.model.likelihood import Scorer
from mrd_core.model.loading import choose_device, choose_dtype, keep_norms_fine, load, placement, weight_bytes
from mrd_core.model.weights import parameter_count
from tests.support import tiny
from tests.support.tiny import encode

# peft calls what transformers will rename.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

SAMPLES = tiny.encoded(9, 14, 5)


def save(folder: Path, network: Any = None, **special: Any) -> Path:
    """Write a tiny model and its tokenizer as transformers does."""
    tokenizer = tiny.tokenizer(**special)
    (network or tiny.llama(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete tiny model."""
    return save(tmp_path / "model")


def refusal(source: object, **config: Any) -> UserError:
    """Return the error that loading ends with."""
    with pytest.raises(UserError) as caught:
        load(ModelConfig(source=str(source), **config))
    assert caught.value.what
    assert caught.value.why
    assert caught.value.fix
    return caught.value


def test_a_complete_folder_is_loaded_ready_to_score(folder: Path) -> None:
    model = load(ModelConfig(source=str(folder), device="cpu"))
    assert (model.device.type, model.dtype, model.context) == ("cpu", torch.float32, tiny.CONTEXT)
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert set(model.choices) == {"device", "dtype"}
    network = AutoModelForCausalLM.from_pretrained(folder)
    np.testing.assert_array_equal(tiny.log_probs(model.network, SAMPLES), tiny.log_probs(network, SAMPLES))


def test_fp64_changes_parameters_and_leaves_buffers(folder: Path) -> None:
    model = load(ModelConfig(source=str(folder), device="cpu", dtype="float64"))
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float64}
    assert {buffer.dtype for buffer in model.network.buffers()} == {torch.float32}


def test_bf16_keeps_norm_weights_in_fp32_and_runs(folder: Path) -> None:
    model = load(ModelConfig(source=str(folder), device="cpu", dtype="bfloat16"))
    kinds = {name: parameter.dtype for name, parameter in model.network.named_parameters()}
    assert all((dtype is torch.float32) == ("norm" in name) for name, dtype in kinds.items())
    fine = AutoModelForCausalLM.from_pretrained(folder)
    found, expected = tiny.log_probs(model.network, SAMPLES), tiny.log_probs(fine, SAMPLES)
    assert 1e-4 < np.abs(found - expected).mean() < 0.1


def test_only_layers_without_parts_are_kept_fine() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.LayerNorm(3)).to(torch.bfloat16)
    layer.register_parameter("sinks", torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16)))
    keep_norms_fine(layer)
    assert layer[0].weight.dtype is layer.sinks.dtype is torch.bfloat16
    assert layer[1].weight.dtype is torch.float32
    assert layer(torch.ones(2, 3, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere")
    assert "nowhere" in error.what
    assert "does not exist" in error.why


def test_a_path_to_a_file_is_no_folder(folder: Path) -> None:
    assert "is not a folder" in refusal(folder / "model.safetensors").why


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "has no *.safetensors" in refusal(folder).why


def test_pickled_weights_are_refused_without_being_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    error = refusal(folder)
    assert "pickled" in error.why
    assert "save_pretrained" in error.fix


def test_an_encoder_and_an_encoder_decoder_are_refused(tmp_path: Path) -> None:
    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path / "bert")
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path / "t5")
    assert "BertForMaskedLM, not a decoder-only language model" in refusal(tmp_path / "bert").why
    assert "T5ForConditionalGeneration, not a decoder-only" in refusal(tmp_path / "t5").why


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\x02" + bytes(7) + b"[]x"],
)
def test_weights_that_are_no_safetensors_are_corrupt(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    error = refusal(folder)
    assert "model.safetensors" in error.what
    assert "is corrupt" in error.why


def test_weights_cut_short_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "could not be read" in refusal(folder).why


def test_weights_that_are_missing_are_not_filled_with_random_numbers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    error = refusal(folder)
    assert "lacks 9 of its weights" in error.why
    assert "model.layers.2" in error.why


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    network = tiny.llama(vocab_size=len(tiny.tokenizer()), tie_word_embeddings=True)
    model = load(ModelConfig(source=str(save(tmp_path, network)), device="cpu"))
    assert model.network.lm_head.weight is model.network.model.embed_tokens.weight


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    assert "could not be read" in refusal(folder).why


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": "no-such-architecture"}'])
def test_a_bad_config_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "could not be read" in refusal(folder).why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hidden_size": "a"}, "hidden_size"),
        ({"num_attention_heads": 0}, "could not be read"),
        ({"num_hidden_layers": [2]}, "num_hidden_layers"),
        ({"vocab_size": None}, "vocab_size"),
        ({"rope_parameters": 3}, "could not be read"),
        ({"num_hidden_layers": 100_000}, "has 100,000 layers in its configuration and only"),
    ],
)
def test_a_config_that_fits_no_model_is_refused(folder: Path, change: dict[str, Any], why: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert why in refusal(folder).why


def test_a_missing_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    error = refusal(folder)
    assert "tokenizer" in error.why
    assert "tokenizer.json" in error.fix


def test_a_tokenizer_without_eos_is_refused_before_scoring(tmp_path: Path) -> None:
    model = load(ModelConfig(source=str(save(tmp_path, eos_token=None)), device="cpu"))
    with pytest.raises(UserError, match="no end-of-sequence token"):
        model.encoder(ModelConfig())


def test_a_tokenizer_without_padding_is_no_hindrance(tmp_path: Path) -> None:
    model = load(ModelConfig(source=str(save(tmp_path, pad_token=None)), device="cpu"))
    assert len(encode(tiny.forget_set(("q", "a")), model.tokenizer, model.context, "plain")) == 1


@pytest.mark.slow
def test_an_unreachable_hub_is_named(folder: Path, tmp_path: Path) -> None:
    nowhere = "no-such-organisation/no-such-model"
    # A process of its own: the hub's client reads its environment once.
    probe = (
        "from mrd_core import errors\nfrom mrd_core.model import config, loading as models\n"
        f"for wish in ({{'source': {nowhere!r}}}, {{'source': {str(folder)!r}, 'adapter': {nowhere!r}}}):\n"
        "    try: models.load(config.ModelConfig(**wish))\n"
        "    except errors.UserError as error: print(error.what, error.why.replace('\\n', ' '))"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    model, adapter = done.stdout.splitlines()
    assert model.startswith(f"The model '{nowhere}' is no local folder, and could not be fetched from the hub")
    assert adapter.startswith(f"The adapter '{nowhere}' is no local folder, and could not be fetched from the hub")


def write_adapter(folder: Path, **changes: Any) -> Path:
    """Write a LoRA adapter, not zero, for a tiny Llama with these changes."""
    network = tiny.llama(vocab_size=len(tiny.tokenizer()), **changes)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    tiny.seeded(lambda: get_peft_model(network, config)).save_pretrained(folder)
    return folder


def test_a_merged_adapter_changes_the_scores_as_peft_does(folder: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    plain = load(ModelConfig(source=str(folder), device="cpu")).network
    merged = load(ModelConfig(source=str(folder), adapter=str(adapter), device="cpu")).network
    wrapped = PeftModel.from_pretrained(copy.deepcopy(plain), adapter).eval()
    batch = torch.from_numpy(SAMPLES.samples[0].tokens)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(batch).logits, wrapped(batch).logits, rtol=1e-4, atol=1e-4)
    assert np.abs(tiny.log_probs(merged, SAMPLES) - tiny.log_probs(plain, SAMPLES)).max() > 0.01
    assert [name for name, _ in Scorer(merged).named_parameters()] == [
        name for name, _ in Scorer(plain).named_parameters()
    ]


def test_a_missing_adapter_is_named(folder: Path, tmp_path: Path) -> None:
    error = refusal(folder, adapter=str(tmp_path / "gone"))
    assert error.what == f"The adapter '{tmp_path / 'gone'}'"
    assert "does not exist" in error.why


@pytest.mark.parametrize("remaining", ["adapter_model.bin", "nothing"])
def test_a_pickled_adapter_is_refused(folder: Path, tmp_path: Path, remaining: str) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / remaining)
    assert "has no adapter_model.safetensors" in refusal(folder, adapter=str(adapter)).why


@pytest.mark.parametrize("content", [b"", b"garbage that is long enough to be read"])
def test_a_corrupt_adapter_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").write_bytes(content)
    assert "could not be put onto the model" in refusal(folder, adapter=str(adapter)).why


def test_an_adapter_without_its_config_is_refused(folder: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    (adapter / "adapter_config.json").unlink()
    assert "adapter_config.json" in refusal(folder, adapter=str(adapter)).fix


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 32}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}], ids=str
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_for_another_model_is_refused(folder: Path, tmp_path: Path, changes: dict[str, int]) -> None:
    error = refusal(folder, adapter=str(write_adapter(tmp_path / "adapter", **changes)))
    assert "q_proj" in error.why
    assert "trained on this very model" in error.fix


@pytest.mark.parametrize("device", ["warp", "cuda:x", "mps", "meta"])
def test_a_device_that_cannot_score_is_refused(device: str) -> None:
    with pytest.raises(UserError, match=device) as caught:
        choose_device(device)
    assert "cpu or cuda" in caught.value.fix


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="sees 0 CUDA devices"):
        choose_device("cuda")
    assert choose_device("auto")[0].type == "cpu"


def test_every_dtype_is_chosen_with_a_reason() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert choose_dtype("auto", cpu, torch.bfloat16)[0] is torch.float32
    assert choose_dtype("auto", gpu, torch.bfloat16)[0] is torch.bfloat16
    assert choose_dtype("auto", gpu, torch.float16)[0] is torch.float32
    assert choose_dtype("float64", gpu, torch.bfloat16) == (torch.float64, ("float64", "as asked"))


def test_a_model_too_large_says_what_would_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = parameter_count(folder)
    monkeypatch.setattr(models, "free_bytes", lambda _device: 3 * count)
    error = refusal(folder, device="cpu", dtype="float32")
    assert "GiB in float32" in error.what
    assert "too large for cpu" in error.why
    assert error.fix == "It would fit in bfloat16."
    assert load(ModelConfig(source=str(folder), device="cpu", dtype="bfloat16")).dtype is torch.bfloat16
    monkeypatch.setattr(models, "free_bytes", lambda _device: count)
    assert "smaller model" in refusal(folder, device="cpu").fix


def test_a_model_is_spread_over_gpus_only_where_one_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "free_bytes", lambda _device: 100)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    gpu = torch.device("cuda", 0)
    assert placement(gpu, 90, torch.float32) is None
    assert placement(gpu, 190, torch.float32) == "auto"
    with pytest.raises(UserError, match="too large"):
        placement(gpu, 210, torch.float32)
    with pytest.raises(UserError, match="too large"):
        placement(tiny.CPU, 190, torch.float32)


def test_weights_are_counted_from_headers_alone(folder: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(folder)
    expected = sum(parameter.numel() for parameter in network.parameters())
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert parameter_count(folder) == expected
    assert weight_bytes(folder, torch.bfloat16) == 2 * expected
    network.save_pretrained(folder, max_shard_size="10KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert parameter_count(folder) == expected


def test_an_adapter_that_is_not_lora_is_refused(folder: Path, tmp_path: Path) -> None:
    network = tiny.llama(vocab_size=len(tiny.tokenizer()))
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(network, config).save_pretrained(tmp_path / "prompt")
    with pytest.raises(UserError, match="only LoRA can be merged"):
        load(ModelConfig(source=str(folder), adapter=str(tmp_path / "prompt"), device="cpu"))
