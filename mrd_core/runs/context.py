"""What a job is given to talk to the outside: its directory, progress, metrics, events, cancellation."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from mrd_core.runs.faults import away_for_a_while
from mrd_core.runs.printing import visible
from mrd_core.runs.record import ACTIVE, Run, RunState
from mrd_core.runs.store import Level, Metric, RunStore, SampleUpdate

# A run writes its progress into the store no more than once in so long, and its metrics half as often: many runs
# may share it. In the foreground it shows itself once in so long [s].
PROGRESS_INTERVAL, DISPLAY_INTERVAL = 2.0, 0.2
CANCEL_POLL_INTERVAL = 0.5


class Cancelled(Exception):  # noqa: N818  (it is no error)
    """The run was asked to stop, or another worker has taken it over."""


class Interrupted(Cancelled):
    """The worker's process was asked to make room: the run is to be resumed."""


class JobContext:
    """A job's link to the outside. This one stands alone, for library use: it only prints events.

    Args:
        directory: Where the job writes its results.
        run_id: Names the run in messages; the directory's name unless given.
    """

    def __init__(self, directory: Path, run_id: str | None = None) -> None:
        self.directory = directory
        self.run_id = run_id or directory.name

    def progress(self, done: int, total: int, *, likely: int | None = None, **extra: Any) -> None:
        """Say that `done` of `total` steps are done.

        Args:
            done: Steps done.
            total: Steps there will be; with `likely`, the most there can be.
            likely: How many will probably be needed.
            **extra: Shown with it: message, eta_seconds, is_most (the total is the most there can be).
        """

    def within(self, share: float) -> None:
        """Say what share of the step at hand is done, 0 to 1, where a step takes long."""

    def metrics(self, step: int, **values: float) -> None:
        """Record named values at `step`."""

    def steps(self, metrics: Iterable[Metric], updates: Iterable[SampleUpdate]) -> None:
        """Record what several steps found."""

    def go_back(self, step: int) -> None:
        """Forget what was recorded of steps after `step`, which will be taken once more."""

    def event(self, level: Level, message: str) -> None:
        """Record, and print to stderr, something that a reader of the run should know."""
        print(visible(f"{level}: {message}"), file=sys.stderr, flush=True)

    def check_cancelled(self) -> None:
        """Raise Cancelled when the run was asked to stop. Cheap enough for every step."""


class Display(Protocol):
    """Where a run in the foreground shows itself."""

    def progress(self, progress: dict[str, Any]) -> None:
        """Show the progress."""

    def event(self, level: Level, message: str) -> None:
        """Show one event."""


