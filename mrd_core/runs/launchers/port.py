"""The port to whatever starts workers, and what a scheduler says of a job."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from mrd_core.errors import UserError
from mrd_core.runs.record import Run

# Tells a worker which job it belongs to: `slurm 17`.
JOB_VARIABLE = "MRD_JOB"


def own_job() -> tuple[str, str] | None:
    """Return launcher and id of the job that this process belongs to; None where no scheduler started it."""
    launcher, _, job = os.environ.get(JOB_VARIABLE, "").partition(" ")
    return (launcher, job) if job else None


def package(launcher: str, module: str, extra: Path) -> Any:
    """Import a module that only a launcher needs.

    Args:
        launcher: What people call it.
        module: The module; its package is called like the first part of its name.
        extra: Requirements that have it.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"The launcher {launcher}",
            f"needs the package {module.partition('.')[0]}, which is not installed.",
            f"Install it: `{sys.executable} -m pip install -r {extra}`.",
        ) from error


class JobState(StrEnum):
    """Where a job is in its scheduler's hands."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled at its scheduler"
    TIMED_OUT = "stopped at the end of its time"
    PREEMPTED = "preempted"
    NODE_LOST = "stopped, as its node failed"
    OUT_OF_MEMORY = "killed for its memory"
    FAILED = "failed"
    # Its scheduler has forgotten it.
    GONE = "gone"
    # Its scheduler does not answer, or is asked later.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Job:
    """A job, as its scheduler sees it.

    Attributes:
        engine: What people call the scheduler.
        id: Its number or name there.
        state: Where it is.
        detail: In the scheduler's own words why it waits, where it runs or how it ended; "" where it says nothing.
    """

    engine: str
    id: str
    state: JobState
    detail: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether a worker of it is at work or will come, as far as is known."""
        return self.state in (JobState.WAITING, JobState.RUNNING, JobState.UNKNOWN)

    @property
    def name(self) -> str:
        """`Slurm job 17`."""
        return f"{self.engine} job {self.id}"

    @property
    def stated(self) -> str:
        """`Slurm job 17: waiting (Resources)`."""
        return f"{self.name}: {self.state}" + (f" ({self.detail})" if self.detail else "")


class Launcher(Protocol):
    """Starts the worker of a run somewhere and returns at once."""

    @property
    def name(self) -> str:
        """As `--launcher` names it."""

    def launch(self, run: Run, command: Sequence[str]) -> str | None:
        """Start `command` for `run`, and return the scheduler's id of the job; None where there is no scheduler.

        Raises:
            OSError: It cannot be started.
            UserError: It cannot work there, or the scheduler refuses it.
        """


class Engine(Protocol):
    """A scheduler that jobs were given to."""

    def jobs(self, ids: Collection[str]) -> Mapping[str, Job]:
        """Return what it says of jobs, by id; those that it does not answer for are UNKNOWN."""

    def cancel(self, job: str) -> None:
        """Take a job out of its hands; one that has ended stays as it is. Nothing is raised."""

    def last_words(self, directory: Path) -> str:
        """Return the last line that the job of a run directory printed outside of its worker; "" without one."""
