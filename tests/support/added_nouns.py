"""A copy of the product's tree that a test may add files to, and what it says then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

ROOMS = ("mrd_core", "analysis", "pages", "cli")


def copied_tree(folder: Path) -> Path:
    """Copy the product's sources into `folder`, which must not exist, and return it."""
    for room in ROOMS:
        if (REPOSITORY / room).is_dir():
            # With what is compiled already: copies are as old as what they are copied from.
            shutil.copytree(REPOSITORY / room, folder / room)
    shutil.copy(REPOSITORY / "app.py", folder)
    return folder


def said_in(tree: Path, *arguments: str) -> str:
    """Return what Python prints when it is run with these arguments in a tree, with that tree's modules.

    Raises:
        AssertionError: It failed.
    """
    environment = os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"}
    outcome = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def help_in(tree: Path, *command: str) -> str:
    """Return what `--help` of a command says in a tree."""
    door = "cli" if (tree / "cli").is_dir() else "mrd_core"
    return said_in(tree, "-m", door, *command, "--help")
