"""Parquet and Arrow → columns of Python values; their size is asked for before they are read and unfold."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from mrd_core.errors import UserError
from mrd_core.samples.forget_set import METADATA_KEY
from mrd_core.samples.limits import check_shape, check_unpacked

ARROW = b"ARROW1"
# An Arrow file is a stream from here on, with a footer.
_STREAM_START = 8
# What a Python value and an object weigh beside the texts in them [bytes].
_VALUE, _OBJECT = 32, 200
# Fields of Arrow's messages, by their place: a message's header, a dictionary's data, a batch's compression.
_HEADER, _DATA, _COMPRESSION = 2, 1, 3
_PREFIXED = "DELTA_BYTE_ARRAY"


@dataclass(frozen=True)
class Columns:
    """Columns of a file.

    Attributes:
        names: As the file has them.
        cells: Of each column, one Python value a row.
        notes: On columns that are left out because Python has no such values.
        is_forget_set: Whether they are a forget set that was saved.
    """

    names: list[str]
    cells: list[list[Any]]
    notes: tuple[str, ...]
    is_forget_set: bool


def read_parquet(name: str, data: bytes) -> Columns:
    """Read a Parquet file.

    Raises:
        UserError: It is corrupt, or larger than the limits allow.
    """
    return _read(name, "Parquet", lambda: _parquet(name, data))


def read_arrow(name: str, data: bytes) -> Columns:
    """Read an Arrow file or, as `save_to_disk` writes it, stream; errors as in `read_parquet`."""
    return _read(name, "Arrow", lambda: _arrow(name, data[_STREAM_START:] if data.startswith(ARROW) else data))


def _read(name: str, kind: str, read: Callable[[], pa.Table]) -> Columns:
    try:
        table = read()
        check_shape(name, table.num_rows, table.num_columns)
        # Whatever its lengths and offsets say, nothing beyond its buffers is looked at.
        table.validate(full=True)
        return _columns(name, table)
    except UserError:
        raise
    except Exception as error:  # what a parser raises depends on the byte that it stumbles over
        raise UserError(
            name, f"The {kind} file is corrupt or cut short ({_first(error)}).", "Copy or export the file again."
        ) from error


def _columns(name: str, table: pa.Table) -> Columns:
    names, cells, notes, weight = [], [], [], 0
    for column, title in zip(table.columns, table.column_names, strict=True):
        try:
            weight += sum(map(_weight, column.chunks))
            check_unpacked(name, weight)
            values = column.to_pylist()
        except UserError:
            raise
        except Exception as error:  # a year that Python has not, a time zone that nobody knows, …
            notes.append(f"The column {title!r} is left out: its values cannot be read ({_first(error)}).")
            continue
        names.append(title)
        cells.append(values)
    if notes and not names:
        raise UserError(name, " ".join(notes), "Save the file with text in its columns.")
    return Columns(names, cells, tuple(notes), METADATA_KEY in (table.schema.metadata or {}))


def _parquet(name: str, data: bytes) -> pa.Table:
    metadata = pq.read_metadata(pa.BufferReader(data))
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    check_shape(name, max(metadata.num_rows, sum(group.num_rows for group in groups)), metadata.num_columns)
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    # Rows of lists hold more values than there are rows.
    check_shape(name, 1, sum(chunk.num_values for chunk in chunks))
    prefixed = {chunk.path_in_schema for chunk in chunks if _PREFIXED in chunk.encodings}
    check_unpacked(
        name,
        sum(
            # Texts that are stored by what they do not share with the one before may each be as long as all of it.
            chunk.total_uncompressed_size * (chunk.num_values if chunk.path_in_schema in prefixed else 1)
            for chunk in chunks
        ),
    )
    # A text that is stored once and used often stays one until it is known what it would weigh.
    kept = [chunk.path_in_schema for chunk in chunks if chunk.path_in_schema not in prefixed]
    return pq.ParquetFile(pa.BufferReader(data), read_dictionary=list(dict.fromkeys(kept))).read()


def _arrow(name: str, stream: bytes) -> pa.Table:
    for message in pa.ipc.MessageReader.open_stream(stream):
        if _is_compressed(message):
            raise UserError(
                name,
                "Its data are compressed, so that it cannot be told how large they are.",
                "Write it without compression, or as Parquet.",
            )
    return pa.ipc.open_stream(stream).read_all()


def _is_compressed(message: pa.Message) -> bool:
    if message.type not in ("record batch", "dictionary"):
        return False
    metadata = message.metadata.to_pybytes()
    batch = _field(metadata, int(struct.unpack_from("<I", metadata)[0]), _HEADER)
    if batch and message.type == "dictionary":
        batch = _field(metadata, batch, _DATA)
    return bool(batch and _field(metadata, batch, _COMPRESSION))


def _field(metadata: bytes, table: int, place: int) -> int:
    """Return where the table starts that a field of a FlatBuffers table refers to; 0 where it has none."""
    fields = table - struct.unpack_from("<i", metadata, table)[0]
    slot = 4 + 2 * place
    if slot >= struct.unpack_from("<H", metadata, fields)[0]:
        return 0
    offset = struct.unpack_from("<H", metadata, fields + slot)[0]
    return table + offset + int(struct.unpack_from("<I", metadata, table + offset)[0]) if offset else 0


def _weight(array: pa.Array) -> int:
    """Return what an array weighs as Python values, where nothing is shared any more [bytes]."""
    kind = array.type
    if types.is_dictionary(kind):
        texts = pc.binary_length(array.dictionary) if _is_binary(kind.value_type) else None
        return _VALUE * len(array) + _total(texts.take(array.indices) if texts is not None else None)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        # 16 bytes a view, the length in the first four.
        lengths = np.frombuffer(array.buffers()[1], np.int32)[4 * array.offset :: 4][: len(array)]
        return _VALUE * len(array) + int(lengths.astype(np.int64).sum())
    if _is_binary(kind):
        return _VALUE * len(array) + _total(pc.binary_length(array))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_map(kind):
        return _OBJECT * len(array) + _weight(array.flatten())
    if types.is_struct(kind):
        return _OBJECT * len(array) + sum(map(_weight, array.flatten()))
    if types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind):
        return _VALUE * len(array)
    raise TypeError(f"the type {kind}")


def _is_binary(kind: pa.DataType) -> bool:
    return any(
        ask(kind)
        for ask in (
            *(types.is_string, types.is_large_string),
            *(types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
        )
    )


def _total(lengths: pa.Array | None) -> int:
    return 0 if lengths is None else pc.sum(lengths.cast(pa.int64())).as_py() or 0


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
