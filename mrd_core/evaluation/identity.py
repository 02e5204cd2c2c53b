"""Ids of the samples of a suite: those of the file, else hashes of what is asked. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mrd_core.errors import UserError
from mrd_core.evaluation.source import optional_texts
from mrd_core.samples import Table
from mrd_core.samples.validation import content_key

ID_COLUMN = "id"


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
    keys = list(map(content_key, contents))
    names = optional_texts(table, ID_COLUMN) or keys
    first: dict[str, int] = {}
    copies: Counter[str] = Counter()
    for row, name in enumerate(names):
        if keys[first.setdefault(name, row)] != keys[row]:
            raise UserError(
                f"{table.name}, rows {first[name] + 1} and {row + 1}",
                f"The id {name!r} stands for different samples.",
                f"Give each sample an id of its own, or leave the column {ID_COLUMN!r} out: ids are then made of "
                "the texts.",
            )
        copies[name] += 1
        names[row] = name if copies[name] == 1 else f"{name}#{copies[name]}"
    return names
