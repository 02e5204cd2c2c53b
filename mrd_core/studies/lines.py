"""Where in a TOML file a setting stands, so that who wrote it finds what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# A key, or a number: which of several tables of one name, counted from 0.
Place = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_KEY = re.compile(r"\s*([\w.\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=")


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line (the first is 1) of a setting, or of the closest table around it; None where there is none.

    Args:
        text: Of the file.
        place: Keys from the top; a table that is the only one of its name may have its number 0 all the same.
    """
    wanted = tuple(place)
    lines = [(len(there), line) for line, there in _places(text) if there in (wanted[: len(there)], _bare(wanted))]
    # Of a table that is written in several pieces the first is meant.
    return max(lines, key=lambda each: (each[0], -each[1]))[1] if lines else None


def spelt(place: Sequence[str | int]) -> str:
    """Return a place as people write it: `unlearn[0].optimiser.learning_rate`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _bare(place: Place) -> Place:
    return tuple(part for part in place if not isinstance(part, int))


def _places(text: str) -> Iterator[tuple[int, Place]]:
    """Yield the number and the place of every line that begins a table or sets a key."""
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            keys = _keys(header[2])
            if header[1] == "[[":
                counts[keys] = counts.get(keys, -1) + 1
            table = _numbered(keys, counts)
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_keys(key[1]))


def _keys(text: str) -> Place:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _numbered(keys: Place, counts: dict[Place, int]) -> Place:
    """Return keys with the number of the latest table behind the name of each array of tables."""
    place: list[str | int] = []
    for length, key in enumerate(keys, 1):
        place.append(key)
        if keys[:length] in counts:
            place.append(counts[keys[:length]])
    return tuple(place)
