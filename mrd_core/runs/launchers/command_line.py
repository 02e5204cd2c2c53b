"""The one thing that a job of Slurm is given: a command line.

submitit pickles it into the run directory, which only its owner can write to, and calls it on the node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrd_core.runs.launchers.port import JOB_VARIABLE


class CommandLine:
    """A command whose output goes to a log.

    Args:
        command: Program and arguments.
        log: What it prints is appended here.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command, self._log = tuple(command), log
        self._pid: int | None = None

    def __call__(self) -> None:
        """Carry it out, and end as it ends."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {JOB_VARIABLE: f"slurm {_job()}"},
            )
        self._pid = process.pid
        if code := process.wait():
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> Any:
        """Have the command stop where it can go on, and return the same for the next time.

        submitit calls it when the scheduler takes the node back, and then puts the job into the queue again.
        """
        from submitit.helpers import DelayedSubmission

        if self._pid is not None:
            os.kill(self._pid, signal.SIGUSR1)
            # The process is left for `wait`, which this has interrupted.
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(CommandLine(self._command, self._log))


def _job() -> str:
    # Of an array, its number.
    return os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"]
