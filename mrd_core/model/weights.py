"""How many weights a folder of safetensors, or a GGUF file, holds, without loading them."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.model.gguf_file import contents


def parameter_count(place: Path) -> int:
    """Return the number of weights stored in a folder's safetensors, or in a GGUF file, from their headers alone.

    Raises:
        UserError: A file is not what its name says.
    """
    if place.is_file():
        return sum(count for count, _ in contents(place).weights.values())
    # Some models are published in a second format beside (consolidated.safetensors): it is not loaded.
    files = list(place.glob("model*.safetensors")) or list(place.glob("*.safetensors"))
    return sum(_weights_in(file) for file in files)


def _weights_in(file: Path) -> int:
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        # A pointer of git LFS in the file's place begins with a text, which as a number is enormous.
        header = stream.read(length) if 0 < length < file.stat().st_size else b""
    try:
        entries = json.loads(header)
        return sum(math.prod(entry["shape"]) for name, entry in entries.items() if name != "__metadata__")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            str(file),
            "is corrupt: it does not begin as a safetensors file does.",
            "Download it again (with git, `git lfs pull` fetches the weights).",
        ) from error
