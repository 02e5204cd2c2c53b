"""Bytes of a table (CSV, JSON, Parquet, Arrow) or text → raw rows, also compressed; every other file is refused.

Nothing is inferred: a CSV cell is the text that stands there ("NA", "007" and "null" are real answers), and
the cells of the other formats keep the type that the file gives them.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.samples.cells import is_blank, is_broken, kind_of
from mrd_core.samples.columnar import ARROW, read_arrow, read_parquet
from mrd_core.samples.limits import (
    check_shape,
    check_size,
    check_unpacked,
    check_values,
    most_rows,
    unpacked_limit,
)
from mrd_core.samples.spreadsheet import restored

_READABLE = (
    "CSV (.csv, .tsv), JSON (.json), JSON Lines (.jsonl, .ndjson), Parquet (.parquet), Arrow (.arrow) and text "
    "(.txt) are read, also compressed (.gz)"
)
# Why the others are not.
_REFUSED = {
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib"), "It may be a pickle, which could run code"
    ),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "It is a spreadsheet"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".zst"), "It is an archive: unpack it first"),
}
# The split that is not one of them.
ALL = "all"
_GZIP = b"\x1f\x8b"
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
    _GZIP: "a gzip archive",
    ARROW: "an Arrow file",
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
        is_forget_set: Whether it is a forget set that was saved: plain texts have blank prompts there, and its
            rows may be of several splits.
    """

    name: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    is_forget_set: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The sets that its rows belong to, as its column `split` names them."""
        cells = self.frame[self._split_column] if self._split_column else ()
        return tuple(dict.fromkeys(str(cell) for cell in cells if not is_blank(cell)))

    @property
    def _split_column(self) -> str | None:
        return next((name for name in self.frame.columns if name.strip().casefold() == "split"), None)

    def of_split(self, split: str | None) -> Table:
        """Return the rows whose column `split` says so; `all` gives those of all splits.

        Raises:
            UserError: There are no such rows, or they are of several splits and none is chosen.
        """
        splits = self.splits
        if (split == ALL and split not in splits) or (split is None and (len(splits) <= 1 or self.is_forget_set)):
            return self
        if split is not None and not splits:
            raise UserError(
                self.name,
                "It is a single table, which has no subsets or splits to choose from.",
                "Leave subset and split empty.",
            )
        if split not in splits:
            why = f"It has no split {split!r}" if split else "It has several splits and none is chosen"
            raise UserError(
                self.name,
                f"{why}. The splits are: {listed(splits)}.",
                f"Choose one of them, or {ALL!r} for their rows together.",
            )
        chosen = self.frame[self.frame[self._split_column].astype(str) == split]
        return replace(self, frame=chosen.reset_index(drop=True))


def read_table(path: Path, *, limit_bytes: int | None = None, split: str | None = None) -> Table:
    """Read the file at `path`, which may be at most `limit_bytes` long [bytes], or one split of it.

    Raises:
        UserError: The file is missing, unreadable, too long, of another type, broken, or has no rows.
    """
    check_name(str(path))
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise unreadable(str(path), error) from error
    if size is None:
        raise UserError(str(path), "There is no such file.", "Check the path for a typing error.")
    _parser(str(path))  # Before its bytes are read: a file of another type may be a huge one.
    check_size(str(path), size, limit_bytes)
    return parse(str(path), read_bytes(path), limit_bytes).of_split(split)


def table_from_upload(name: str, data: bytes, limit_bytes: int) -> Table:
    """Read an uploaded file from its bytes, all splits, without writing it anywhere; errors as in `read_table`."""
    check_size(name, len(data), limit_bytes)
    return parse(name, data, limit_bytes)


def stem_and_suffix(name: str) -> tuple[str, str]:
    """Return the name of a file without folder and type, and its type in lower case, not that of compression."""
    path = PurePath(name)
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    return path.stem, path.suffix.lower()


def parse(name: str, data: bytes, limit_bytes: int | None = None) -> Table:
    """Parse the bytes of the file of that name, which is for messages as well.

    Args:
        name: Path, address or upload name.
        data: Content.
        limit_bytes: Most bytes that a compressed file may unfold to.
    """
    read = _parser(name)
    if name.lower().endswith(".gz"):
        data = _unpacked(name, data, limit_bytes)
    check_unpacked(name, len(data))
    if not data:
        raise _empty(name)
    # A file whose first bytes belong to another type than its suffix says is refused.
    suffix = stem_and_suffix(name)[1]
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
    is_as_named = data.startswith({".parquet": _PARQUET, ".arrow": ARROW}.get(suffix, b"\0none"))
    if kind and not is_as_named:
        raise UserError(
            name,
            f"Its name ends in {suffix} but its content is {kind}.",
            f"{_READABLE}, each under its own suffix: rename or convert the file.",
        )
    return read(name, data)


def _unpacked(name: str, data: bytes, limit_bytes: int | None) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(min(unpacked_limit(), limit_bytes or unpacked_limit()) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            name, f"The gzip file is corrupt or cut short ({error}).", "Copy or export the file again."
        ) from error
    check_size(name, len(unpacked), limit_bytes)
    return unpacked


def check_name(name: str) -> None:
    """Refuse a path whose bytes are no text, which no file of a run could hold."""
    if any("\ud800" <= sign <= "\udfff" for sign in name):
        raise UserError(
            name.encode(errors="backslashreplace").decode(), "The name is not UTF-8.", "Rename the file or folder."
        )


def _parser(name: str) -> Callable[[str, bytes], Table]:
    check_name(name)
    suffix = stem_and_suffix(name)[1]
    if parser := _PARSERS.get(suffix):
        return parser
    kind = f"Files of the type {suffix}" if suffix else "Files without a suffix"
    cause = f" {_REFUSED[suffix]}." if suffix in _REFUSED else ""
    raise UserError(name, f"{kind} are not read.{cause}", f"{_READABLE}: convert the file to one of them.")


def read_bytes(path: Path) -> bytes:
    """Return the content of the file at `path`, or say why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error) from error


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
    check_values(name, text, "CSV")
    header = text.lstrip().partition("\n")[0]
    delimiter = next((sign for sign in ("\t", ";") if sign in header and "," not in header), ",")
    if stem_and_suffix(name)[1] == ".tsv":
        delimiter = "\t"
    elif delimiter != ",":
        notes = (*notes, f"The columns are separated by {delimiter!r}.")
    # The limit belongs to the process, so it is only ever raised: a text may be as long as its file.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    records = _records(name, text, delimiter)
    if changed := sum(restored(cell) != cell for record in records for cell in record):
        # As tables are exported, here and elsewhere.
        records = [list(map(restored, record)) for record in records]
        notes = (
            *notes,
            f"{changed} cells had an apostrophe in front, which keeps spreadsheets from taking them for formulas.",
        )
    names, *rows = records
    return table_of(name, names, list(zip(*rows, strict=True)), notes)


