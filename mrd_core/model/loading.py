"""Models in: the demo, a local folder, a GGUF file or a hub id, with LoRA adapters.

Weights are read from safetensors or GGUF only, and no code that comes with a model is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES as MULTIMODAL
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import GgufConfig

from mrd_core.errors import UserError
from mrd_core.model.config import ModelConfig
from mrd_core.model.encoder import Encoder
from mrd_core.model.encoding import EncodedSample
from mrd_core.model.generation import end_tokens
from mrd_core.model.gguf_file import contents, dequantised, is_gguf, require_positions_read, unmark
from mrd_core.model.lengths import context_of, rope_switch
from mrd_core.model.location import brief, location_of
from mrd_core.model.own_pass import require_own_log_probs
from mrd_core.model.reader import BATCH_TOKENS, Reader
from mrd_core.model.weights import parameter_count
from mrd_core.settings.configuration import Choice
from mrd_core.settings.places import expanded

ADAPTER_WEIGHTS = "adapter_model.safetensors"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
# What transformers, peft and safetensors raise over files they cannot make sense of.
UNREADABLE = (
    *(OSError, ValueError, LookupError, RuntimeError, ArithmeticError, TypeError, AttributeError),
    *(SafetensorError, StrictDataclassError),
)
# What weights are trained in unless another precision is asked for.
TRAINING_DTYPE = Choice("float32", "steps of a usual learning rate are smaller than bf16's spacing")
# Of these the whole, images and all, does not run in transformers 5; their text part does.
TEXT_ALONE = ("llama4",)
# Where a model does not say how long its context is.
DEFAULT_CONTEXT = 2048


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model, ready to be scored: evaluation mode, gradients off.

    Attributes:
        network: The transformers model.
        tokenizer: Its tokenizer.
        device: Where token ids go.
        dtype: Precision of the matrices.
        context: Longest sequence [tokens].
        choices: What was decided on the way (`device`, `dtype`), with reasons.
    """

    network: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    context: int
    choices: dict[str, Choice]

    def encoder(
        self, config: ModelConfig, stored: Mapping[tuple[str, str], EncodedSample] | None = None
    ) -> Encoder:
        """Return what turns prompts and answers into tokens for it, see `Encoder`."""
        words = self.network.get_input_embeddings().weight.shape[0]
        return Encoder.of(config, self.tokenizer, self.context, words, stored)

    def reader(
        self, batch_tokens: int | Literal["auto"] = "auto", before_batch: Callable[[], None] = lambda: None
    ) -> Reader:
        """Return the model as it is read, see `Reader`; batches are as large as is usual for the device."""
        most = BATCH_TOKENS[self.device.type] if batch_tokens == "auto" else batch_tokens
        end_ids, switch = end_tokens(self.tokenizer, self.network), rope_switch(self.network.config)
        return Reader(self.network, self.device, most, before_batch, end_ids, switch)


def load(config: ModelConfig, dtype: torch.dtype | None = None, *, spread: bool = False) -> LoadedModel:
    """Load the model that `config` names.

    Args:
        config: Source, adapter, and the wishes for device and dtype.
        dtype: Overrides the wish for the dtype (a run that resumes, or moves to a finer one).
        spread: Whether its layers are to lie on all GPUs, also where one would hold them.

    Raises:
        UserError: The source is missing, unreachable, gated, has no safetensors, is no decoder-only language
            model, or does not fit into memory.
    """
    location = location_of(config.source)
    # The whole file is looked at first, because transformers tells little of one that is damaged.
    weights = {"weights": dequantised(location)} if location.is_file() else {}
    settings = read_part(AutoConfig, location, config.source)
    if weights:
        require_positions_read(location, settings)
    auto_class = _class_for(settings, config.source)
    _require_plain_weights(settings, config.source)
    require_safetensors(location, config.source)
    device, device_choice = choose_device(config.device)
    stored = getattr(settings, "dtype", None) or torch.float32
    chosen, dtype_choice = choose_dtype(config.dtype, device, stored)
    if dtype is not None and dtype is not chosen:
        chosen, dtype_choice = (dtype, Choice(name_of(dtype), "a coarser dtype did not pass the precision gate"))
    device_map = spread_over(device) if spread else placement(device, weight_bytes(location, chosen), chosen)
    _require_layers(settings, location, config.source)
    network = read_network(auto_class, location, config.source, chosen, device_map or device)
    settle(network)
    for adapter in config.adapter:
        network = _merge_adapter(network, adapter)
    network.eval().requires_grad_(False)
    if chosen is torch.bfloat16:
        keep_norms_fine(network)
    where = next(network.parameters()).device
    require_own_log_probs(network, where)
    context = context_of(network.config)
    return LoadedModel(
        network=network,
        tokenizer=read_part(AutoTokenizer, location, config.source),
        device=where,
        dtype=chosen,
        context=int(context) if isfinite(context) else DEFAULT_CONTEXT,
        choices={"device": device_choice, "dtype": dtype_choice} | _text_part(settings, network) | weights,
    )


