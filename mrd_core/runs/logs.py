"""What the processes behind a run printed, wherever they ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mrd_core.runs.files import JOBS_FOLDER, LOG_FILE
from mrd_core.runs.printing import visible

# Of a log the end says most [bytes].
MOST = 20_000


class Log(NamedTuple):
    """The end of a log.

    Attributes:
        name: Of its file, within the run directory.
        text: Without anything that a terminal would obey.
    """

    name: str
    text: str


def logs(directory: Path) -> Iterator[Log]:
    """Yield the logs of a run that are not empty: its worker's, those of who shared it, its scheduler's."""
    of_jobs = sorted(path for path in (directory / JOBS_FOLDER).glob("*") if path.suffix in (".log", ".out"))
    for path in (directory / LOG_FILE, *of_jobs):
        try:
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - MOST))
                text = stream.read(MOST).decode(errors="replace")
        except OSError:
            continue
        if text.strip():
            yield Log(str(path.relative_to(directory)), visible(text))
