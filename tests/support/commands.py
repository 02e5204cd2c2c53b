"""Command lines by their front door: as processes of their own, and how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from tests.conftest import REPOSITORY

PATIENCE = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said with its lines joined."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return " ".join(f"{self.out} {self.err}".split())


def started(package: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start `python -m PACKAGE …` as a process of its own, with one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", package, *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process to end."""
    out, err = process.communicate(timeout=PATIENCE)
    return Outcome(process.returncode, out, err)