def choose_device(wanted: str) -> tuple[torch.device, Choice]:
    """Return the device and why.

    Raises:
        UserError: A device is asked for that torch does not see.
    """
    available = torch.cuda.is_available()
    if wanted == "auto":
        if available:
            return torch.device("cuda", 0), Choice("cuda:0", f"found {torch.cuda.get_device_name(0)}")
        return torch.device("cpu"), Choice("cpu", "torch sees no CUDA device")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f"The device '{wanted}'", "is not a device.", "Use auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(
            f"The device '{wanted}'",
            "cannot hold the fp64 baseline that scores are measured against.",
            "Use auto, cpu or cuda.",
        )
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(
            f"The device '{wanted}'",
            f"is not there: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices.",
            "Use --device auto or cpu, or install a CUDA build of torch.",
        )
    return device, Choice(wanted, "as asked")


def devices(wanted: str) -> tuple[torch.device, ...]:
    """Return where the processes of a run may be: on every GPU unless one is named, or all on the same CPU.

    Raises:
        UserError: A device is asked for that torch does not see.
    """
    device, _ = choose_device(wanted)
    if device.type == "cuda" and wanted in ("auto", "cuda"):
        return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return (device,)


def is_spread(config: ModelConfig) -> bool:
    """Return whether a model lies on several GPUs because one does not hold it.

    Raises:
        UserError: The source is missing, or fits nowhere.
    """
    device, _ = choose_device(config.device)
    if device.type == "cpu" or torch.cuda.device_count() < 2:
        return False
    location = location_of(config.source)
    stored = getattr(read_part(AutoConfig, location, config.source), "dtype", None) or torch.float32
    dtype, _ = choose_dtype(config.dtype, device, stored)
    return placement(device, weight_bytes(location, dtype), dtype) is not None


def choose_dtype(wanted: str, device: torch.device, stored: torch.dtype) -> tuple[torch.dtype, Choice]:
    """Return the precision of the perturbed passes and why."""
    if wanted != "auto":
        return DTYPES[wanted], Choice(wanted, "as asked")
    if device.type == "cpu":
        return torch.float32, Choice("float32", "on a CPU bfloat16 saves little time and loses small σ")
    if stored is torch.bfloat16:
        return torch.bfloat16, Choice("bfloat16", "the weights are stored in it; the precision gate decides")
    return torch.float32, Choice("float32", f"the weights are stored in {name_of(stored)}")


