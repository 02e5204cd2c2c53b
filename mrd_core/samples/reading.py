"""Bytes of a CSV, JSON, JSON Lines or Parquet file → a raw table; every other file is refused.

Nothing is inferred: a CSV cell is the text that stands there ("NA", "007" and "null" are real answers), and
the cells of the other formats keep the type that the file gives them.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mrd_core.errors import UserError
from mrd_core.samples.cells import kind_of

_READABLE = "CSV (.csv), JSON (.json), JSON Lines (.jsonl, .ndjson) and Parquet (.parquet) are read"
_LISTED_COLUMNS = 20
# Rows that each bring their own key would make a table of the square of their number.
_COLUMN_LIMIT = 1000
_PARQUET = b"PAR1"
_SIGNATURES = {
    _PARQUET: "a Parquet file",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"PK\x03\x04": "a zip archive (xlsx, docx or a PyTorch checkpoint)",
    b"\x1f\x8b": "a gzip archive",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3\0": "an SQLite database",
    b"%PDF": "a PDF document",
}


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as they stand in a file, before any column has a meaning.

    Attributes:
        name: Path, upload name or hub id, for messages.
        frame: One object column per column of the file, in its order; null cells are None.
        notes: What was done on reading ("UTF-8 byte-order mark removed").
    """

    name: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_table(path: Path, *, limit_bytes: int | None = None) -> Table:
    """Read the file at `path`, which may be at most `limit_bytes` long [bytes].

    Raises:
        UserError: The file is missing, unreadable, too long, of another type, broken, or has no rows.
    """
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise unreadable(str(path), error) from error
    if size is None:
        raise UserError(str(path), "There is no such file.", "Check the path for a typing error.")
    _parser(str(path), path.suffix)  # Before its bytes are read: a file of another type may be a huge one.
    check_size(str(path), size, limit_bytes)
    return parse(str(path), path.suffix, read_bytes(path))


def table_from_upload(name: str, data: bytes, limit_bytes: int) -> Table:
    """Read an uploaded file from its bytes, without writing it anywhere; errors as in `read_table`."""
    check_size(name, len(data), limit_bytes)
    return parse(name, Path(name).suffix, data)


def parse(name: str, suffix: str, data: bytes) -> Table:
    """Parse the bytes of one file whose name ends in `suffix` (with the dot); `name` is for messages."""
    read = _parser(name, suffix)
    if not data:
        raise _empty(name)
    # A file whose first bytes belong to another type than its suffix says is refused.
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
    is_as_named = suffix.lower() == ".parquet" and data.startswith(_PARQUET)
    if kind and not is_as_named:
        raise UserError(
            name,
            f"Its name ends in {suffix} but its content is {kind}.",
            f"{_READABLE}, each under its own suffix: rename or convert the file.",
        )
    return read(name, data)


def _parser(name: str, suffix: str) -> Callable[[str, bytes], Table]:
    if parser := _PARSERS.get(suffix.lower()):
        return parser
    kind = f"Files of the type {suffix}" if suffix else "Files without a suffix"
    raise UserError(
        name,
        f"{kind} are not read (a pickle, for one, could run code when opened).",
        f"{_READABLE}: convert the file to one of them.",
    )


def read_bytes(path: Path) -> bytes:
    """Return the content of the file at `path`, or say why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error) from error


def check_size(name: str, size: int, limit_bytes: int | None) -> None:
    """Refuse `size` [bytes] over the limit, if there is one."""
    if limit_bytes is not None and size > limit_bytes:
        raise UserError(
            name,
            f"It has {size:,} bytes; the limit is {limit_bytes:,}.",
            "Score a part of it, or raise the limit (MRD_UPLOAD_LIMIT_MB).",
        )


def listed(names: Sequence[str]) -> str:
    """Return column names quoted and separated by commas, the first twenty of them."""
    first = ", ".join(repr(name) for name in names[:_LISTED_COLUMNS])
    more = len(names) - _LISTED_COLUMNS
    return f"{first} and {more} more" if more > 0 else first


def unreadable(name: str, error: OSError) -> UserError:
    """Return the error for a path that the system does not let us read."""
    return UserError(
        name,
        f"It cannot be read ({error.strerror or error}).",
        "Check its permissions, or copy it to a folder that you own.",
    )


def _empty(name: str) -> UserError:
    return UserError(name, "The file is empty.", "Choose a file with at least one row.")


def _decode(name: str, data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text of a UTF-8 file and the note that a byte-order mark was removed, if it was."""
    marked = data.startswith(codecs.BOM_UTF8)
    start = len(codecs.BOM_UTF8) if marked else 0
    try:
        text = data[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = start + error.start
        line = data.count(b"\n", 0, offset) + 1
        raise UserError(
            f"{name}, line {line}", f"The byte at offset {offset} is not UTF-8.", "Save the file as UTF-8."
        ) from error
    if not text.strip():
        raise _empty(name)
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise UserError(
            f"{name}, line {line}",
            "It holds a NUL byte, so it is a binary file or text in UTF-16.",
            "Save it as UTF-8 text.",
        )
    return text, ("UTF-8 byte-order mark removed.",) if marked else ()


def _read_csv(name: str, data: bytes) -> Table:
    text, notes = _decode(name, data)
    # The limit belongs to the process, so it is only ever raised: a text may be as long as its file.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[list[str]] = []
    line = 1  # on which a record begins
    try:
        for record in reader:
            # Blank lines are no records.
            if record and records and len(record) != len(records[0]):
                raise UserError(
                    f"{name}, line {line}",
                    f"The line has {len(record)} fields where the header has {len(records[0])}.",
                    "Put quotes around fields that contain commas or line breaks, and leave no field out.",
                )
            records += [record] if record else []
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{name}, line {line}",
            f"The record that begins here is not valid CSV ({error}).",
            "Close every quoted field with a quote and double the quotes inside it.",
        ) from error
    return _table(name, records[0], records[1:], notes)


