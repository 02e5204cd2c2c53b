"""What tests of every kind share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Server, serving

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def trial_data() -> Path:
    """Folder with real data sets and models (MRD_TRIAL_DATA); tests that need it are skipped without it."""
    folder = Path(os.environ.get("MRD_TRIAL_DATA", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no trial data in {folder}")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; skipped with the reason where there is none."""
    # Not in pytest's own folder, which only its user may enter.
    with tempfile.TemporaryDirectory(prefix="mrd-postgres-") as folder, serving(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def forked() -> Iterator[None]:
    """Fork workers and commands from a process that has loaded what they need, see `tests.support.forked`."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            from tests.support.forked import fork_exec

            patch.setattr(subprocess, "_fork_exec", fork_exec)
        yield


@pytest.fixture(autouse=True)
def cold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the processes of tests that are marked so to load everything themselves."""
    if request.node.get_closest_marker("cold"):
        from tests.support.forked import own_fork_exec

        monkeypatch.setattr(subprocess, "_fork_exec", own_fork_exec)


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the main module back: Streamlit leaves its script there, which a new process would carry out again."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long is slow, too: `-m "not slow"` leaves both out."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")