def name_of(dtype: torch.dtype) -> str:
    """Return `float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def _class_for(settings: Any, source: str) -> Any:
    """Return the Auto class that reads a causal language model, or one that reads images or sound beside texts.

    Raises:
        UserError: It is another kind of model.
    """
    architectures = list(getattr(settings, "architectures", None) or [])
    if settings.is_encoder_decoder or (architectures and not _architectures() & set(architectures)):
        raise UserError(
            f"The model '{source}'",
            f"is a {architectures[0] if architectures else settings.model_type}, not a decoder-only language "
            "model: it has no p(token | tokens before).",
            "Choose a model whose config.json names a …ForCausalLM architecture.",
        )
    whole = MULTIMODAL.get(settings.model_type)
    if whole in architectures and settings.model_type not in TEXT_ALONE:
        return AutoModelForMultimodalLM
    return AutoModelForCausalLM


def _architectures() -> set[str]:
    named = [*CAUSAL.values(), *MULTIMODAL.values()]
    return {name for names in named for name in ([names] if isinstance(names, str) else names)}


def _text_part(settings: Any, network: Any) -> dict[str, Choice]:
    """Say what is read of a model that reads images or sound, too."""
    if settings.get_text_config() is settings:
        return {}
    is_whole = network.config.model_type == settings.model_type
    rest = "get no noise and no training" if is_whole else "are not loaded, nor saved with what is trained"
    reason = f"the model reads more than text; its weights for images and sound {rest}"
    return {"weights": Choice("the text part", reason)}


def _require_plain_weights(settings: Any, source: str) -> None:
    quantised = getattr(settings, "quantization_config", None)
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised.quant_method
        raise UserError(
            f"The model '{source}'",
            f"is quantised ({method}, as its config.json says): noise on quantised weights is rounded away, so "
            "there is no score of them.",
            "Give the model before it was quantised.",
        )


def _require_layers(settings: Any, location: Path, source: str) -> None:
    """Refuse a configuration with more layers than there are weights, before they are made, one by one."""
    layers = getattr(settings.get_text_config(), "num_hidden_layers", None)
    n_weights = len(contents(location).weights) if location.is_file() else 0
    with explained(source):
        for path in location.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                n_weights += len(file.keys())
    if isinstance(layers, int) and layers > n_weights:
        raise UserError(
            f"The model '{source}'",
            f"has {layers:,} layers in its configuration and only {n_weights:,} weights in its files.",
            "Give the folder of the whole model: config.json and all files that save_pretrained wrote.",
        )


def require_safetensors(location: Path, source: str) -> None:
    """Refuse a folder without safetensors (UserError); `source` is what the user called it."""
    if location.is_file() or any(location.glob("*.safetensors")):
        return
    pickled = any(any(location.glob(pattern)) for pattern in ("*.bin", "*.pt", "*.pth"))
    raise UserError(
        f"The model '{source}'",
        "has its weights only as pickled files, which can run code when opened."
        if pickled
        else "has no *.safetensors file.",
        "Convert it once where you trust it: load it with transformers and call save_pretrained.",
    )


def read_part(kind: Any, location: Path, source: str) -> Any:
    """Return a configuration or a tokenizer (`kind` is its Auto class) from where a model lies, as `explained`."""
    with explained(source):
        return kind.from_pretrained(**_named(location), local_files_only=True, trust_remote_code=False)


def _named(location: Path) -> dict[str, Any]:
    """Return how transformers is told where a model lies: in a folder, or in a file of one."""
    if location.is_dir():
        return {"pretrained_model_name_or_path": location}
    return {"pretrained_model_name_or_path": location.parent, "gguf_file": location.name}


def read_network(
    kind: Any, location: Path, source: str, dtype: torch.dtype, where: torch.device | str | None = None
) -> Any:
    """Return a network (`kind` is its Auto class) from a folder's safetensors or a GGUF file, as `explained`.

    Raises:
        UserError: It lacks weights, or does not fit into the memory of the devices.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with explained(source):
        # Norms and buffers are built in their own precision; only parameters take `dtype`.
        network, report = kind.from_pretrained(
            **_named(location),
            quantization_config=GgufConfig(dequantize=True) if location.is_file() else None,
            dtype=torch.float32 if dtype is torch.float64 else dtype,
            device_map=where,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    # transformers fills missing weights with random numbers, and the scores would be those of noise.
    if missing := report["missing_keys"]:
        raise UserError(
            f"The model '{source}'",
            f"lacks {len(missing)} of its weights, such as {min(missing)}.",
            "Give the folder of the whole model: config.json and all files that save_pretrained wrote.",
        )
    if any(parameter.device.type == "meta" for parameter in network.parameters()):
        raise UserError(
            f"The model '{source}'",
            f"does not fit into the memory of the devices in {name_of(dtype)}.",
            "Use bfloat16, more or larger GPUs, or a smaller model.",
        )
    if location.is_file():
        unmark(network)
    if dtype is torch.float64:
        for parameter in network.parameters():
            parameter.data = parameter.data.double()
    return network


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turn what transformers raises over a folder into what the user can do about it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except ImportError as error:
        raise UserError(
            f"The model '{source}'",
            f"needs a package that is not installed: {brief(error)}",
            "Install it where this program is installed.",
        ) from error
    except UNREADABLE as error:
        why = f"could not be read: {brief(error)}"
        fix = "The folder needs config.json, *.safetensors and tokenizer.json of one and the same model."
        if is_gguf(expanded(source)):
            fix = "transformers does not read every GGUF: give the folder that the model was converted from."
        if "tokenizer" in brief(error).lower():
            why = "has no tokenizer that could be read."
            fix = "Put its tokenizer.json and tokenizer_config.json (save_pretrained writes both) into the folder."
        raise UserError(f"The model '{source}'", why, fix) from error


def _merge_adapter(network: Any, adapter: str) -> Any:
    """Merge a LoRA adapter, so that the noise falls on the weights that answer.

    Raises:
        UserError: The adapter is missing, pickled, or made for another model.
    """
    from peft import PeftConfig, PeftModel, PeftType, get_peft_model_state_dict

    folder = location_of(adapter, "adapter")
    if not (folder / ADAPTER_WEIGHTS).exists():
        raise UserError(
            f"The adapter '{adapter}'",
            f"has no {ADAPTER_WEIGHTS}.",
            "Give the folder that peft's save_pretrained wrote.",
        )
    advice = "Check that it was trained on this very model and that adapter_config.json is beside it."
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            stored = _lora_names(file.keys())
        kind = PeftConfig.from_pretrained(str(folder)).peft_type
        if kind != PeftType.LORA:
            raise ValueError(f"it is a {kind} adapter, and only LoRA can be merged into the weights")
        adapted = PeftModel.from_pretrained(network, str(folder))
    except UNREADABLE as error:
        raise UserError(
            f"The adapter '{adapter}'", f"could not be put onto the model: {brief(error)}", advice
        ) from error
    # peft only warns when the adapter's layers and the model's are not the same.
    unmatched = stored ^ _lora_names(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if unmatched:
        raise UserError(
            f"The adapter '{adapter}'",
            f"is for another model: {len(unmatched)} of its weights and the model's layers do not pair up, such "
            f"as {min(unmatched)}.",
            advice,
        )
    return adapted.merge_and_unload()


def _lora_names(names: Iterable[str]) -> set[str]:
    return {name for name in names if "lora_A" in name or "lora_B" in name}


def switch_chance_off(network: Any) -> None:
    """Keep training passes free of chance: they also tell who is forgotten, and are held against a reference."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        # Families call them attention_dropout, attn_dropout_p, layerdrop, router_jitter_noise, ...
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and re.search("drop|jitter", name):
                setattr(module, name, 0.0)


def settle(network: Any) -> None:
    """Let a model compute in every precision and leave its weights alone, which changes no answer."""
    # Of several ways to compute experts this one knows every precision.
    if hasattr(network, "set_experts_implementation"):
        network.set_experts_implementation("eager")
    # RWKV divides the weights of deep layers in place, to stay within fp16.
    if hasattr(network.config, "rescale_every"):
        network.config.rescale_every = 0


def keep_norms_fine(network: nn.Module) -> None:
    """Keep the 1-D weights of normalisation layers in fp32 inside a bf16 model.

    They are near 1, where bf16 numbers are 2⁻⁸ apart: noise of any usual σ would be rounded away.
    """
    matrices: dict[nn.Module, nn.Parameter] = {}
    for layers in network.modules():
        for layer in layers.children() if isinstance(layers, nn.ModuleList) else ():
            matrix = next((parameter for parameter in layer.parameters() if parameter.dim() > 1), None)
            if matrix is not None:
                matrices |= dict.fromkeys(layer.modules(), matrix)
    for layer in network.modules():
        own = list(layer.parameters(recurse=False))
        # An attention layer may have a 1-D weight of its own (sinks) beside the matrices of its parts.
        if own and not any(layer.children()) and all(parameter.dim() == 1 for parameter in own):
            layer.float()
            _cast_around(layer, matrices.get(layer))


def _cast_around(layer: nn.Module, matrix: nn.Parameter | None) -> None:
    """Let a layer in fp32 take and give the precision around it.

    Args:
        layer: A normalisation.
        matrix: One of the decoder layer that it is a part of; None behind the last.
    """
    arrived: list[torch.dtype] = []

    def before(_layer: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        arrived[:] = [args[0].dtype]
        return (args[0].float(), *args[1:])

    def after(_layer: nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
        # Some families bring what they normalise into the precision of the norm's weights, whatever follows.
        return output.to(arrived[0] if matrix is None else matrix.dtype)

    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after)


def weight_bytes(location: Path, dtype: torch.dtype) -> int:
    """Return the bytes that a model's weights take in `dtype`."""
    return parameter_count(location) * dtype.itemsize


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on `device` now [bytes]."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def placement(device: torch.device, needed: int, dtype: torch.dtype) -> str | None:
    """Return `auto` where the model must be spread over all GPUs, else None for the one device.

    Raises:
        UserError: It fits nowhere; says how much is needed and what would fit.
    """
    if needed <= free_bytes(device):
        return None
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        everywhere = sum(free_bytes(torch.device("cuda", i)) for i in range(torch.cuda.device_count()))
        if needed <= everywhere:
            return "auto"
    free = free_bytes(device)
    fitting = [name for name, kind in DTYPES.items() if needed // dtype.itemsize * kind.itemsize <= free]
    advice = f"It would fit in {' or '.join(fitting)}." if fitting else "Use a larger device or a smaller model."
    raise UserError(
        f"The model ({needed / 2**30:.1f} GiB in {name_of(dtype)})",
        f"is too large for {device}, which has {free / 2**30:.1f} GiB free.",
        advice,
    )


def spread_over(device: torch.device) -> str:
    """Return how layers are spread over all GPUs, as many on each as on the others.

    Raises:
        UserError: There is one, or none.
    """
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        raise UserError(
            "Spreading the layers of a model",
            f"takes several GPUs, and torch sees {torch.cuda.device_count()}.",
            "Leave --spread out.",
        )
    return "balanced"


def cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(processes: int = 1) -> Choice:
    """Take half of the cores for torch, shared by so many processes, unless the environment says how many.

    Threads that wait for one another stand still where another program holds one of their cores: on two cores that
    are in use, two threads are many times slower than one.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        torch.set_num_threads(int(asked))
        return Choice(asked, "as OMP_NUM_THREADS says")
    torch.set_num_threads(max(1, cores() // 2 // processes))
    shared = f", shared by {processes} processes" if processes > 1 else ""
    return Choice(str(torch.get_num_threads()), f"half of the {cores()} cores{shared}: they wait for one another")
