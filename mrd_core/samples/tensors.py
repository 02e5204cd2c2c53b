"""safetensors → a table of numbers: each tensor of one dimension is a column."""

from __future__ import annotations

import json
import struct
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from mrd_core.errors import UserError
from mrd_core.samples.limits import check_shape, check_unpacked
from mrd_core.samples.reading import Table, table_of

SUFFIX = ".safetensors"
# Tensors hold no texts: ids stand in the metadata, as a list in JSON.
IDS = "sample_ids"


def read_tensors(name: str, data: bytes) -> Table:
    """Return the tensors of one dimension as columns, behind a column of the ids that the metadata lists.

    Args:
        name: Of the file, for messages.
        data: Its content.

    Raises:
        UserError: It is corrupt, too large, of a precision that numpy has not, or its columns differ in length.
    """
    check_unpacked(name, len(data))
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise UserError(
            name, f"The safetensors file is corrupt or cut short ({error}).", "Copy or export the file again."
        ) from error
    except KeyError as error:
        raise UserError(
            name, f"It holds a tensor of the type {error.args[0]}, which is not read.", "Save it as float32."
        ) from error
    columns: dict[str, list[Any]] = {IDS: ids} if (ids := _listed_ids(name, data)) else {}
    rows = [tensor for tensor in tensors.values() if tensor.ndim == 1]
    check_shape(name, max(map(len, rows), default=0), len(rows) + len(columns))
    columns |= {key: tensor.tolist() for key, tensor in sorted(tensors.items()) if tensor.ndim == 1}
    lengths = {key: len(cells) for key, cells in columns.items()}
    if len(set(lengths.values())) != 1:
        sizes = ", ".join(f"{key!r} {length}" for key, length in lengths.items())
        raise UserError(
            name,
            f"Its columns differ in length: {sizes}." if lengths else "It holds no tensor of one dimension.",
            "Save tensors of one dimension, a number for each sample.",
        )
    return table_of(name, list(columns), list(columns.values()))


def _listed_ids(name: str, data: bytes) -> list[Any] | None:
    """Return the ids that the metadata lists; None where it lists none."""
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    text = (header.get("__metadata__") or {}).get(IDS)
    if text is None:
        return None
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or not ids:
        raise UserError(
            name, f"Its metadata has {IDS!r}, but that is no list in JSON.", 'Write it as ["id 1", "id 2", …].'
        )
    return ids
