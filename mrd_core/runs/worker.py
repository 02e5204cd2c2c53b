"""The worker: one process that carries out one run, from its directory to a terminal state."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from mrd_core.errors import UserError
from mrd_core.runs import last_words, occupancy, scratch
from mrd_core.runs.context import Cancelled, Display, Interrupted, JobContext, StoredContext
from mrd_core.runs.devices import beside, lock_name
from mrd_core.runs.directory import read_config
from mrd_core.runs.failure import describe
from mrd_core.runs.faults import StoreError, away_for_a_while, patiently
from mrd_core.runs.kind import at_place, kind_named
from mrd_core.runs.launchers.local import LocalLauncher
from mrd_core.runs.launchers.port import own_job
from mrd_core.runs.liveness import HEARTBEAT, STALE, ProcessIdentity, is_gone
from mrd_core.runs.printing import visible
from mrd_core.runs.record import ACTIVE, RESUMABLE, Run, RunError, RunState, sources_of
from mrd_core.runs.store import RunStore
from mrd_core.runs.submission import register, submit
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings

# Each job takes the configuration of its own kind of run.
Job = Callable[[Any, JobContext], Mapping[str, Any]]
QUEUE_POLL_INTERVAL = 0.3


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: RunState
    error: RunError | None = None
    summary: Mapping[str, Any] | None = None


def run(
    directory: Path, *, store: RunStore | None = None, foreground: bool = False, job: str | None = None
) -> RunState:
    """Carry out the run in `directory` and return the state it ended in.

    A directory that the store does not know (a copied config.json) becomes a new run. SIGTERM and
    SIGUSR1 interrupt it at the next step, to be resumed; Ctrl-C cancels it, and a second one ends it at once.

    Args:
        directory: Holds config.json.
        store: The run store; by default the one the environment names.
        foreground: Show progress and events on stderr.
        job: `module:function`, called with the config and a JobContext; by default that of the run's kind.

    Raises:
        UserError: config.json is missing or invalid, the run is not waiting for a worker, or that of another store
            is at work in the directory.
    """
    config = read_config(directory, RunConfig)
    store = store or patiently(RunStore.open)
    if job_here := own_job():
        patiently(partial(_take_up_again, store, directory, *job_here))
    stop, room = threading.Event(), threading.Event()
    with (
        _at_work(store, config, directory) as claimed,
        _signals_set(stop, room),
        _display(foreground, claimed) as display,
        ExitStack() as held,
    ):
        context = StoredContext(store, claimed, stop, display, room)
        with _heartbeat(store, claimed, stop, context):
            outcome = _carry_out(store, claimed, config, context, job or kind_named(config.kind).job, held)
            state = _conclude(store, claimed, context, outcome)
    if state is RunState.SUCCEEDED:
        _follow(store, claimed, config, foreground)
    return state


def _follow(store: RunStore, run_before: Run, config: RunConfig, foreground: bool) -> None:
    """Start the run that is to follow one that succeeded, or carry it out where this one was in the foreground."""
    place = kind_named(config.kind).follow_up
    following = at_place(place)(config, run_before.directory) if place else None
    if following is None:
        return
    settings = Settings.from_environment()
    # A scheduler's job has the machine for itself, and takes what it starts along when it ends.
    here = foreground or run_before.launcher is not None
    try:
        made = submit(
            following, store=store, settings=settings, launcher=None if here else LocalLauncher(settings)
        )
    except (UserError, OSError) as error:
        why = describe(error)
        store.add_event(run_before.id, "warning", f"What was to follow could not start: {why.cause} {why.advice}")
        return
    if here:
        if run_before.launcher and run_before.job:
            store.assign(made.id, run_before.launcher, run_before.job)
        run(made.directory, store=store, foreground=foreground)


def _take_up_again(store: RunStore, directory: Path, launcher: str, job: str) -> None:
    """Queue the run of a directory for this job, if an earlier one of it was ended by its scheduler."""
    deadline = time.monotonic() + 1.5 * STALE.total_seconds()
    while (known := store.find_by_directory(directory)) and known.state in ACTIVE and known.pid is not None:
        # An earlier worker of this job is dead; for a while its last heartbeat may be fresh.
        if is_gone(known):
            store.transition(known.id, RunState.LOST, expected=known.state, attempt=known.attempt)
        elif time.monotonic() > deadline:
            break
        else:
            time.sleep(QUEUE_POLL_INTERVAL)
    if known and known.state in RESUMABLE:
        known = store.resume(known.id)
    if known and known.state is RunState.QUEUED:
        store.assign(known.id, launcher, job)


@contextmanager
def _at_work(store: RunStore, config: RunConfig, directory: Path) -> Iterator[Run]:
    """Claim the run of a directory, known to the store or not, and keep the workers of other stores out."""
    known = patiently(lambda: store.find_by_directory(directory))
    claimed = _claim(store, known) if known else None
    with ExitStack() as stack:
        try:
            stack.enter_context(occupancy.held(directory))
        except (UserError, OSError) as error:
            if claimed:
                store.finish(claimed.id, RunState.FAILED, describe(error), attempt=claimed.attempt)
            raise
        with suppress(OSError):
            last_words.make_room(directory, f"Process {os.getpid()} on {socket.gethostname()}, of {store.name},")
        yield claimed or _claim(store, register(config, directory, store))


def _claim(store: RunStore, run: Run) -> Run:
    own, in_doubt = ProcessIdentity.current(), False

    def claim() -> bool:
        nonlocal in_doubt
        try:
            return store.claim(run, own)
        except StoreError:
            # The connection may have broken after the store had heard it.
            in_doubt = True
            raise

    patiently(store.reap)
    if not patiently(claim):
        run = patiently(lambda: store.get(run.id))
        if in_doubt and (run.host, run.pid, run.pid_started) == (own.host, own.pid, own.started):
            return run
        fix = f"See `mrd-lens runs show {run.id}`; an ended run goes on with `runs resume {run.id}`."
        waiting = run.state is RunState.QUEUED
        why = f"Process {run.pid} on {run.host} is its worker." if waiting else f"It is {run.state}, not queued."
        raise UserError(f"run {run.id}", why, fix)
    return patiently(lambda: store.get(run.id))


def _carry_out(
    store: RunStore, run: Run, config: RunConfig, context: StoredContext, job: str, held: ExitStack
) -> Outcome:
    """Wait for the device and do the job; the device's lock is left in `held`. Nothing is raised."""
    try:
        held.enter_context(_turn_on_device(store, run, config, context))
        _advance(store, run, RunState.STARTING, RunState.QUEUED)
        context.show({"message": "starting"})
        lost = scratch.lend(kind_named(run.kind).files(run.directory), Settings.from_environment().scratch)
        for sentence in lost:
            context.event("warning", f"{sentence} What it holds is done once more.")
        carry_out: Job = at_place(job)
        _advance(store, run, RunState.RUNNING, RunState.STARTING)
        return Outcome(RunState.SUCCEEDED, summary=carry_out(config, context))
    except Interrupted:
        return Outcome(RunState.INTERRUPTED)
    except Cancelled:
        return Outcome(RunState.CANCELLED)
    except KeyboardInterrupt as interrupt:
        return Outcome(RunState.CANCELLED, describe(interrupt))
    # The one place where any error of a job becomes data.
    except Exception as error:
        return Outcome(RunState.FAILED, describe(error))