class StoredContext(JobContext):
    """The context of a run in the store.

    Args:
        store: Where progress, metrics and events go.
        run: The run, at the attempt that this process works on.
        stop: Set by a signal, or by the heartbeat when the run is no longer this process's.
        room: Set by a signal with which a scheduler takes the machine back.
        display: Shows the same in the foreground; without it events are printed.
    """

    def __init__(
        self,
        store: RunStore,
        run: Run,
        stop: threading.Event,
        display: Display | None = None,
        room: threading.Event | None = None,
    ) -> None:
        super().__init__(run.directory, run.id)
        self._store = store
        self._attempt = run.attempt
        self._stop = stop
        self._room = room or threading.Event()
        self._display = display
        self._waiting: deque[Callable[[], object]] = deque()
        self._first: tuple[int, float] | None = None
        self._last_message: object = None
        self._gathered: list[Metric] = []
        self._last_progress = self._last_metrics = self._last_display = self._last_poll = float("-inf")
        self._stored_at = float("-inf")
        self._said: dict[str, Any] = {}

    @property
    def seconds_since_progress(self) -> float:
        """How long ago progress was stored, and with it that the worker is alive [s]."""
        return time.monotonic() - self._stored_at

    def progress(self, done: int, total: int, *, likely: int | None = None, **extra: Any) -> None:
        """Store the progress with an estimate of the time left, at most every PROGRESS_INTERVAL seconds."""
        # A resumed job begins at done > 0: only what this process did tells its pace, from its first step on.
        if self._first is None or done <= self._first[0]:
            self._first = (done, time.monotonic())
        first_done, began = self._first
        eta = None
        if done != first_done:
            left = max(0, (likely or total) - done)
            eta = (time.monotonic() - began) / (done - first_done) * left
        about = {"likely": likely, "is_most": True} if likely and likely < total else {}
        self._said = {"done": done, "total": total, "eta_seconds": eta} | about | extra
        self.show(self._said, urgent=done >= total)

    def within(self, share: float) -> None:
        """Store the last progress with the share of a step, at most every PROGRESS_INTERVAL seconds."""
        self.show(self._said | {"within": share})

    def show(self, progress: dict[str, Any], *, urgent: bool = False) -> None:
        """Store `progress`; one that comes too soon is dropped, unless it is urgent or says something new."""
        now = time.monotonic()
        news = urgent or progress.get("message") != self._last_message
        if news or now - self._last_progress >= PROGRESS_INTERVAL:
            self._last_progress, self._last_message = now, progress.get("message")
            # What is not shown while the store is away is shown with the next.
            with away_for_a_while():
                if self._store.set_progress(self.run_id, progress, self._attempt):
                    self._stored_at = time.monotonic()
        if self._display and (news or now - self._last_display >= DISPLAY_INTERVAL):
            self._last_display = now
            self._display.progress(progress)

    def catch_up(self) -> None:
        """Write what waits for the store, in order."""
        if self._gathered:
            rows, self._gathered = self._gathered, []
            self._waiting.append(lambda: self._store.add_steps(self.run_id, rows, []))
        while self._waiting:
            self._waiting[0]()
            self._waiting.popleft()

    def _record(self, write: Callable[[], object]) -> None:
        self._waiting.append(write)
        with away_for_a_while():
            self.catch_up()

    def metrics(self, step: int, **values: float) -> None:
        """Append the values to the run's metrics, together with those before where they come fast."""
        self._gathered += [Metric(step, name, value) for name, value in values.items()]
        now = time.monotonic()
        if now - self._last_metrics >= 2 * PROGRESS_INTERVAL:
            self._last_metrics = now
            with away_for_a_while():
                self.catch_up()

    def steps(self, metrics: Iterable[Metric], updates: Iterable[SampleUpdate]) -> None:
        """Append them to the store."""
        rows, drawn = list(metrics), list(updates)
        self._record(lambda: self._store.add_steps(self.run_id, rows, drawn))

    def go_back(self, step: int) -> None:
        """Remove later steps from the store."""
        self._record(lambda: self._store.forget_steps(self.run_id, step))

    def event(self, level: Level, message: str) -> None:
        """Append to the run's events and show it."""
        self._record(lambda: self._store.add_event(self.run_id, level, message))
        if self._display:
            self._display.event(level, message)
        else:
            super().event(level, message)

    def check_cancelled(self) -> None:
        """Raise Cancelled; the store is asked at most every CANCEL_POLL_INTERVAL seconds."""
        if self._room.is_set():
            raise Interrupted("The worker was asked to make room.")
        if self._stop.is_set():
            raise Cancelled("The worker was asked to stop.")
        if time.monotonic() - self._last_poll < CANCEL_POLL_INTERVAL:
            return
        self._last_poll = time.monotonic()
        with away_for_a_while():
            self._check_state()

    def _check_state(self) -> None:
        run = self._store.get(self.run_id)
        if run.state is RunState.LOST and self._store.heartbeat(self.run_id, self._attempt):
            run = self._store.get(self.run_id)
        if run.attempt != self._attempt or run.state not in ACTIVE:
            raise Cancelled(f"The run is {run.state} at attempt {run.attempt}: this worker no longer owns it.")
        if run.state is RunState.CANCELLING:
            raise Cancelled("The run was cancelled.")
