"""How much is read: bytes, rows and cells, asked for before they are there, because small files can hold a lot."""

from __future__ import annotations

import re
from typing import Literal

from mrd_core.errors import UserError
from mrd_core.settings.installation import Settings

_SMALLER = "Keep the columns and rows that are needed, or raise the limit"
# What takes a text apart into values, and in what it does not count.
_JSON = ",[{", re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_CSV = ",;\t\n", re.compile('"[^"]*+"')


def check_size(name: str, size: int, limit_bytes: int | None) -> None:
    """Refuse a file of `size` [bytes] over the limit, if there is one."""
    if limit_bytes is not None and size > limit_bytes:
        raise UserError(
            name,
            f"It has {size:,} bytes; the limit is {limit_bytes:,}.",
            "Score a part of it, or raise the limit (MRD_UPLOAD_LIMIT_MB).",
        )


def unpacked_limit() -> int:
    """Return how much the data of a file may be when they are unpacked and decoded [bytes]."""
    return Settings.from_environment().unpacked_limit_mb * 10**6


def check_unpacked(name: str, size: int) -> None:
    """Refuse data of `size` [bytes] when unpacked and decoded, where that is over the limit."""
    if size > (limit := unpacked_limit()):
        raise UserError(
            name,
            f"Unpacked, it has more than {limit:,} bytes.",
            f"{_SMALLER} (MRD_UNPACKED_LIMIT_MB, in megabytes).",
        )


def most_rows(columns: int) -> int:
    """Return how many rows a table with so many columns may have."""
    settings = Settings.from_environment()
    return min(settings.row_limit, settings.cell_limit // max(1, columns))


def check_shape(name: str, rows: int, columns: int) -> None:
    """Refuse a table with more rows or more cells, rows × columns, than the limits allow."""
    settings = Settings.from_environment()
    if rows > settings.row_limit:
        raise UserError(name, f"It has more than {settings.row_limit:,} rows.", f"{_SMALLER} (MRD_ROW_LIMIT).")
    if rows * columns > settings.cell_limit:
        raise UserError(
            name,
            f"With {columns:,} columns, its rows make more than {settings.cell_limit:,} cells.",
            f"{_SMALLER} (MRD_CELL_LIMIT).",
        )


def check_values(name: str, text: str, kind: Literal["JSON", "CSV"]) -> None:
    """Refuse a text with more values (of JSON at any depth) than cells are allowed."""
    limit = Settings.from_environment().cell_limit
    signs, quoted = _JSON if kind == "JSON" else _CSV
    # The quoted ones are taken out only where they matter.
    if sum(map(text.count, signs)) > limit and sum(map(quoted.sub("", text).count, signs)) > limit:
        raise UserError(name, f"It holds more than {limit:,} values.", f"{_SMALLER} (MRD_CELL_LIMIT).")
