"""Submitting a run, and starting its worker as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mrd_core.errors import UserError
from mrd_core.runs import directory as run_directory
from mrd_core.runs.record import Run
from mrd_core.runs.store import RunStore, new_run_id
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings

PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class Launcher(Protocol):
    """Starts the worker of a run somewhere and returns at once."""

    def launch(self, run: Run, command: Sequence[str]) -> None:
        """Start `command` for `run`; OSError where it cannot be started."""


@dataclass(frozen=True)
class LocalLauncher:
    """Starts workers as processes of this machine that outlive this one.

    Args:
        settings: Handed on to the worker, so that it finds the same store.
    """

    settings: Settings = field(default_factory=Settings.from_environment)

    def launch(self, run: Run, command: Sequence[str]) -> None:
        """Start `command` in a session of its own, its output appended to the run's log."""
        with (run.directory / run_directory.LOG_FILE).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
                env=self._environment(),
            )
        # Somebody must wait for the child, or it stays behind as a zombie for as long as this process lives.
        threading.Thread(target=process.wait, name=f"wait-{run.id}", daemon=True).start()

    def _environment(self) -> dict[str, str]:
        paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | {
            "MRD_HOME": str(self.settings.home),
            "MRD_STORE_URL": self.settings.store_url,
            # The package is not installed, and the working directory may be anywhere.
            "PYTHONPATH": os.pathsep.join(paths),
        }


def command_for(directory: Path, kind: str = "score") -> list[str]:
    """Return the command line that carries out the run of this kind in `directory`."""
    return [sys.executable, "-m", run_directory.CONFIGS[kind].package, "run", str(directory)]


def queue_of(device: str) -> str:
    """Return the device whose queue a run waits in, for a device as it is configured.

    `auto` queues for the first GPU where the NVIDIA driver shows one; the job itself picks its device.
    """
    if device == "auto":
        device = "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"
    return "cuda:0" if device == "cuda" else device


def submit(
    config: RunConfig,
    *,
    store: RunStore,
    settings: Settings,
    directory: Path | None = None,
    title: str | None = None,
    launcher: Launcher | None = None,
    prepare: Callable[[Path], None] | None = None,
) -> Run:
    """Make the run directory and the row of a new run, and launch its worker.

    All or nothing: the directory appears whole, the row after it, and neither is left if the worker cannot
    be started.

    Args:
        config: Becomes `config.json`.
        store: Where the row goes.
        settings: Names the data root: runs lie in `settings.home`/runs unless `directory` is given.
        directory: The run directory; it must not exist, or be empty.
        title: For people; made from `config` unless given.
        launcher: Starts the worker; without one the caller carries the run out itself.
        prepare: Writes further files into the directory it is given before the run becomes visible.

    Raises:
        UserError: The directory exists and is not empty, or another run is known to lie there.
    """
    run_id = new_run_id()
    directory = (directory or settings.home / "runs" / run_id).resolve()
    _require_free(directory)
    _require_unknown(directory, store)
    _write_directory(directory, config, prepare)
    try:
        run = store.create(config.kind, title or config.title, queue_of(config.device), directory, run_id)
    except BaseException:
        run_directory.remove(directory)
        raise
    if launcher:
        _launch(launcher, run, store)
    return run


def _require_free(directory: Path) -> None:
    if (directory / run_directory.CONFIG_FILE).exists():
        raise UserError(
            str(directory),
            "It already holds a run.",
            "Name another directory, or delete that run first (`python -m mrd_core runs delete`).",
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(
            str(directory),
            "It is not an empty directory, and deleting the run later would take its files along.",
            "Name a new or an empty directory.",
        )


def _require_unknown(directory: Path, store: RunStore) -> None:
    if earlier := store.find_by_directory(directory):
        raise UserError(
            str(directory),
            f"It was the directory of run {earlier.id}, whose files somebody removed.",
            f"Delete that run first (`python -m mrd_core runs delete {earlier.id}`), or name another directory.",
        )


def _write_directory(directory: Path, config: RunConfig, prepare: Callable[[Path], None] | None) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".submitting-", dir=directory.parent) as staging:
        draft = Path(staging) / directory.name
        draft.mkdir()
        if prepare:
            prepare(draft)
        run_directory.write_config(draft, config)
        draft.rename(directory)


def _launch(launcher: Launcher, run: Run, store: RunStore) -> None:
    try:
        launcher.launch(run, command_for(run.directory, run.kind))
    except BaseException:
        store.request_cancel(run.id)
        store.delete(run.id)
        raise
