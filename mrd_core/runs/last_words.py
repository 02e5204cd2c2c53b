"""How a run ended, where the store could not be told: room for it is set aside while there is some."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from mrd_core.runs.record import RunError

NAME = ".last-words"
ROOM = 8192
# Of a traceback the end says most [characters].
MOST_OF_TRACEBACK = 2000


def make_room(directory: Path, worker: str) -> None:
    """Set space aside in a run directory, and say in it who is at work there."""
    (directory / NAME).write_bytes(json.dumps({"worker": worker}).encode()[:ROOM].ljust(ROOM))


def worker(directory: Path) -> str:
    """Return who said to be at work in a run directory; "" where nobody did."""
    try:
        return str(json.loads((directory / NAME).read_bytes())["worker"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def write(directory: Path, attempt: int, error: RunError) -> None:
    """Write down how an attempt ended, in the room that was made: on a full disk, too.

    Raises:
        OSError: There is no such file.
    """
    short = replace(error, cause=error.cause[:1000], traceback=error.traceback[-MOST_OF_TRACEBACK:])
    content = json.dumps({"attempt": attempt, "error": asdict(short)}).encode()
    with (directory / NAME).open("r+b") as stream:
        stream.write(content[:ROOM].ljust(ROOM))


def read(directory: Path, attempt: int) -> RunError | None:
    """Return how an attempt ended, where its worker could write it here and nowhere else."""
    try:
        content = json.loads((directory / NAME).read_bytes())
        return RunError(**content["error"]) if content["attempt"] == attempt else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(directory: Path) -> None:
    """Give the room back."""
    (directory / NAME).unlink(missing_ok=True)
