"""What is known about a run: its states and the edges between them, its error, its row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any


class RunState(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    # As another version wrote it.
    UNKNOWN = "unknown"


TERMINAL = frozenset(
    {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.INTERRUPTED, RunState.LOST}
)
ACTIVE = frozenset(RunState) - TERMINAL - {RunState.UNKNOWN}
RESUMABLE = TERMINAL - {RunState.SUCCEEDED}

_STOPS = (RunState.FAILED, RunState.INTERRUPTED, RunState.LOST)
# A job that ends before it notices a request to cancel has a whole result, hence cancelling -> succeeded.
EDGES: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.STARTING, RunState.CANCELLING, RunState.CANCELLED, *_STOPS}),
    RunState.STARTING: frozenset({RunState.RUNNING, RunState.CANCELLING, *_STOPS}),
    RunState.RUNNING: frozenset({RunState.SUCCEEDED, RunState.CANCELLING, *_STOPS}),
    RunState.CANCELLING: frozenset({RunState.CANCELLED, RunState.SUCCEEDED, RunState.FAILED, RunState.LOST}),
} | {state: frozenset() for state in TERMINAL | {RunState.UNKNOWN}}


def sources_of(to: RunState) -> frozenset[RunState]:
    """Return the states that a run may go to `to` from."""
    return frozenset(state for state, targets in EDGES.items() if to in targets)


def require_legal(to: RunState, expected: Iterable[RunState]) -> None:
    """Raise ValueError when one of the `expected` states has no edge to `to`."""
    illegal = sorted(set(expected) - sources_of(to))
    if illegal:
        raise ValueError(f"a run cannot go from {', '.join(illegal)} to {to}")


@dataclass(frozen=True)
class RunError:
    """Why a run did not succeed.

    Attributes:
        type: Name of the exception's class, or `Lost`.
        cause: One line.
        advice: What to do next, one sentence.
        traceback: The whole traceback; empty where it would tell the user nothing.
    """

    type: str
    cause: str
    advice: str
    traceback: str = ""


@dataclass(frozen=True)
class Run:
    """One row of the store.

    Attributes:
        id: Date, time [UTC] and eight random characters: `20261121-074655-ab12cd34`.
        seq: Place in the order of submission; a resumed run keeps it.
        attempt: 1, and one more with every resume.
        device: Device whose queue the run waits in.
        directory: Absolute path of the run directory.
        score_run: Directory of the score run that it builds on; None where it builds on none.
        study: Comparison that it is a part of; None where it stands for itself.
        queued_at: When the present attempt was submitted [UTC], as are all times here.
        system: Boot and PID namespace that the worker's pid belongs to; None in rows of earlier versions.
        pid_started: Start of the worker process [clock ticks since boot]; tells a reused pid apart.
        lost_in: State in which it was called lost, which it goes back to where its worker is still there.
        progress: Free JSON; by convention done, total, eta_seconds, message, the share `within` a
            long step and, while waiting, place.
        summary: What the job returned; None until it succeeds.
        model: What people call the model that it is about, as `forget_set`; None where it is about none.
        method: Unlearning method, as METHODS names it; None where it unlearns nothing.
        launcher: Scheduler that was given the run, as `--launcher` names it; None for a process of a machine.
        job: Its id of the job.
        tags: What people put on it, as the `note`.
    """

    id: str
    seq: int
    kind: str
    title: str
    state: RunState
    attempt: int
    device: str
    directory: Path
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    host: str | None
    pid: int | None
    pid_started: float | None
    heartbeat_at: datetime | None
    progress: dict[str, Any]
    error: RunError | None
    summary: dict[str, Any] | None
    score_run: Path | None = None
    study: str | None = None
    system: str | None = None
    lost_in: RunState | None = None
    model: str | None = None
    forget_set: str | None = None
    method: str | None = None
    launcher: str | None = None
    job: str | None = None
    tags: tuple[str, ...] = ()
    note: str | None = None
