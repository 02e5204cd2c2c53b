"""A worker at work is not called lost, or takes its run back; and no command takes an empty id for a run."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState, RunStore
from mrd_core.runs.liveness import FRESH, STALE
from mrd_core.settings.installation import Settings
from tests.conftest import REPOSITORY
from tests.support.commands import Outcome
from tests.support.namespaces import namespace
from tests.support.runs import (
    PATIENCE,
    a_dead_process,
    go,
    lost,
    set_row,
    settings_in,
    submitted,
    until_state,
)

S = RunState
REAP = "from mrd_core.runs import RunStore; print(*[run.id for run in RunStore.open().reap()])"
# What psutil would say of every process after the clock was set forward by an hour.
STEPPED = (
    "import psutil; began = psutil.Process.create_time;"
    "psutil.Process.create_time = lambda self, *args: began(self, *args) + 3600; "
)
# What is left where the kernel makes none: to be started by another boot.
BOOTED = "from mrd_core.runs import liveness; liveness.system = lambda: 'another boot'; "


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path / "home")


def reaped_elsewhere(settings: Settings, where: str) -> list[str]:
    """Have another process look for lost runs, and return the ids of those that it marked."""
    ways = {
        "a stepped clock": (sys.executable, "-c", STEPPED + REAP),
        "another PID namespace": (*namespace(), sys.executable, "-c", REAP if namespace() else BOOTED + REAP),
    }
    environment = os.environ | {"MRD_HOME": str(settings.home), "MRD_STORE_URL": settings.store_url}
    done = subprocess.run(
        ways[where], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def paused(store: RunStore, launch: Callable[..., None], run: Run) -> Run:
    """Return a run whose worker was stopped in the middle of its job and has long been silent."""
    launch(run, "wait_for_go")
    running = until_state(store, run, S.RUNNING)
    assert running.pid
    os.kill(running.pid, signal.SIGSTOP)
    set_row(store, run, heartbeat_at=datetime.now(UTC) - STALE)
    return running


@pytest.mark.slow
@pytest.mark.parametrize("where", ["a stepped clock", "another PID namespace"])
def test_a_run_at_work_is_lost_for_nobody(
    store: RunStore, settings: Settings, launch: Callable[..., None], where: str
) -> None:
    run = submitted(store, settings)
    launch(run, "wait_for_go")
    until_state(store, run, S.RUNNING)
    assert reaped_elsewhere(settings, where) == []
    go(run)
    assert until_state(store, run, *S).state in {S.RUNNING, S.SUCCEEDED}
    assert until_state(store, run, S.SUCCEEDED).attempt == 1


@pytest.mark.slow
def test_a_run_lost_by_mistake_is_not_deleted_under_its_worker_and_taken_back(
    store: RunStore, settings: Settings, launch: Callable[..., None]
) -> None:
    run = submitted(store, settings)
    running = paused(store, launch, run)
    assert store.reap() == []
    assert reaped_elsewhere(settings, "another PID namespace") == [run.id]
    with pytest.raises(UserError, match=f"worker \\(process {running.pid} .*still at work"):
        store.delete(run.id)
    assert (run.directory / "config.json").exists()
    os.kill(running.pid or 0, signal.SIGCONT)
    back = until_state(store, run, S.RUNNING)
    assert (back.error, back.finished_at, back.lost_in, back.attempt) == (None, None, None, 1)
    assert list(store.events(run.id).message.str.contains("still at work")).count(True) == 1
    go(run)
    assert until_state(store, run, S.SUCCEEDED).finished_at


def test_two_threads_of_a_worker_may_take_its_run_back_at_once(
    store: RunStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submitted(store, settings)
    set_row(store, run, state=S.LOST, lost_in=S.RUNNING)
    own, looks = store._update, iter([True])

    def interrupted(*asked: Any, **event: Any) -> bool:
        done = own(*asked, **event)
        if next(looks, False):
            assert store.heartbeat(run.id, attempt=1)
        return done

    monkeypatch.setattr(store, "_update", interrupted)
    assert store.heartbeat(run.id, attempt=1)
    assert store.get(run.id).state is S.RUNNING
    assert list(store.events(run.id).message) == ["It was called lost, but its worker is still at work."]


def test_a_change_is_never_seen_without_the_event_that_tells_of_it(store: RunStore, settings: Settings) -> None:
    run = submitted(store, settings)
    set_row(store, run, state=S.LOST, lost_in=S.RUNNING)
    for change in (lambda: store.heartbeat(run.id, attempt=1), lambda: store.resume(run.id)):
        with closing(sqlite3.connect(settings.home / "store.db")) as database:
            database.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END")
        with pytest.raises(IntegrityError):
            change()
        assert store.get(run.id).state is S.LOST
        with closing(sqlite3.connect(settings.home / "store.db")) as database:
            database.execute("DROP TRIGGER full")
    assert store.resume(run.id).state is S.QUEUED
    assert list(store.events(run.id).message) == ["Resumed as attempt 2."]


@pytest.mark.slow
def test_what_ends_while_it_is_called_lost_keeps_its_result(
    store: RunStore, settings: Settings, launch: Callable[..., None]
) -> None:
    run = submitted(store, settings)
    launch(run, "ignore_everything")
    running = until_state(store, run, S.RUNNING)
    set_row(store, run, state=S.LOST, lost_in=S.RUNNING, finished_at=datetime.now(UTC))
    go(run)
    ended = until_state(store, run, S.SUCCEEDED, S.FAILED)
    assert (ended.state, ended.summary, ended.pid) == (S.SUCCEEDED, {"whole": True}, running.pid)


def test_a_fresh_heartbeat_is_a_sign_of_life_and_an_old_one_of_a_dead_process_is_not(
    store: RunStore, settings: Settings
) -> None:
    run = submitted(store, settings)
    assert store.claim(run, a_dead_process())
    assert store.reap() == []
    assert store.request_cancel(run.id) is S.CANCELLING
    # The clock was set back since.
    set_row(store, run, heartbeat_at=datetime.now(UTC) + 10 * FRESH)
    [gone] = store.reap()
    assert (gone.state, gone.lost_in) == (S.LOST, S.CANCELLING)
    store.delete(run.id)
    assert store.list() == []


def test_a_worker_that_was_slow_to_begin_finds_its_run(store: RunStore, settings: Settings) -> None:
    run = submitted(store, settings)
    set_row(store, run, queued_at=datetime.now(UTC) - STALE)
    assert [late.id for late in lost(store)] == [run.id]
    assert store.claim(run, a_dead_process())
    claimed = store.get(run.id)
    assert (claimed.state, claimed.error, claimed.finished_at) == (S.QUEUED, None, None)


# Ids


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize(
    "command",
    [
        ("runs", "delete", "--yes"),
        ("runs", "cancel"),
        ("runs", "resume"),
        ("runs", "show"),
        ("run",),
        ("characteristics",),
        ("curriculum", "--run"),
        ("unlearn", "--method", "ga", "--retain-set", "none", "--scores"),
    ],
    ids=" ".join,
)
def test_an_empty_id_names_no_run(
    cli: Callable[..., Outcome], home: Path, command: tuple[str, ...], blank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(home)
    run = submitted(RunStore.open(settings), settings)
    # An empty path would be the working directory.
    monkeypatch.chdir(run.directory)
    outcome = cli(*command, blank)
    assert outcome.code == 2
    assert "is empty" in outcome.said or "has no name" in outcome.said
    assert RunStore.open(settings).get(run.id) == run


def test_without_a_question_only_the_whole_id_deletes(cli: Callable[..., Outcome], home: Path) -> None:
    settings = settings_in(home)
    run = submitted(RunStore.open(settings), settings)
    RunStore.open(settings).request_cancel(run.id)
    refused = cli("runs", "delete", "--yes", run.id[:-1])
    assert (refused.code, f"Give the whole id: {run.id}." in refused.said) == (2, True)
    assert cli("runs", "delete", "--yes", run.id).code == 0
    assert RunStore.open(settings).list() == []


def test_progress_is_a_sign_of_life_as_good_as_a_heartbeat(store: RunStore, settings: Settings) -> None:
    run = submitted(store, settings)
    assert store.claim(run, a_dead_process())
    set_row(store, run, heartbeat_at=datetime.now(UTC) - 2 * STALE)
    assert store.set_progress(run.id, {"done": 1}, attempt=1)
    assert datetime.now(UTC) - store.get(run.id).heartbeat_at < STALE
    # Of another attempt it is none.
    set_row(store, run, heartbeat_at=datetime.now(UTC) - 2 * STALE)
    assert not store.set_progress(run.id, {"done": 1}, attempt=2)
    assert datetime.now(UTC) - store.get(run.id).heartbeat_at > STALE
