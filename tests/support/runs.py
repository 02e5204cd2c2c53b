"""Runs in a store of their own: submitted, carried out by small real jobs, waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy

from mrd_core.model.config import ModelConfig
from mrd_core.runs import LocalLauncher, Run, RunState, RunStore, submit
from mrd_core.runs.liveness import FRESH, ProcessIdentity, process_exists, start_of
from mrd_core.runs.schema import RUNS
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.settings.installation import Settings
from tests.support.forked import WORKER
from tests.support.run_jobs import STEPS_FILE

JOBS = "tests.support.run_jobs"
PATIENCE = 30.0


def settings_in(home: Path) -> Settings:
    return Settings(home=home, store_url=f"sqlite:///{home / 'store.db'}", allowed_roots=())


@contextmanager
def launching(store: RunStore, settings: Settings) -> Iterator[Callable[..., None]]:
    """Launch workers as the product does; whatever still runs at the end is killed."""
    launched: list[Run] = []

    def start(run: Run, job: str) -> None:
        launched.append(run)
        LocalLauncher(settings).launch(run, [sys.executable, "-c", WORKER, str(run.directory), f"{JOBS}:{job}"])

    yield start
    for run in launched:
        known = store.find_by_directory(run.directory)
        if known and known.pid and process_exists(known.pid, known.pid_started):
            with suppress(ProcessLookupError):
                os.kill(known.pid, signal.SIGKILL)


def config_of(draws: int = 20, seed: int = 0, device: str = "cpu") -> ScoreConfig:
    return ScoreConfig(
        forget_set=ForgetSetConfig(source="forget.csv"),
        model=ModelConfig(device=device),
        estimator=EstimatorConfig(draws=draws, seed=seed),
    )


def submitted(store: RunStore, settings: Settings, name: str | None = None, **changes: int | str) -> Run:
    directory = settings.home / "runs" / name if name else None
    return submit(config_of(**changes), store=store, settings=settings, directory=directory)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.02)


def until_state(store: RunStore, run: Run, *states: RunState) -> Run:
    until(lambda: store.get(run.id).state in states, f"{run.id} is {' or '.join(states)}")
    return store.get(run.id)


def steps(run: Run) -> int:
    """Return how many steps the job `count` has done; the store is told of several at a time."""
    path = run.directory / STEPS_FILE
    return int(path.read_text()) if path.exists() else 0


def go(run: Run) -> None:
    (run.directory / "go").touch()


def moved(store: RunStore, run: Run, *path: RunState) -> None:
    """Walk a run along `path`, each step from the one before."""
    for source, target in zip((RunState.QUEUED, *path), path, strict=False):
        assert store.transition(run.id, target, expected=source)


def set_row(store: RunStore, run: Run, **values: object) -> None:
    """Put facts into the row that only another host or another time would write."""
    with store._engine.begin() as connection:
        connection.execute(sqlalchemy.update(RUNS).where(RUNS.c.id == run.id).values(**values))


def a_dead_process() -> ProcessIdentity:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = ProcessIdentity.current()
    identity = ProcessIdentity(me.host, me.system, process.pid, start_of(process.pid))
    process.communicate(b"\n")
    return identity


def claimed_by_a_dead_process(store: RunStore, run: Run) -> None:
    """Have a run claimed by a process that has ended, and whose last heartbeat is no longer fresh."""
    assert store.claim(run, a_dead_process())
    set_row(store, run, heartbeat_at=datetime.now(UTC) - FRESH)


def lost(store: RunStore) -> list[Run]:
    """Wait until runs are lost: the last heartbeat of a worker that was killed is fresh for a while."""
    runs: list[Run] = []
    until(lambda: runs.extend(store.reap()) or runs, "a run is lost")
    return runs