def _read_json(name: str, data: bytes) -> Table:
    text, notes = _decode(name, data)
    try:
        value, end = json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip()))
    except (ValueError, RecursionError) as error:
        raise _broken_json(name, error) from error
    rest = text[end:].lstrip()
    if isinstance(value, dict) and rest.startswith("{"):
        # Many sets on the hub, TOFU among them, are JSON Lines under the name .json.
        return _from_json_lines(name, text, (*notes, "Read as JSON Lines: one object per line."))
    if rest:
        raise _broken_json(name, json.JSONDecodeError("Extra data", text, len(text) - len(rest)))
    if not isinstance(value, list):
        raise _no_list_of_objects(name, f"The file holds {kind_of(value)}")
    return _from_objects(name, [_object(name, f"Item {i}", item) for i, item in enumerate(value, 1)], notes)


def _broken_json(name: str, error: Exception) -> UserError:
    if isinstance(error, json.JSONDecodeError):
        name, error = f"{name}, line {error.lineno}, column {error.colno}", ValueError(error.msg)
    return UserError(
        name, f"The JSON is broken here ({error}).", "Correct it, or write the file anew with a JSON library."
    )


def _object(name: str, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _no_list_of_objects(name, f"{place} is {kind_of(value)}")
    return value


def _no_list_of_objects(name: str, content: str) -> UserError:
    return UserError(
        name,
        f"{content}; a list of objects is needed, one object per sample.",
        'Write it as [{"question": "…", "answer": "…"}, …], or as JSON Lines.',
    )


def _read_json_lines(name: str, data: bytes) -> Table:
    return _from_json_lines(name, *_decode(name, data))


def _from_json_lines(name: str, text: str, notes: tuple[str, ...]) -> Table:
    objects = []
    # Not splitlines(): a JSON string may hold U+2028 and other separators that end no line of the file.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            cause = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise UserError(
                f"{name}, line {number}",
                f"The line is broken JSON ({cause}).",
                "Correct the line: JSON Lines has one whole object on each line.",
            ) from error
        objects.append(_object(name, f"Line {number}", value))
    return _from_objects(name, objects, notes)


def _from_objects(name: str, objects: list[dict[str, Any]], notes: tuple[str, ...]) -> Table:
    columns = list(dict.fromkeys(key for item in objects for key in item))
    _check_columns(name, columns)
    return _table(name, columns, [[item.get(key) for key in columns] for item in objects], notes)


def _read_parquet(name: str, data: bytes) -> Table:
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        columns = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            name,
            f"The Parquet file is corrupt or cut short ({str(error).splitlines()[0]}).",
            "Copy or export the file again.",
        ) from error
    return _table(name, table.column_names, list(zip(*columns, strict=True)), ())


def _table(name: str, columns: list[str], rows: Sequence[Sequence[Any]], notes: tuple[str, ...]) -> Table:
    _check_columns(name, columns)
    if not rows or not columns:
        raise UserError(name, "The file has no rows.", "Choose a file with at least one row.")
    return Table(name, pd.DataFrame(rows, columns=columns, dtype=object), notes)


def _check_columns(name: str, columns: list[str]) -> None:
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        raise UserError(
            name,
            f"These column names occur more than once: {listed(repeated)}.",
            "Give every column a name of its own.",
        )
    if len(columns) > _COLUMN_LIMIT:
        raise UserError(
            name,
            f"It has {len(columns):,} columns; at most {_COLUMN_LIMIT:,} are read.",
            "Keep the columns with the prompt, the answer and the id.",
        )


_PARSERS: dict[str, Callable[[str, bytes], Table]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
SUFFIXES = frozenset(_PARSERS)
