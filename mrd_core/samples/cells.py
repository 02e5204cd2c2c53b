"""What one cell of a raw table means: text, a list, a flag, a count, or nothing."""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pandas as pd

from mrd_core.errors import UserError

T = TypeVar("T")

# Counts are stored as signed 64-bit integers.
_COUNT_LIMIT = 2**63
_WHOLE_NUMBER = re.compile(r"[0-9]{1,19}(\.0*)?")
# A NUL cannot be stored by every database, half of a surrogate pair by no UTF-8 file.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# A blank between words; Chinese, Japanese and Thai have none.
_WORDS = re.compile(r"\S\s+\S|[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]{2}")
_NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|true|false")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class CellError(ValueError):
    """A cell that is not what its column should hold; the message is a predicate ("is a list, …")."""


def read_cell(place: str, value: Any, convert: Callable[[Any], T]) -> T:
    """Return `convert(value)`; its `CellError` becomes a `UserError` at `place` ("a.csv, row 3, …")."""
    try:
        return convert(value)
    except CellError as error:
        raise UserError(place, f"The cell {error}", "Correct the cell, or map another column.") from error


def is_null(value: Any) -> bool:
    """Return whether `value` is a missing value: None, NaN, NA or NaT."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value is pd.NA or value is pd.NaT


def is_blank(value: Any) -> bool:
    """Return whether `value` is missing or nothing but white space."""
    return is_null(value) or (isinstance(value, str) and not value.strip())


def holds_text(cells: Iterable[Any]) -> bool:
    """Return whether half or more of the cells that are not blank are of several words, or in a script without."""
    filled = [cell for cell in cells if not is_blank(cell)]
    worded = sum(isinstance(cell, str) and _WORDS.search(cell.strip()) is not None for cell in filled)
    return 0 < len(filled) <= 2 * worded


def holds_numbers(cells: Iterable[Any]) -> bool:
    """Return whether all cells that are not blank are numbers, or flags, also where they are written as text."""
    filled = [cell for cell in cells if not is_blank(cell)]
    return bool(filled) and all(_NUMBER.fullmatch(str(cell).strip().casefold()) for cell in filled)


def as_text(value: Any) -> str:
    """Return a text cell unchanged and a number as it prints; anything else is a `CellError`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise CellError(f"is {kind_of(value)}, not text.")
    text = str(value)
    if _UNSTORABLE.search(text):
        raise CellError("holds a NUL character or half of a surrogate pair, which is no text.")
    return text


def as_list(value: Any) -> list[Any]:
    """Return a list cell; text that is a JSON list counts, because that is how CSV files carry lists."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise CellError("starts like a JSON list but is none.") from error
    if not isinstance(value, list):
        raise CellError(f"is {kind_of(value)}, not a list.")
    return value


def as_choices(value: Any) -> list[str]:
    """Return a list cell of 2 to 26 texts, as many as there are letters for them."""
    choices = [as_text(choice) for choice in as_list(value)]
    if not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise CellError(f"has {len(choices)} choices, where 2 to {len(string.ascii_uppercase)} are needed.")
    return choices


def as_flag(value: Any) -> bool:
    """Return a true/false cell, also when it is written as text or as 0 and 1."""
    flag = _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise CellError("is neither true nor false.")
    return flag


def as_count(value: Any) -> int:
    """Return a cell with a whole number from 0 to 2⁶³ − 1, also when it is written as text or as 3.0."""
    text = str(value).strip()
    if _WHOLE_NUMBER.fullmatch(text) and (count := int(text.partition(".")[0])) < _COUNT_LIMIT:
        return count
    raise CellError("is not a whole number from 0 up.")


def kind_of(value: Any) -> str:
    """Return what `value` is, in the words of a JSON user ("a list", "an object", …)."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value)) or ("an object" if isinstance(value, dict) else f"a {type(value).__name__}")