def _conclude(store: RunStore, run: Run, context: StoredContext, outcome: Outcome) -> RunState:
    """Tell the store how the run ended; where it cannot be told, the run directory."""
    if outcome.error:
        # The log may lie on a full disk.
        with suppress(OSError):
            print(visible(outcome.error.traceback), end="", file=sys.stderr, flush=True)
    try:
        state = patiently(lambda: _final_state(store, run, outcome))
        if outcome.error:
            context.event("error", f"{outcome.error.cause} {outcome.error.advice}")
        elif state is not RunState.SUCCEEDED:
            context.event("info", f"{state.capitalize()}.")
        patiently(context.catch_up)
        patiently(lambda: store.finish(run.id, state, outcome.error, outcome.summary, run.attempt))
        state = patiently(lambda: store.get(run.id).state)
    except StoreError as error:
        with suppress(OSError):
            last_words.write(run.directory, run.attempt, outcome.error or describe(error))
        raise
    last_words.remove(run.directory)
    return state


def _final_state(store: RunStore, run: Run, outcome: Outcome) -> RunState:
    """Return the state that the run ends in; only a store that says so, or a keyboard, cancels."""
    # What it was called meanwhile by mistake is no obstacle to its result.
    store.heartbeat(run.id, run.attempt)
    asked = RunState.CANCELLING
    if outcome.state is RunState.CANCELLED:
        store.transition(run.id, asked, expected=sources_of(asked), attempt=run.attempt)
    elif outcome.state is RunState.INTERRUPTED and store.get(run.id).state is asked:
        return RunState.CANCELLED
    return outcome.state


