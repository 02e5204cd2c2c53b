"""What can be the matter with a run store, and what to do about it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import URL

from mrd_core.errors import UserError
from mrd_core.settings.command import shown
from mrd_core.settings.installation import without_password

Matter = Literal["full", "damaged", "unwritable", "busy", "away", "newer", "refused"]
Value = TypeVar("Value")

# What SQLite calls it, by the beginning of the name.
SQLITE: dict[str, Matter] = {
    "SQLITE_FULL": "full",
    "SQLITE_CORRUPT": "damaged",
    "SQLITE_NOTADB": "damaged",
    "SQLITE_READONLY": "unwritable",
    "SQLITE_CANTOPEN": "unwritable",
    "SQLITE_PERM": "unwritable",
    "SQLITE_BUSY": "busy",
    "SQLITE_LOCKED": "busy",
}
# What PostgreSQL's driver raises of a server that is away, and what that says where the server answers no.
AWAY = ("OperationalError", "InterfaceError", "AdminShutdown")
REFUSALS = (
    *("authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist"),
    *("permission denied", "not permitted to log in"),
)
# SQLite's index of its log takes this much, and without it reports an input/output error [bytes].
LEAST_SPACE = 2**16
PATIENCE, PAUSE = 600.0, 2.0


class StoreError(UserError):
    """The store cannot be opened, read or written.

    Args:
        matter: What is the matter with it.
        what: The store.
        why: The cause, in one sentence.
        fix: What to do next.
    """

    def __init__(self, matter: Matter, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.matter = matter

    @property
    def passes(self) -> bool:
        """Whether it may pass by itself: a server that comes back, a program that lets go of the file."""
        return self.matter in ("busy", "away")


def name_of(url: URL) -> str:
    """Return what people call a store: its file, or its address without the password."""
    return f"the run store {url.database if _is_file(url) else without_password(url)}"


def explained(url: URL, home: Path, error: BaseException) -> StoreError:
    """Return what a user should read of an error of the database.

    Args:
        url: Of the store.
        home: Data root of the installation, where its runs lie wherever the store does.
        error: As the driver raised it.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    matter = _matter(url, error)
    if matter == "damaged" and (place := broken_page(url)) not in ("", reason):
        reason = f"{reason}; {place}"
    folder = Path(url.database or ".").parent
    causes: dict[Matter, tuple[str, str]] = {
        "full": (
            "The disk is full.",
            f"Free some space: `{shown('runs', 'list')}` still works, and `{shown('runs', 'delete')} RUN` removes "
            "a run with its files.",
        ),
        "damaged": (
            f"It is damaged ({reason}).",
            f"Move {url.database} away, then take the runs up again: `{shown('runs', 'adopt', home / 'runs')}`. "
            f"`{shown('doctor')}` looks at every page of it.",
        ),
        "unwritable": (
            f"It cannot be written ({reason}).",
            f"Correct the permissions of {folder}, or set MRD_HOME to a folder you can write to, or MRD_STORE_URL "
            "to a database that is reachable.",
        ),
        "busy": (
            "Another program has been writing to it for half a minute.",
            "Try again when that program has finished.",
        ),
        "away": (
            f"Its server cannot be reached ({reason}).",
            "Start the server, or set MRD_STORE_URL to a database that is reachable.",
        ),
    }
    why, fix = causes.get(
        matter, (f"The database refuses it ({reason}).", f"See `{shown('doctor')}`, and set MRD_STORE_URL right.")
    )
    return StoreError(matter, name_of(url), why, fix)


def broken_page(url: URL) -> str:
    """Return the first line that SQLite says of what is broken in a store's file; "" where nothing is.

    Every page is read.
    """
    if not (_is_file(url) and url.database and Path(url.database).is_file()):
        return ""
    try:
        with closing(sqlite3.connect(url.database)) as connection:
            first = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if first == "ok" else " ".join(first.split())


def patiently(action: Callable[[], Value]) -> Value:
    """Return what `action` returns, tried again for PATIENCE seconds while the store is away or held by others."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except StoreError as error:
            if not error.passes or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


@contextmanager
def away_for_a_while() -> Iterator[None]:
    """Pass over an error of the store that may pass by itself."""
    try:
        yield
    except StoreError as error:
        if not error.passes:
            raise


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _matter(url: URL, error: BaseException) -> Matter:
    if not _is_file(url):
        is_away = type(error).__name__ in AWAY and not any(words in str(error) for words in REFUSALS)
        return "away" if is_away else "refused"
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_IOERR") and shutil.disk_usage(Path(url.database or ".").parent).free < LEAST_SPACE:
        return "full"
    if name.startswith("SQLITE_IOERR"):
        return "unwritable"
    return next((matter for beginning, matter in SQLITE.items() if name.startswith(beginning)), "damaged")
