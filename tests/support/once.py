"""What several processes of one test session need is made by one of them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(base: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process to ask for it has filled; tests that write take a copy.

    Args:
        base: Temporary folder of this process (`tmp_path_factory.getbasetemp()`).
        name: Of the folder.
        make: Fills the folder, which is there and empty; meanwhile other processes wait.
    """
    # Processes that share out a session have their temporary folders side by side in that of the session.
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = session / name, session / f"{name}.done"
    with (session / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