def _advance(store: RunStore, run: Run, to: RunState, source: RunState) -> None:
    patiently(lambda: store.heartbeat(run.id, run.attempt))
    if not patiently(lambda: store.transition(run.id, to, expected=source, attempt=run.attempt)):
        raise Cancelled(f"The run is no longer {source}.")


@contextmanager
def _turn_on_device(store: RunStore, run: Run, config: RunConfig, context: StoredContext) -> Iterator[None]:
    """Hold the locks of the devices, the first taken in order of submission. They go with the process.

    The devices of a scheduler's job are its own.
    """
    if run.launcher is not None:
        yield
        return
    locks = store.home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        # In one order for all runs, so that no two wait for each other.
        for device in (run.device, *beside(run.device, config)):
            # A soft lock would survive a kill.
            lock = FileLock(locks / f"{lock_name(device)}.lock", fallback_to_soft=False)
            while True:
                with away_for_a_while():
                    store.reap()
                place = patiently(lambda: store.queue_place(run.id))
                if place <= 1:
                    with suppress(Timeout):
                        held.enter_context(lock.acquire(timeout=0))
                        break
                context.check_cancelled()
                waiting = f"waiting: place {place}" if device == run.device else f"waiting for {device}"
                context.show({"message": waiting, "place": place})
                time.sleep(QUEUE_POLL_INTERVAL)
        yield


@contextmanager
def _heartbeat(store: RunStore, run: Run, stop: threading.Event, context: StoredContext) -> Iterator[None]:
    """Beat in a thread of its own; set `stop` when the run has been taken from this worker.

    Progress that was stored since the last beat is a sign of life as good.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT.total_seconds()):
            if context.seconds_since_progress < HEARTBEAT.total_seconds():
                continue
            try:
                if not store.heartbeat(run.id, run.attempt):
                    stop.set()
            except StoreError as error:
                # A store that is away for a moment is no reason to stop working. The log may be on a full disk.
                with suppress(OSError):
                    print(f"warning: no heartbeat ({error})", file=sys.stderr, flush=True)

    thread = threading.Thread(target=beat, name=f"heartbeat-{run.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _signals_set(stop: threading.Event, room: threading.Event) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop, SIGTERM and SIGUSR1 into one to make room.

    Only where the main thread works.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        (stop if number == signal.SIGINT else room).set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _display(foreground: bool, run: Run) -> Iterator[Display | None]:
    if not foreground:
        yield None
        return
    # A worker in the background has no use for rich.
    from mrd_core.runs.terminal import ProgressBar

    with ProgressBar(run.title) as bar:
        yield bar
