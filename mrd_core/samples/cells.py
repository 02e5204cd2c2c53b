"""What one cell of a raw table means: text, a list, a flag, a count, or nothing."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import string
import tokenize
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.samples.conversation import ASSISTANT, USER

T = TypeVar("T")

# Counts are stored as signed 64-bit integers.
_COUNT_LIMIT = 2**63
_WHOLE_NUMBER = re.compile(r"[0-9]{1,19}(\.0*)?")
# A NUL cannot be stored by every database, half of a surrogate pair by no UTF-8 file.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# A blank between words; Chinese, Japanese and Thai have none.
_WORDS = re.compile(r"\S\s+\S|[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]{2}")
_NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|true|false")
_ROLES = {"human": USER, **dict.fromkeys(("gpt", "model", "bot"), ASSISTANT)}
_TURNS = re.compile(
    r"""\s*\[\s*{\s*['"]((role|from)['"].*['"](content|value)|(content|value)['"].*['"](role|from))['"]\s*:""",
    re.DOTALL,
)
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


def is_broken(text: str) -> bool:
    """Return whether a text holds what cannot be stored: a NUL character or half of a surrogate pair."""
    return _UNSTORABLE.search(text) is not None


def as_text(value: Any) -> str:
    """Return a text cell unchanged and a number or date as it prints; anything else is a `CellError`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | date | Decimal):
        raise CellError(f"is {kind_of(value)}, not text.")
    text = str(value)
    if is_broken(text):
        raise CellError("holds a NUL character or half of a surrogate pair, which is no text.")
    return text


def as_list(value: Any) -> list[Any]:
    """Return a list cell; text that is a list of JSON or Python counts, because that is how CSV carries lists."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = _python_list(value.strip())
    if not isinstance(value, list):
        raise CellError(f"is {kind_of(value)}, not a list.")
    return value


def _python_list(text: str) -> Any:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        strings = [token.type == tokenize.STRING for token in tokens if token.type != tokenize.NL]
        # Python would join the items of ['a' 'b'], as NumPy writes arrays and Dataset.to_csv lists.
        if any(map(all, pairwise(strings))):
            raise CellError(
                "starts like a JSON list but is none: no commas stand between its items (NumPy's way)."
            )
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        if isinstance(error, CellError):
            raise
        raise CellError("starts like a JSON list but is none.") from error


def as_alternatives(value: Any) -> list[Any] | None:
    """Return the answers of a cell with several that are all right, None where it holds one or is no such cell.

    They are a list of texts, in CSV as JSON or Python; SQuAD's `{"text": [...]}`; TriviaQA's
    `{"value": ..., "aliases": [...]}`.
    """
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        aliases = value.get("aliases") or []
        value = [value["value"], *aliases] if isinstance(aliases, list) else None
    elif isinstance(value, dict):
        value = value.get("text")
    elif isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        try:
            value = as_list(value)
        except CellError:
            return None
    is_texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return list(value) if is_texts else None


def as_choices(value: Any) -> dict[str, str]:
    """Return 2 to 26 choices by their letters, or by the labels that the cell gives them.

    A list has letters. An object has its own: ARC's `{"text": [...], "label": [...]}`, or `{"A": ..., "B": ...}`.
    """
    labels: list[Any] | None = None
    if isinstance(value, dict) and {"text", "label"} <= set(value):
        labels, value = as_list(value["label"]), value["text"]
    elif isinstance(value, dict):
        labels, value = list(value), list(value.values())
    choices = ["" if is_blank(choice) else as_text(choice) for choice in as_list(value)]
    if not all(choices):
        raise CellError("has a blank choice.")
    if not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise CellError(f"has {len(choices)} choices, where 2 to {len(string.ascii_uppercase)} are needed.")
    names = list(map(str, string.ascii_uppercase[: len(choices)] if labels is None else labels))
    if not len(set(names)) == len(names) == len(choices):
        raise CellError("has not one label of its own for each choice.")
    return dict(zip(names, choices, strict=True))


def numbers_are_texts(place: str, cells: Iterable[tuple[Any, Mapping[str, str]]]) -> bool:
    """Tell whether the numbers in a column of right choices are texts of choices, and no places among them.

    They are where one of its cells can be nothing but a text: words, or a number beyond the places. Numbers that
    JSON or Parquet holds as such are places.

    Args:
        place: Of the column, for the error.
        cells: Each with the choices of its question by their labels.

    Raises:
        UserError: Both are possible in every cell with a number, and not the same choice in each.
    """
    either = 0
    for value, choices in cells:
        text, texts = str(value).strip(), list(choices.values())
        if is_blank(value) or text in choices:
            continue
        is_place = text.isdecimal() and int(text) < len(texts)
        is_text = isinstance(value, str) and texts.count(text) == 1
        if is_place is not is_text:
            return is_text
        either += is_place and texts.index(text) != int(text)
    if either:
        raise UserError(
            place,
            "Its numbers are texts of choices as well as places among them, and not of the same choices.",
            "Give the letters of the right choices.",
        )
    return False


def right_choice(value: Any, choices: Mapping[str, str], numbers_are_texts: bool = False) -> int:
    """Return the index of the right choice, whose cell holds its label, its number from 0, or its text.

    Args:
        value: The cell.
        choices: By their labels.
        numbers_are_texts: Whether a number is the text of a choice.

    Raises:
        CellError: It holds none of them.
    """
    if is_blank(value):
        raise CellError("is blank where the right choice is needed.")
    text, labels = str(value).strip(), list(choices)
    if text in labels:
        return labels.index(text)
    if list(choices.values()).count(text) == 1 and (numbers_are_texts or not text.isdecimal()):
        return list(choices.values()).index(text)
    if (index := as_count(value)) >= len(choices):
        raise CellError(f"is {index}, but the choices are numbered from 0 to {len(choices) - 1}.")
    return index


def as_turns(value: Any) -> list[tuple[str, str]]:
    """Return the turns of a conversation as (role, text): `role` and `content`, or `from` and `value`."""
    turns = []
    for turn in as_list(value):
        role, text = (
            (turn.get("role", turn.get("from")), turn.get("content", turn.get("value")))
            if isinstance(turn, dict)
            else (None, None)
        )
        if role is None or text is None:
            raise CellError("has a turn without role and content (or from and value).")
        # Of several media, texts alone are read.
        parts = [
            part.get("text") if isinstance(part, dict) else part
            for part in (text if isinstance(text, list) else [text])
        ]
        texts = [as_text(part) for part in parts if part is not None]
        turns.append((_ROLES.get(as_text(role), as_text(role)), "\n".join(texts)))
    return turns


def is_conversation(value: Any) -> bool:
    """Return whether a cell looks like the turns of a conversation, in CSV as JSON: with speakers and texts."""
    if isinstance(value, str):
        return _TURNS.match(value) is not None
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and all(
        keys & first.keys() for keys in ({"role", "from"}, {"content", "value"})
    )


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


def as_number(value: Any) -> float | None:
    """Return a cell with a finite number, also when it is written as text; None where it is blank or NaN."""
    if is_blank(value):
        return None
    text = str(value).strip()
    try:
        number = float(text) if isinstance(value, str | int | float | Decimal) and "_" not in text else None
    except ValueError:
        number = None
    if number is None or isinstance(value, bool):
        raise CellError(f"is {repr(text) if isinstance(value, str) else kind_of(value)}, no number.")
    if math.isinf(number):
        raise CellError("is no finite number.")
    return None if math.isnan(number) else number


def kind_of(value: Any) -> str:
    """Return what `value` is, in the words of a JSON user ("a list", "an object", …)."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value)) or ("an object" if isinstance(value, dict) else f"a {type(value).__name__}")
