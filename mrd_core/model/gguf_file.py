"""GGUF: a model in one file, as llama.cpp, LM Studio and Ollama keep it, most often quantised.

transformers reads it and brings its weights back to floating point; what is scored is the model that the rounded
weights stand for. The format holds numbers and texts alone, nothing that is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrd_core.errors import UserError
from mrd_core.settings.configuration import Choice

if TYPE_CHECKING:
    from gguf import GGUFReader

MAGIC = b"GGUF"
# How a part of a model that lies in several files says how many there are.
PARTS = "split.count"
# How positions are stretched, for a longer context than the model was trained on at first.
SCALING, SCALED = ".rope.scaling.type", ("rope_freqs", "rope_factors")


@dataclass(frozen=True)
class Contents:
    """What a GGUF file says it holds.

    Attributes:
        weights: How many numbers each tensor holds, and as what they are stored (`Q4_K`, `F32`), by name.
        scales_positions: Whether rotary positions are stretched.
    """

    weights: Mapping[str, tuple[int, str]]
    scales_positions: bool


def is_gguf(path: Path) -> bool:
    """Return whether a path is a GGUF file, by its first bytes: Ollama's have no ending."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def contents(path: Path) -> Contents:
    """Return what a GGUF file says it holds.

    Raises:
        UserError: The file is cut short, is one of several parts, or holds no weights.
    """
    found = path.stat()
    return _contents(path, found.st_mtime_ns, found.st_size)


@cache
def _contents(path: Path, _modified: int, _size: int) -> Contents:
    """Look into a file once for as long as it stays as it is: words of a large vocabulary take seconds."""
    with _readable(path) as reader:
        parts = reader.get_field(PARTS)
        if parts is not None and int(parts.contents()) > 1:
            raise UserError(
                f"The model '{path}'",
                f"is one of {int(parts.contents())} parts.",
                "Put them together with llama.cpp's `llama-gguf-split --merge` and give the whole file.",
            )
        weights = {tensor.name: (int(tensor.n_elements), tensor.tensor_type.name) for tensor in reader.tensors}
        kinds = [str(field.contents()) for name, field in reader.fields.items() if name.endswith(SCALING)]
    if not weights:
        raise UserError(f"The model '{path}'", "holds no weights.", "Give the file of the whole model.")
    scaled = any(name.startswith(SCALED) for name in weights) or any(kind != "none" for kind in kinds)
    return Contents(weights, scaled)


def require_positions_read(path: Path, settings: Any) -> None:
    """Refuse a file whose stretched positions transformers has not read: it would be another model.

    Args:
        path: Of the file.
        settings: The configuration that transformers made of it.

    Raises:
        UserError: It is so.
    """
    read = getattr(settings.get_text_config(), "rope_parameters", None) or {}
    if contents(path).scales_positions and read.get("rope_type", "default") == "default":
        raise UserError(
            f"The model '{path}'",
            "stretches its positions (RoPE scaling), which transformers does not read from GGUF.",
            "Give the folder that it was converted from.",
        )


def dequantised(path: Path) -> Choice:
    """Say as what most weights of a file are stored, and what is made of them."""
    kinds: Counter[str] = Counter()
    for count, kind in contents(path).weights.values():
        kinds[kind] += count
    (kind, count), *_ = kinds.most_common(1)
    share = f"{count / kinds.total():.0%} of the weights are stored as {kind}"
    return Choice("from GGUF", f"{share}; scored is the model that they stand for, brought back to floating point")


def unmark(network: Any) -> None:
    """Let a network that was read from GGUF be trained and saved like any other: its weights are plain by now."""
    for settings in (network.config, network.config.get_text_config()):
        if hasattr(settings, "quantization_config"):
            del settings.quantization_config


@contextmanager
def _readable(path: Path) -> Iterator[GGUFReader]:
    # Most commands read no such file.
    from gguf import GGUFReader

    try:
        yield GGUFReader(path)
    # What numpy and the reader raise over a file that ends too soon, or that says odd things of itself.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
        raise UserError(
            f"The model '{path}'",
            "is corrupt: it begins as a GGUF file and cannot be read on.",
            "Download it again.",
        ) from error
