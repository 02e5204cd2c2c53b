"""The files of a run: each declared once, and written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import math
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, overload

import pandas as pd

from mrd_core.errors import UserError

CONFIG_FILE = "config.json"
LOG_FILE = "worker.log"
LAUNCH_FILE, JOBS_FOLDER = "launch.json", "jobs"
# Of folders on the scratch disk: what a link leads to of this name is the run's own.
SCRATCH_PREFIX = "mrd-lens-"
# Texts of forget sets are nobody else's business.
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True)
class Column:
    """A column of a table that a run writes.

    Attributes:
        name: As in the file.
        about: What it says, for people.
        unit: "" where it has none.
        dtype: As pandas names it.
    """

    name: str
    about: str
    unit: str = ""
    dtype: str = "float64"


@dataclass(frozen=True)
class Artifact:
    """A file or folder of a run directory. As an attribute of a run directory it is its path there.

    Attributes:
        path: Name within the directory.
        about: What it holds, for people.
        columns: Of a table.
        scaffolding: Whether only an unfinished run needs it.
        large: Whether it is a folder that may lie on the scratch disk.
    """

    path: str
    about: str
    columns: tuple[Column, ...] = ()
    scaffolding: bool = False
    large: bool = False

    @overload
    def __get__(self, owner: None, kind: type[RunDirectory]) -> Self: ...

    @overload
    def __get__(self, owner: RunDirectory, kind: type[RunDirectory]) -> Path: ...

    def __get__(self, owner: RunDirectory | None, kind: type[RunDirectory]) -> Self | Path:
        return self if owner is None else owner.directory / self.path


@dataclass(frozen=True)
class RunDirectory:
    """What a run directory holds, by name. Each kind of run has its own.

    Attributes:
        directory: The run directory.
        noun: What people call such a run.
        results: Names of the artifacts that a finished run has, the one that is written last at the end.
    """

    directory: Path
    noun: ClassVar[str] = "run"
    results: ClassVar[tuple[str, ...]] = ("summary",)

    config = Artifact(CONFIG_FILE, "The settings of the run.")
    log = Artifact(LOG_FILE, "What the worker printed.")
    launch = Artifact(LAUNCH_FILE, "What a scheduler was asked to give the worker; only where one was.")
    jobs = Artifact(JOBS_FOLDER, "What a scheduler's job is made of, and what it printed.")
    summary = Artifact("summary.json", "The figures of the whole run; written last.")

    @classmethod
    def artifacts(cls) -> dict[str, Artifact]:
        """Return the artifacts by attribute, those of every kind of run first."""
        places = (vars(base) for base in reversed(cls.__mro__))
        return {name: value for place in places for name, value in place.items() if isinstance(value, Artifact)}

    @classmethod
    def finished(cls, directory: Path) -> Self:
        """Return the files of a run that has ended well.

        Raises:
            UserError: One of its results is missing; names it.
        """
        files = cls(directory)
        for path in (getattr(files, name) for name in cls.results):
            if not path.exists():
                raise UserError(
                    f"The {cls.noun} in {directory}",
                    f"has no {path.name}: it does not exist, has not finished, or is no longer whole.",
                    "Name the directory of one that succeeded (`mrd-lens runs list` shows them).",
                )
        return files

    @property
    def is_finished(self) -> bool:
        """Whether the result that is written last is there."""
        path: Path = getattr(self, self.results[-1])
        return path.exists()

    def read_summary(self) -> dict[str, Any]:
        """Return the figures of a finished run."""
        summary: dict[str, Any] = read_json(self.summary)
        return summary

    def remove_scaffolding(self) -> None:
        """Remove what only an unfinished run needs, and what kills left half-written. May be repeated."""
        for artifact in self.artifacts().values():
            if artifact.scaffolding:
                # Out of the way of a process on another machine that still writes into a folder.
                with suppress(FileNotFoundError):
                    path = self.directory / artifact.path
                    path.rename(_temporary(path))
        for temporary in self.directory.glob(".*.tmp"):
            remove_entry(temporary)


def remove_entry(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; one that is not there is fine.

    What a link leads to stays, unless it is a run's own folder on the scratch disk.
    """
    if path.is_symlink() and path.readlink().name.startswith(SCRATCH_PREFIX):
        shutil.rmtree(path.readlink(), ignore_errors=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[io.BufferedWriter], object]) -> None:
    """Let `write` fill a file under a temporary name, then rename it to `path`."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as stream:
            write(stream)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return a name beside a file that no other process takes; numbers of processes are those of one machine."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def write_frame(path: Path, frame: pd.DataFrame, group: int | None = None) -> None:
    """Write a table as Parquet, its folder made where it is missing.

    Args:
        path: The file.
        frame: The table.
        group: Rows that are read at once where a few of many are looked for; None: as many as Parquet likes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda stream: frame.to_parquet(stream, index=False, row_group_size=group))


def json_value(value: Any) -> Any:
    """Return null for a float that JSON cannot hold: an undefined figure."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON, its folder made where it is missing.

    Raises:
        ValueError: A number is not finite; make it null with `json_value`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()
    write_atomically(path, lambda stream: stream.write(text + b"\n"))


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def whole_lines(path: Path) -> Iterator[Any]:
    """Yield the lines of a JSON Lines log, none where it has not begun; one that a kill cut does not count."""
    if path.exists():
        whole, _, _rest = path.read_text(encoding="utf-8").rpartition("\n")
        yield from map(json.loads, whole.splitlines())
