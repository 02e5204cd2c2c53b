"""Whether the process behind a run is still there.

A pid alone lies, because the system gives it out again: the start time of the process is compared too.
Another host's processes cannot be looked at, so there the heartbeat decides.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

from mrd_core.runs.record import ACTIVE, Run

HEARTBEAT = timedelta(seconds=2)
STALE = timedelta(seconds=120)
LAUNCH_GRACE = timedelta(seconds=60)

# psutil derives the start time from the wall clock, so that small clock corrections move it.
START_TIME_TOLERANCE = 2.0


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from every other one: host name, pid, start [seconds since the epoch]."""

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Return the identity of this process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())


def process_exists(pid: int, started: float) -> bool:
    """Return whether the process `pid` of this host that began at `started` [s] is alive; a zombie is not."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) <= START_TIME_TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def on_this_host(run: Run) -> bool:
    """Return whether the run's worker is, or was, a process of this host."""
    return run.host == socket.gethostname()


def is_gone(run: Run, now: datetime | None = None) -> bool:
    """Return whether an active run has lost its worker.

    A run that no worker has claimed yet is given LAUNCH_GRACE to be claimed.
    """
    now = now or datetime.now(UTC)
    if run.state not in ACTIVE:
        return False
    if run.pid is None or run.pid_started is None:
        return now - run.queued_at > LAUNCH_GRACE
    if not on_this_host(run):
        return run.heartbeat_at is None or now - run.heartbeat_at > STALE
    return not process_exists(run.pid, run.pid_started)


def has_live_worker(run: Run) -> bool:
    """Return whether a worker has claimed the run and is still there."""
    return run.state in ACTIVE and run.pid is not None and not is_gone(run)
