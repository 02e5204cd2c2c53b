"""Whether the process behind a run is still there.

A pid alone lies, because the system gives it out again: boot, PID namespace and start of the process are compared
too, none of which moves with the clock. Where the worker's system is another one, the heartbeat decides; a fresh
heartbeat is a sign of life anywhere.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import psutil

from mrd_core.runs.record import ACTIVE, Run, RunState

HEARTBEAT = timedelta(seconds=2)
FRESH = 3 * HEARTBEAT
STALE = timedelta(seconds=120)
LAUNCH_GRACE = timedelta(seconds=60)


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from every other one.

    Attributes:
        host: Name of its machine, for people.
        system: As `system` returns it.
        pid: Its number.
        started: As `start_of` returns it.
    """

    host: str
    system: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Return the identity of this process."""
        return cls(socket.gethostname(), system(), os.getpid(), start_of(os.getpid()) or 0.0)


@cache
def system() -> str:
    """Return what pids have their meaning in: boot id and PID namespace; the host's name where there are none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def start_of(pid: int) -> float | None:
    """Return when a process of this system began [clock ticks since boot]; None where there is none, or a zombie.

    Without /proc it is seconds since the epoch.
    """
    try:
        if not Path("/proc/self/stat").exists():
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
        # The name in brackets may hold blanks and brackets; state and start are fields 3 and 22.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else float(fields[19])


def process_exists(pid: int, started: float) -> bool:
    """Return whether the process `pid` of this system that began at `started` is alive; a zombie is not."""
    return start_of(pid) == started


def on_this_system(run: Run) -> bool:
    """Return whether the run's worker is, or was, a process that can be looked at from here."""
    return run.system == system()


def was_killed(run: Run) -> bool:
    """Return whether an active run's worker was a process of this system, and is none any more."""
    if run.state not in ACTIVE or run.pid is None or run.pid_started is None:
        return False
    return on_this_system(run) and not process_exists(run.pid, run.pid_started)


def is_gone(run: Run, now: datetime | None = None) -> bool:
    """Return whether an active run has lost its worker.

    A run that no worker has claimed yet is given LAUNCH_GRACE to be claimed.
    """
    now = now or datetime.now(UTC)
    if run.state not in ACTIVE:
        return False
    return now - run.queued_at > LAUNCH_GRACE if run.pid is None else _has_ended(run, now)


def has_live_worker(run: Run) -> bool:
    """Return whether a worker has claimed the run and is still there, be it that the run was called lost."""
    claimed = run.state in ACTIVE | {RunState.LOST} and run.pid is not None
    return claimed and not _has_ended(run, datetime.now(UTC))


def _has_ended(run: Run, now: datetime) -> bool:
    if run.pid is None or run.pid_started is None or run.heartbeat_at is None:
        return True
    silence = now - run.heartbeat_at
    if not on_this_system(run):
        return silence > STALE
    # A clock that was set back leaves heartbeats in the future, which say nothing.
    return abs(silence) > FRESH and not process_exists(run.pid, run.pid_started)