def _records(name: str, text: str, delimiter: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    line = 1  # on which a record begins
    most = most_rows(1)
    try:
        for record in reader:
            if len(records) > most:
                check_shape(name, len(records), 1)
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
    return records


def _read_json(name: str, data: bytes) -> Table:
    text, notes = _decode(name, data)
    check_values(name, text, "JSON")
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
    if isinstance(value, dict):
        return _from_object(name, value, notes)
    if not isinstance(value, list):
        raise _no_list_of_objects(name, f"The file holds {kind_of(value)}")
    if value and all(isinstance(item, str) for item in value):
        return _from_texts(name, value, (*notes, "Read as a list of texts."))
    return _from_objects(name, [_object(name, f"Item {i}", item) for i, item in enumerate(value, 1)], notes)


def _from_texts(name: str, texts: Sequence[str], notes: tuple[str, ...]) -> Table:
    return table_of(name, ["text"], [texts], notes)


def _from_object(name: str, value: dict[str, Any], notes: tuple[str, ...]) -> Table:
    """Return the rows that an object holds: in one list or several, by column, or by id."""
    lists = {key: part for key, part in value.items() if _all_of(dict, part)}
    if len(lists) == 1:
        ((key, rows),) = lists.items()
        return _from_objects(name, rows, (*notes, f"Read from the list {key!r} of its object."))
    if lists:
        rows = [row | {"split": key} for key, part in lists.items() for row in part]
        return _from_objects(name, rows, notes)
    parts = list(value.values())
    if _all_of(dict, parts) and all(parts) and all(key.isdecimal() for part in parts for key in part):
        # As pandas writes a frame: each column by the number of its row.
        rows = [{column: part.get(row) for column, part in value.items()} for row in parts[0]]
        return _from_objects(name, rows, (*notes, "Read by column."))
    if _all_of(dict, parts) and len(parts) > 1:
        return _from_objects(name, [{"id": key} | part for key, part in value.items()], (*notes, "Read by id."))
    if _all_of(list, parts) and len({len(part) for part in parts}) == 1:
        return table_of(name, list(value), parts, (*notes, "Read by column."))
    raise _no_list_of_objects(name, "The file holds an object")


def _all_of(kind: type, items: Any) -> bool:
    return isinstance(items, list) and bool(items) and all(isinstance(item, kind) for item in items)


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


def _read_text(name: str, data: bytes) -> Table:
    """Read each paragraph as a text; where no blank line parts any, each line."""
    text, notes = _decode(name, data)
    most = most_rows(1) + 1
    blank_lines = r"\r?\n[ \t]*(?:\r?\n[ \t]*)+"
    parts = [part.strip() for part in re.split(blank_lines, text, maxsplit=most) if part.strip()]
    unit = "paragraph"
    if len(parts) == 1:
        parts, unit = [line.strip() for line in parts[0].split("\n", most)], "line"
    return _from_texts(name, parts, (*notes, f"Read as text: each {unit} is a sample."))


def _read_json_lines(name: str, data: bytes) -> Table:
    text, notes = _decode(name, data)
    if text.lstrip().startswith("["):
        return _read_json(name, data)
    return _from_json_lines(name, text, notes)


def _from_json_lines(name: str, text: str, notes: tuple[str, ...]) -> Table:
    check_values(name, text, "JSON")
    objects: list[tuple[int, Any]] = []
    most = most_rows(1)
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
        objects.append((number, value))
        if len(objects) > most:
            check_shape(name, len(objects), 1)
    if all(isinstance(value, str) for _, value in objects):
        return _from_texts(name, [value for _, value in objects], notes)
    return _from_objects(name, [_object(name, f"Line {number}", value) for number, value in objects], notes)


def _from_objects(name: str, objects: list[dict[str, Any]], notes: tuple[str, ...]) -> Table:
    columns = list(dict.fromkeys(key for item in objects for key in item))
    _check_columns(name, columns)
    check_shape(name, len(objects), len(columns))
    return table_of(name, columns, [[item.get(key) for item in objects] for key in columns], notes)


def _read_parquet(name: str, data: bytes) -> Table:
    columns = read_parquet(name, data)
    table = table_of(name, columns.names, columns.cells, columns.notes)
    return replace(table, is_forget_set=columns.is_forget_set)


def _read_arrow(name: str, data: bytes) -> Table:
    columns = read_arrow(name, data)
    return table_of(name, columns.names, columns.cells, columns.notes)


def table_of(name: str, columns: list[str], cells: Sequence[Sequence[Any]], notes: tuple[str, ...] = ()) -> Table:
    """Return the table of these columns, `cells` being those of each."""
    _check_columns(name, columns)
    if not cells or not len(cells[0]):
        raise UserError(name, "The file has no rows.", "Choose a file with at least one row.")
    check_shape(name, len(cells[0]), len(columns))
    if len(columns) == 1 and _all_of(dict, list(cells[0])):
        # As WHP's prompts are published, and structs of Parquet.
        return _from_objects(name, list(cells[0]), (*notes, f"Read from the objects in {columns[0]!r}."))
    series = [pd.Series(list(column), dtype=object) for column in cells]
    return Table(name, pd.DataFrame(dict(zip(columns, series, strict=True))), notes)


def _check_columns(name: str, columns: list[str]) -> None:
    broken = next((column for column in columns if is_broken(column)), None)
    if broken is not None:
        raise UserError(
            name,
            f"The column name {broken!r} holds a NUL character or half of a surrogate pair, which is no text.",
            "Rename the column.",
        )
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
    ".tsv": _read_csv,
    ".txt": _read_text,
    ".arrow": _read_arrow,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
SUFFIXES = frozenset(_PARSERS)
