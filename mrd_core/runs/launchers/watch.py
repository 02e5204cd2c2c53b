"""What schedulers say of the jobs behind runs, each asked at most once in ten seconds by a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from mrd_core.runs.launchers.port import Engine, Job, JobState
from mrd_core.runs.record import Run

# So often a scheduler is asked at most [s].
PAUSE = 10.0


@dataclass
class Watch:
    """The last answer of one scheduler.

    Args:
        label: What people call the scheduler.
        engine: The scheduler.
    """

    label: str
    engine: Engine
    _asked_at: float = float("-inf")
    _ids: set[str] = field(default_factory=set)
    _jobs: Mapping[str, Job] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def job(self, job: str) -> Job:
        """Return what the scheduler said last of a job; one that was not asked for yet is UNKNOWN for a while.

        Who asks waits for the answer; others have the last one meanwhile.
        """
        with self._lock:
            self._ids.add(job)
            asks = time.monotonic() - self._asked_at >= PAUSE
            ids = frozenset(self._ids)
            if asks:
                self._asked_at = time.monotonic()
        if asks:
            jobs = self.engine.jobs(ids)
            with self._lock:
                self._jobs, self._asked_at = jobs, time.monotonic()
                # What has ended is asked for once more at most.
                self._ids -= {known for known, said in jobs.items() if not said.is_alive}
        return self._jobs.get(job) or Job(self.label, job, JobState.UNKNOWN)


_watches: dict[str, Watch] = {}


def job_of(run: Run) -> Job | None:
    """Return what the scheduler says of the job behind a run; None where no scheduler has one."""
    if run.launcher is None or run.job is None:
        return None
    return _watch(run.launcher).job(run.job)


def cancel(run: Run) -> None:
    """Take the job behind a run out of its scheduler's hands."""
    if run.launcher is not None and run.job is not None:
        _watch(run.launcher).engine.cancel(run.job)


def last_words(run: Run) -> str:
    """Return the last line that the job of a run printed outside of its worker; "" without one."""
    return _watch(run.launcher).engine.last_words(run.directory) if run.launcher else ""


def _watch(launcher: str) -> Watch:
    if launcher not in _watches:
        # Imported when they are asked for: neither is needed for runs of this machine.
        from mrd_core.runs.launchers import ray_jobs, slurm

        _watches[launcher] = (
            Watch(slurm.LABEL, slurm.Slurm()) if launcher == "slurm" else Watch(ray_jobs.LABEL, ray_jobs.RayJobs())
        )
    return _watches[launcher]
