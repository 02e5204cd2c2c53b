"""Ids of the samples of a suite: those of the file, else hashes of what is asked. Loads no torch."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence

from mrd_core.errors import UserError
from mrd_core.evaluation.source import optional_texts
from mrd_core.samples import Table

ID_COLUMN = "id"
_DIGITS = 12


def sample_ids(table: Table, contents: Sequence[Sequence[str]]) -> list[str]:
    """Return an id for each row, the same whatever the other rows are and in which order they stand.

    Rows of one content that would share an id get `#2`, `#3`, … (contents agree after NFC normalisation and with
    white space collapsed).

    Args:
        table: N rows; its column `id`, if it has one, names them.
        contents: What each row asks, its parts as texts, length N.

    Raises:
        UserError: An id is blank, or stands for rows of different content.
    """
    keys = [_key(parts) for parts in contents]
    given = optional_texts(table, ID_COLUMN)
    if given is not None:
        _require_one_content_each(table, given, keys)
    return _numbered(keys if given is None else given)


def _key(parts: Sequence[str]) -> str:
    normalised = (" ".join(unicodedata.normalize("NFC", part).split()) for part in parts)
    # Splitting takes out U+001F, which therefore cannot occur in any part.
    return hashlib.sha256("\x1f".join(normalised).encode()).hexdigest()[:_DIGITS]


def _require_one_content_each(table: Table, ids: Sequence[str], keys: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        if keys[first.setdefault(name, row)] != keys[row]:
            raise UserError(
                f"{table.name}, rows {first[name] + 1} and {row + 1}",
                f"The id {name!r} stands for different samples.",
                f"Give each sample an id of its own, or leave the column {ID_COLUMN!r} out: ids are then made of "
                "the texts.",
            )


def _numbered(ids: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    numbered = []
    for name in ids:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return numbered
