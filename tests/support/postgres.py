"""A PostgreSQL server of the tests' own, from the distribution's packages, in a folder that is removed with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy

# It refuses to run as root.
UNPRIVILEGED = "nobody"
_numbers = count()


@dataclass(frozen=True)
class Server:
    """A server that can be started and stopped.

    Attributes:
        programs: Folder of PostgreSQL's programs.
        folder: Of its data.
        port: That it listens on, on the loopback interface.
    """

    programs: Path
    folder: Path
    port: int

    def control(self, *words: str) -> None:
        """Run `pg_ctl`, as somebody else where this is root."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = self.folder.with_name("server.log")
        command = [self.programs / "pg_ctl", "-D", self.folder, "-w", "-l", log, "-o", options, *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder.parent, user=_user())

    def url(self, database: str) -> str:
        """Return the address of a database as MRD_STORE_URL takes it."""
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """Return the address of a new, empty database."""
        name = f"store_{next(_numbers)}"
        engine = sqlalchemy.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self.url(name)


def _user() -> str | None:
    return UNPRIVILEGED if os.geteuid() == 0 else None


def _programs() -> Path | None:
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    on_path = shutil.which("pg_ctl")
    folders += [Path(on_path).parent] if on_path else []
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Start a server with its data in `folder`; skips the test where there is none to start, or no driver."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install -r requirements-postgres.txt")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if _user():
        shutil.chown(folder, UNPRIVILEGED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(programs, folder / "data", free.getsockname()[1])
    initialise = [programs / "initdb", "-D", server.folder, "-U", "tester", "-A", "trust", "--no-sync"]
    subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, cwd=folder, user=_user())
    server.control("start")
    try:
        yield server
    finally:
        server.control("stop", "-m", "immediate")
