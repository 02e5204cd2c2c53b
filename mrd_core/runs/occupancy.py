"""One process at a time is at work in a run directory, whatever stores know it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.runs import last_words
from mrd_core.runs.files import CONFIG_FILE

# A worker that has lost its run, or has just ended it, lets go at its next step [s].
PATIENCE, PAUSE = 10.0, 0.1


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep other processes out of a run directory; the system lets go when this one dies.

    Raises:
        UserError: Another process is at work there, and stays.
        OSError: config.json cannot be opened to be locked.
    """
    deadline = time.monotonic() + PATIENCE
    # A file that every run has: nothing is left behind, and a full disk has room for it.
    with (directory / CONFIG_FILE).open("r+b") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        str(directory),
                        f"{last_words.worker(directory) or 'Another process'} is at work there.",
                        "Wait until it has ended, or cancel the run there.",
                    ) from error
            time.sleep(PAUSE)
        yield
