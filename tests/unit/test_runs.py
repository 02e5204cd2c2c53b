"""Runs: the state machine, the queue, and real workers that are launched, cancelled, killed and resumed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import sqlalchemy
from filelock import FileLock
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from analysis.characteristics.config import CharacteristicsConfig
from mrd_core.errors import UserError
from mrd_core.runs import (
    ACTIVE,
    TERMINAL,
    LocalLauncher,
    Run,
    RunError,
    RunState,
    RunStore,
    command_for,
    submit,
    worker,
)
from mrd_core.runs import context as runs_context
from mrd_core.runs.context import StoredContext
from mrd_core.runs.devices import lock_name
from mrd_core.runs.directory import read_config
from mrd_core.runs.failure import describe
from mrd_core.runs.files import write_json
from mrd_core.runs.liveness import FRESH, ProcessIdentity, is_gone, process_exists, start_of
from mrd_core.runs.record import EDGES
from mrd_core.runs.schema import METADATA
from mrd_core.runs.store import RUN_ID, new_run_id
from mrd_core.runs.subject import subject_in
from mrd_core.runs.submission import adopt, queue_of
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings
from tests.conftest import REPOSITORY
from tests.support.runs import (
    JOBS,
    PATIENCE,
    WORKER,
    claimed_by_a_dead_process,
    config_of,
    go,
    lost,
    moved,
    set_row,
    settings_in,
    steps,
    submitted,
    until,
    until_state,
)

S = RunState


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.long])])
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    settings = settings_in(tmp_path / "home")
    if request.param == "postgresql":
        return settings.model_copy(update={"store_url": request.getfixturevalue("postgres").fresh()})
    return settings


# The state machine


def test_a_transition_without_an_edge_is_refused(store, settings):
    run = submitted(store, settings)
    missing = [(source, to) for source in S for to in S if to not in EDGES[source]]
    assert {(S.QUEUED, S.SUCCEEDED), (S.CANCELLING, S.RUNNING), (S.LOST, S.QUEUED)} <= set(missing)
    for source, to in missing:
        with pytest.raises(ValueError, match=f"cannot go from {source} to {to}"):
            store.transition(run.id, to, expected=source)
    assert store.get(run.id).state is S.QUEUED


def test_a_run_that_succeeds_passes_through_every_state(store, settings):
    run = submitted(store, settings)
    moved(store, run, S.STARTING, S.RUNNING)
    assert store.finish(run.id, S.SUCCEEDED, summary={"n": 3})
    ended = store.get(run.id)
    assert (ended.state, ended.summary) == (S.SUCCEEDED, {"n": 3})
    assert run.created_at <= ended.started_at <= ended.finished_at <= datetime.now(UTC)


def test_a_transition_from_another_state_than_expected_changes_nothing(store, settings):
    run = submitted(store, settings)
    assert not store.transition(run.id, S.SUCCEEDED, expected=S.RUNNING)
    assert store.get(run.id) == run


@pytest.mark.parametrize("terminal", sorted(TERMINAL))
def test_a_terminal_state_never_changes(store, settings, terminal):
    run = submitted(store, settings)
    set_row(store, run, state=terminal)
    for to in S:
        if sources := {state for state, targets in EDGES.items() if to in targets}:
            assert not store.transition(run.id, to, expected=sources)
    assert not store.finish(run.id, S.FAILED, RunError("E", "late", "none"))
    assert not store.heartbeat(run.id)
    assert not store.set_progress(run.id, {"done": 1})
    assert store.request_cancel(run.id) is terminal
    assert store.reap() == []
    assert store.get(run.id).state is terminal


def test_of_two_threads_that_race_for_a_transition_one_wins(settings):
    stores = [RunStore.open(settings) for _ in range(2)]
    for _ in range(20):
        run = submitted(stores[0], settings)
        barrier = threading.Barrier(2)
        won: list[RunState] = []

        def race(store: RunStore, to: RunState, run: Run = run, barrier=barrier, won=won) -> None:
            barrier.wait()
            if store.transition(run.id, to, expected=S.QUEUED):
                won.append(to)

        targets = (S.STARTING, S.CANCELLED)
        threads = [threading.Thread(target=race, args=pair) for pair in zip(stores, targets, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [stores[0].get(run.id).state]


def test_an_older_attempt_can_no_longer_write(store, settings):
    run = submitted(store, settings)
    store.finish(run.id, S.FAILED)
    second = store.resume(run.id)
    assert second.attempt == 2
    assert not store.heartbeat(run.id, attempt=1)
    assert not store.set_progress(run.id, {"done": 9}, attempt=1)
    assert not store.finish(run.id, S.FAILED, attempt=1)
    assert store.get(run.id) == second


def test_resume_clears_the_error_and_is_refused_unless_the_run_ended_badly(store, settings):
    run = submitted(store, settings)
    with pytest.raises(UserError, match="is queued"):
        store.resume(run.id)
    store.finish(run.id, S.FAILED, RunError("E", "cause", "advice"))
    resumed = store.resume(run.id)
    assert (resumed.state, resumed.attempt, resumed.error, resumed.finished_at) == (S.QUEUED, 2, None, None)
    assert store.events(run.id).message.tolist() == ["Resumed as attempt 2."]
    moved(store, run, S.STARTING, S.RUNNING, S.SUCCEEDED)
    with pytest.raises(UserError, match="is succeeded"):
        store.resume(run.id)


# Finding runs


def test_five_hundred_runs_of_one_second_have_five_hundred_ids(monkeypatch):
    monkeypatch.setattr("mrd_core.runs.store._now", lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    ids = {new_run_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(RUN_ID.fullmatch(made) and made.startswith("20260102-030405-") for made in ids)


@pytest.mark.parametrize("made", ["20261121-074655-ab12", "20261121-074655-ab12cd34"])
def test_a_directory_that_is_adopted_keeps_the_id_that_it_is_named_by(store, settings, made):
    run = submitted(store, settings)
    folder = settings.home / "runs" / made
    shutil.copytree(run.directory, folder)
    assert adopt(folder, store).id == made


def test_a_run_is_found_by_id_by_prefix_and_by_directory(store, settings):
    run = submitted(store, settings)
    assert store.get(run.id) == store.get(run.id[:-1]) == store.find_by_directory(run.directory) == run
    assert store.find_by_directory(settings.home) is None


def test_an_unknown_or_ambiguous_id_is_an_error_with_a_way_out(store, settings):
    first, second = (submitted(store, settings) for _ in range(2))
    with pytest.raises(UserError, match="no such run") as unknown:
        store.get("19990101")
    assert "runs list" in unknown.value.fix
    with pytest.raises(UserError, match="2 runs begin so") as ambiguous:
        store.get(first.id[:4])
    assert second.id in ambiguous.value.why
    with pytest.raises(UserError, match="no such run"):
        store.get("%")


def test_runs_are_listed_newest_first_with_limit_and_states(store, settings):
    runs = [submitted(store, settings) for _ in range(4)]
    store.request_cancel(runs[1].id)
    assert [run.id for run in store.list()] == [run.id for run in reversed(runs)]
    assert [run.id for run in store.list(limit=2)] == [runs[3].id, runs[2].id]
    assert [run.id for run in store.list(states=TERMINAL)] == [runs[1].id]
    assert [run.seq for run in runs] == sorted(run.seq for run in runs)


# Metrics, events, progress


def test_metrics_are_read_incrementally_by_row_id(store, settings):
    run, other = (submitted(store, settings) for _ in range(2))
    assert store.metrics(run.id).dtypes.astype(str).to_dict() == {
        "rowid": "int64",
        "step": "int64",
        "name": "str",
        "value": "float64",
    }
    store.add_metrics(run.id, 0, {"loss": 2.0, "reliability": float("nan")})
    store.add_metrics(other.id, 0, {"loss": 7.0})
    first = store.metrics(run.id)
    store.add_metrics(run.id, 1, {"loss": 1.0})
    second = store.metrics(run.id, after=int(first.rowid.max()))
    assert first[["step", "name"]].values.tolist() == [[0, "loss"], [0, "reliability"]]
    assert first.value.isna().tolist() == [False, True]
    assert second[["step", "name", "value"]].values.tolist() == [[1, "loss", 1.0]]
    assert store.metrics(run.id, after=int(second.rowid.max())).empty


def test_events_are_read_incrementally_with_their_time(store, settings):
    run = submitted(store, settings)
    store.add_event(run.id, "info", "one")
    first = store.events(run.id)
    store.add_event(run.id, "warning", "two")
    second = store.events(run.id, after=int(first.rowid.max()))
    assert second[["level", "message"]].values.tolist() == [["warning", "two"]]
    assert abs(second["at"].iloc[0] - datetime.now(UTC)) < timedelta(seconds=10)


@pytest.mark.slow
def test_several_processes_may_open_a_fresh_store_and_write_at_once(settings):
    script = (
        "import sys; from pathlib import Path; from mrd_core.runs import RunStore; store = RunStore.open();"
        "run = store.create('score', 't', 'cpu', Path(sys.argv[1]));"
        "[store.add_metrics(run.id, step, {'x': step}) for step in range(25)]"
    )
    environment = os.environ | {"MRD_HOME": str(settings.home), "PYTHONPATH": str(REPOSITORY)}
    environment["MRD_STORE_URL"] = settings.store_url
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(settings.home / f"r{i}")], env=environment)
        for i in range(3)
    ]
    assert [writer.wait(PATIENCE) for writer in writers] == [0] * 3
    store = RunStore.open(settings)
    assert [len(store.metrics(run.id)) for run in store.list()] == [25] * 3


def test_the_tables_can_be_made_in_postgresql():
    for table in METADATA.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize("url", ["no url at all", "nosuchdatabase://host/db", "sqlite:////proc/nowhere/store.db"])
def test_a_store_that_cannot_be_opened_says_what_to_set(tmp_path, url):
    with pytest.raises(UserError, match="MRD_STORE_URL"):
        RunStore.open(Settings(home=tmp_path, store_url=url, allowed_roots=()))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+nodriver://me:secret@host/db",
        "postgresql+nodriver://host/db?user=me&password=secret&sslpassword=secret",
        # With a colon and an `@` that should have been escaped.
        "postgresql+nodriver://me:sec@ret:secret@host/db",
    ],
)
def test_a_password_in_the_store_url_is_not_shown(tmp_path, url):
    with pytest.raises(UserError, match="the run store") as error:
        RunStore.open(Settings(home=tmp_path, store_url=url, allowed_roots=()))
    assert "secret" not in str(error.value)


def test_the_environment_names_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    settings = Settings.from_environment()
    run = submit(config_of(), store=RunStore.open(), settings=settings)
    assert run.directory == tmp_path / "elsewhere" / "runs" / run.id
    assert (tmp_path / "elsewhere" / "store.db").is_file()


# Submitting


def test_submit_writes_the_config_and_what_prepare_adds(store, settings):
    run = submit(
        config_of(draws=34),
        store=store,
        settings=settings,
        prepare=lambda directory: (directory / "samples.parquet").write_bytes(b"rows") and None,
    )
    assert ScoreConfig.model_validate_json((run.directory / "config.json").read_text()) == config_of(draws=34)
    assert sorted(path.name for path in run.directory.iterdir()) == ["config.json", "samples.parquet"]
    assert (run.title, run.kind, run.device, run.state) == (
        "forget.csv on the demo model",
        "score",
        "cpu",
        S.QUEUED,
    )
    assert run.id.startswith(f"{datetime.now(UTC):%Y%m%d}-")


def test_when_prepare_fails_nothing_is_left(store, settings):
    def prepare(directory: Path) -> None:
        (directory / "samples.parquet").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        submit(config_of(), store=store, settings=settings, prepare=prepare)
    assert list((settings.home / "runs").iterdir()) == []
    assert store.list() == []


def test_when_the_row_cannot_be_written_no_directory_is_left(store, settings, monkeypatch):
    older = store.create("score", "an older run that lost its directory", "cpu", settings.home / "runs" / "older")
    monkeypatch.setattr("mrd_core.runs.submission.new_run_id", lambda: older.id)
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        submit(config_of(), store=store, settings=settings, directory=settings.home / "runs" / "mine")
    assert list((settings.home / "runs").iterdir()) == []


def test_when_the_worker_cannot_be_started_nothing_is_left(store, settings, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        submit(config_of(), store=store, settings=settings, launcher=LocalLauncher(settings))
    assert store.list() == []
    assert list((settings.home / "runs").iterdir()) == []


def test_submit_refuses_a_directory_that_holds_a_run_or_anything_else(store, settings, tmp_path):
    run = submitted(store, settings)
    with pytest.raises(UserError, match="already holds a run") as taken:
        submit(config_of(), store=store, settings=settings, directory=run.directory)
    assert "another directory" in taken.value.fix
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not an empty directory"):
        submit(config_of(), store=store, settings=settings, directory=tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    assert submit(config_of(), store=store, settings=settings, directory=tmp_path / "empty").seq == 2


def test_submit_refuses_a_directory_whose_run_is_known_though_its_files_are_gone(store, settings):
    run = submitted(store, settings)
    shutil.rmtree(run.directory)
    with pytest.raises(UserError, match="somebody removed") as taken:
        submit(config_of(), store=store, settings=settings, directory=run.directory)
    assert run.id in taken.value.fix
    store.request_cancel(run.id)
    store.delete(run.id)
    assert submit(config_of(), store=store, settings=settings, directory=run.directory).seq == 2


def test_the_command_of_a_run_is_one_a_user_can_type(tmp_path):
    assert command_for(tmp_path) == [sys.executable, str(REPOSITORY / "cli"), "run", str(tmp_path)]


@pytest.mark.parametrize(("device", "queue"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_names_of_one_device_share_a_queue(device, queue):
    assert queue_of(device) == queue
    assert queue_of("auto") in {"cpu", "cuda:0"}


# Liveness


def test_this_process_is_alive_and_its_pid_with_another_start_is_not():
    me = ProcessIdentity.current()
    assert process_exists(me.pid, me.started)
    assert not process_exists(me.pid, me.started - 3600)


def test_a_zombie_is_gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = start_of(child.pid)
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, "the child is a zombie")
    assert not process_exists(child.pid, started)
    child.wait()


def test_a_run_whose_process_is_gone_is_reaped_once(store, settings):
    run = submitted(store, settings)
    claimed_by_a_dead_process(store, run)
    [gone] = store.reap()
    assert (gone.id, gone.state, gone.error.type) == (run.id, S.LOST, "Lost")
    assert "memory" in gone.error.advice
    assert store.reap() == []
    assert store.events(run.id).level.tolist() == ["error"]


def test_a_reused_pid_does_not_keep_a_run_alive(store, settings):
    run = submitted(store, settings)
    me = ProcessIdentity.current()
    store.claim(run, replace(me, started=me.started - 60))
    set_row(store, run, heartbeat_at=datetime.now(UTC) - FRESH)
    assert [lost.id for lost in store.reap()] == [run.id]


def test_a_live_process_is_not_reaped_however_old_its_heartbeat(store, settings):
    run = submitted(store, settings)
    store.claim(run, ProcessIdentity.current())
    set_row(store, run, heartbeat_at=datetime.now(UTC) - timedelta(hours=1))
    assert store.reap() == []


def test_an_unclaimed_run_has_a_minute_to_find_a_worker(store, settings):
    fresh, old = (submitted(store, settings) for _ in range(2))
    set_row(store, old, queued_at=datetime.now(UTC) - timedelta(seconds=61))
    [lost] = store.reap()
    assert lost.id == old.id
    assert "worker.log" in lost.error.advice
    assert store.get(fresh.id).state is S.QUEUED
    assert store.resume(old.id).state is S.QUEUED
    assert store.reap() == []


def test_on_another_host_the_heartbeat_decides(store, settings):
    run = submitted(store, settings)
    store.claim(run, ProcessIdentity("another-host", "another boot", 1, 0.0))
    set_row(store, run, heartbeat_at=datetime.now(UTC) - timedelta(seconds=100))
    assert store.reap() == []
    set_row(store, run, heartbeat_at=datetime.now(UTC) - timedelta(seconds=121))
    [lost] = store.reap()
    assert "another-host" in lost.error.cause


def test_a_run_that_has_ended_is_not_gone(store, settings):
    run = submitted(store, settings)
    claimed_by_a_dead_process(store, run)
    store.finish(run.id, S.FAILED)
    assert not is_gone(store.get(run.id))


def test_only_one_worker_can_claim_a_run(store, settings):
    run = submitted(store, settings)
    assert store.claim(run, ProcessIdentity.current())
    assert not store.claim(run, ProcessIdentity.current())
    with pytest.raises(UserError, match="is its worker"):
        worker.run(run.directory, store=store)


# Cancelling


def test_a_queued_run_without_a_worker_is_cancelled_at_once(store, settings):
    run = submitted(store, settings)
    assert store.request_cancel(run.id) is S.CANCELLED
    assert store.get(run.id).finished_at is not None
    with pytest.raises(UserError, match="It is cancelled"):
        worker.run(run.directory, store=store)


def test_a_queued_run_with_a_worker_is_asked(store, settings):
    run = submitted(store, settings)
    store.claim(run, ProcessIdentity.current())
    assert store.request_cancel(run.id) is S.CANCELLING


@pytest.mark.slow
def test_cancelling_a_running_worker_ends_it(store, settings, launch):
    run = submitted(store, settings)
    launch(run, "wait_for_go")
    until_state(store, run, S.RUNNING)
    assert store.request_cancel(run.id) is S.CANCELLING
    ended = until_state(store, run, *TERMINAL)
    assert (ended.state, ended.error) == (S.CANCELLED, None)
    until(lambda: not process_exists(ended.pid, ended.pid_started), "the process has ended")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_s_signal_interrupts_a_run_which_is_resumed_where_it_stopped(store, settings, launch, number):
    run = submitted(store, settings, draws=60)
    launch(run, "count")
    until(lambda: steps(run) >= 5, "a few steps are done")
    os.kill(store.get(run.id).pid, number)
    ended = until_state(store, run, *TERMINAL)
    assert (ended.state, ended.error) == (S.INTERRUPTED, None)
    assert store.events(run.id).message.tolist() == ["Interrupted."]
    launch(store.resume(run.id), "count")
    ended = until_state(store, run, *TERMINAL)
    assert (ended.state, ended.attempt, ended.summary["began_at"] >= 5) == (S.SUCCEEDED, 2, True)


@pytest.mark.slow
def test_what_the_store_was_asked_to_cancel_is_cancelled_whatever_signal_follows(store, settings, launch):
    run = submitted(store, settings)
    launch(run, "wait_for_go")
    running = until_state(store, run, S.RUNNING)
    store.request_cancel(run.id)
    os.kill(running.pid, signal.SIGTERM)
    assert until_state(store, run, *TERMINAL).state is S.CANCELLED


@pytest.mark.slow
def test_a_job_that_ends_before_it_notices_the_request_has_succeeded(store, settings, launch):
    run = submitted(store, settings)
    launch(run, "ignore_everything")
    until_state(store, run, S.RUNNING)
    store.request_cancel(run.id)
    go(run)
    ended = until_state(store, run, *TERMINAL)
    assert (ended.state, ended.summary) == (S.SUCCEEDED, {"whole": True})


# Workers


@pytest.mark.slow
def test_a_worker_carries_out_a_run_and_reports_it(store, settings, launch):
    run = submitted(store, settings, draws=12)
    launch(run, "count")
    ended = until_state(store, run, *TERMINAL)
    assert (ended.state, ended.summary) == (S.SUCCEEDED, {"steps": 12, "began_at": 0})
    assert (ended.progress["done"], ended.progress["total"], ended.progress["eta_seconds"]) == (12, 12, 0.0)
    assert store.metrics(run.id).value.tolist() == [1 / step for step in range(1, 13)]
    assert store.events(run.id).message.tolist() == ["counted"]
    until(lambda: "ended as succeeded" in (run.directory / "worker.log").read_text(), "the log is written")
    assert "info: counted" in (run.directory / "worker.log").read_text()


@pytest.mark.slow
def test_a_worker_beats_while_its_job_works(store, settings, launch):
    run = submitted(store, settings)
    launch(run, "wait_for_go")
    first = until_state(store, run, S.RUNNING).heartbeat_at
    until(lambda: store.get(run.id).heartbeat_at > first, "a second heartbeat")
    assert store.get(run.id).heartbeat_at - first < timedelta(seconds=15)


@pytest.mark.slow
def test_three_runs_on_one_device_go_one_by_one_in_order_of_submission(store, settings, launch):
    a, b, c = (submitted(store, settings, name) for name in "abc")
    other = submitted(store, settings, "other", device="cuda:1")
    assert [store.queue_place(run.id) for run in (a, b, c, other)] == [1, 2, 3, 1]
    for run in (c, b, a):
        launch(run, "wait_for_go")
        until(lambda run=run: store.get(run.id).pid is not None, "the worker has claimed its run")
    until_state(store, a, S.RUNNING)
    until(lambda: store.get(c.id).progress.get("message") == "waiting: place 2", "c shows its place")
    assert [store.queue_place(run.id) for run in (a, b, c)] == [0, 1, 2]
    for run in (c, a, b):
        go(run)
    for run in (a, b, c):
        assert until_state(store, run, *TERMINAL).state is S.SUCCEEDED
    journal = (settings.home / "runs" / "journal").read_text().split("\n")
    assert journal[:-1] == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


def test_a_run_does_not_wait_behind_those_that_wait_for_a_device_of_another_machine(store, settings):
    elsewhere, here, last = (submitted(store, settings, name) for name in "abc")
    assert store.claim(elsewhere, ProcessIdentity("node7", "another system", 1, 1.0))
    assert store.claim(last, ProcessIdentity.current())
    # Nobody knows yet whose device the one between them will take.
    assert store.queue_place(last.id) == 2
    assert worker.run(here.directory, store=store, job=f"{JOBS}:count") is S.SUCCEEDED
    assert store.queue_place(last.id) == 1
    assert store.get(elsewhere.id).state is S.QUEUED


@pytest.mark.slow
def test_a_worker_that_waits_its_turn_can_be_cancelled_and_a_dead_one_ahead_is_passed(store, settings, launch):
    a, b, c, d = (submitted(store, settings, name) for name in "abcd")
    claimed_by_a_dead_process(store, c)
    for run in (a, b, d):
        launch(run, "wait_for_go")
    until_state(store, a, S.RUNNING)
    until(lambda: "place" in store.get(b.id).progress, "b waits")
    store.request_cancel(b.id)
    assert until_state(store, b, *TERMINAL).state is S.CANCELLED
    assert store.get(a.id).state is S.RUNNING
    until_state(store, c, S.LOST)
    go(d)
    go(a)
    assert until_state(store, d, *TERMINAL).state is S.SUCCEEDED


@pytest.mark.slow
def test_a_killed_worker_is_lost_frees_its_device_and_resumes_where_it_stopped(store, settings, launch):
    run, following = submitted(store, settings, draws=60), submitted(store, settings, draws=4)
    launch(run, "count")
    until(lambda: steps(run) >= 5, "a few steps are done")
    os.kill(store.get(run.id).pid, signal.SIGKILL)
    assert [gone.id for gone in lost(store)] == [run.id]
    assert "memory" in store.get(run.id).error.advice
    launch(following, "count")
    assert until_state(store, following, *TERMINAL).state is S.SUCCEEDED

    launch(store.resume(run.id), "count")
    ended = until_state(store, run, *TERMINAL)
    assert (ended.state, ended.attempt, ended.error) == (S.SUCCEEDED, 2, None)
    assert ended.summary["began_at"] >= 5
    assert (run.directory / "steps.txt").read_text() == "60"


@pytest.mark.slow
def test_a_worker_whose_run_was_taken_from_it_stops(store, settings, launch):
    run = submitted(store, settings)
    launch(run, "wait_for_go")
    first = until_state(store, run, S.RUNNING)
    store.finish(run.id, S.LOST)
    second = store.resume(run.id)
    until(lambda: not process_exists(first.pid, first.pid_started), "the first worker has stopped")
    assert store.get(run.id) == second


@pytest.mark.slow
def test_the_worker_outlives_the_process_that_launched_it(store, settings):
    run = submitted(store, settings, draws=40)
    parent = (
        "import sys; from mrd_core.runs import LocalLauncher, RunStore;"
        "run = RunStore.open().get(sys.argv[1]);"
        "LocalLauncher().launch(run, [sys.executable, '-c', sys.argv[2], str(run.directory), sys.argv[3]])"
    )
    environment = os.environ | {
        "MRD_HOME": str(settings.home),
        "MRD_STORE_URL": settings.store_url,
        "PYTHONPATH": str(REPOSITORY),
    }
    # A connection that a process which ends leaves open is no fault; a worker that it waits for is.
    warnings = ("-W", "error", "-W", "ignore:<psycopg.Connection object:ResourceWarning")
    command = [sys.executable, *warnings, "-c", parent, run.id, WORKER, f"{JOBS}:count"]
    launcher = subprocess.Popen(
        command, env=environment, cwd=settings.home, stderr=subprocess.PIPE, start_new_session=True
    )
    assert launcher.communicate(timeout=PATIENCE) == (None, b"")
    # What a closed terminal does to everything that was started in it.
    with suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGKILL)
    assert store.get(run.id).state in ACTIVE
    assert until_state(store, run, *TERMINAL).state is S.SUCCEEDED


@pytest.mark.slow
def test_a_launched_worker_leaves_no_zombie(store, settings, launch):
    run = submitted(store, settings, draws=4)
    launch(run, "count")
    ended = until_state(store, run, *TERMINAL)
    until(lambda: not psutil.pid_exists(ended.pid), "the child was waited for")


def test_a_copied_config_reproduces_the_run_as_a_new_one(store, settings, tmp_path):
    original = submitted(store, settings, draws=4)
    store.request_cancel(original.id)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "config.json").write_bytes((original.directory / "config.json").read_bytes())
    assert worker.run(tmp_path / "copy", store=store, job=f"{JOBS}:count") is S.SUCCEEDED
    copy = store.find_by_directory(tmp_path / "copy")
    assert (copy.summary, copy.seq, copy.kind) == ({"steps": 4, "began_at": 0}, 2, "score")


@pytest.mark.slow
def test_in_the_foreground_ctrl_c_cancels_and_stderr_shows_the_progress(store, settings):
    run = submitted(store, settings, draws=100_000)
    script = WORKER.replace("job=", "foreground=True, job=")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(run.directory), f"{JOBS}:count"],
        env=os.environ | {"MRD_HOME": str(settings.home), "MRD_STORE_URL": settings.store_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: steps(run) > 3, "the job is at work")
    process.send_signal(signal.SIGINT)
    out, shown = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "ended as cancelled\n")
    assert "forget.csv on the demo model" in shown
    assert "info: Cancelled." in shown
    assert not (run.directory / "worker.log").exists()


def test_a_config_that_an_editor_of_windows_saved_is_read(tmp_path):
    (tmp_path / "config.json").write_text(config_of(draws=4).model_dump_json(), encoding="utf-8-sig")
    assert read_config(tmp_path, ScoreConfig) == config_of(draws=4)
    assert subject_in(tmp_path)["forget_set"] == "forget.csv"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "needs a readable config.json"),
        ("{", "EOF while parsing"),
        ("[]", "should be an object"),
        ('{"kind": "guess"}', "kind 'guess' is unknown"),
        ('{"kind": "score"}', "forget_set: Field required"),
        ('{"forget_set": {"source": "x"}, "sigma": 1}', "sigma = 1: Extra inputs are not permitted"),
    ],
)
def test_a_directory_without_a_valid_config_is_refused(store, tmp_path, content, problem):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=problem) as refused:
        worker.run(tmp_path, store=store)
    assert refused.value.fix
    assert store.list() == []


# Errors are data


def carried_out(store: RunStore, settings: Settings, job: str) -> Run:
    run = submitted(store, settings)
    worker.run(run.directory, store=store, job=f"{JOBS}:{job}")
    return store.get(run.id)


def test_a_full_disk_is_recognised(store, settings):
    ended = carried_out(store, settings, "fill_the_disk")
    assert (ended.state, ended.error.type) == (S.FAILED, "OSError")
    assert "disk is full" in ended.error.cause
    assert "Free some space" in ended.error.advice


def test_a_user_error_keeps_its_cause_and_fix_and_no_traceback(store, settings):
    ended = carried_out(store, settings, "refuse")
    assert ended.error == RunError(
        "UserError", "forget.csv: It has no column named answer.", "Map a column to the answer."
    )


def test_an_unforeseen_error_keeps_its_traceback_in_the_store_and_in_the_log(store, settings, capfd):
    ended = carried_out(store, settings, "break_down")
    assert (ended.state, ended.error.type) == (S.FAILED, "ZeroDivisionError")
    assert ended.error.cause == "division by zero."
    assert "run_jobs.py" in ended.error.traceback
    assert ended.error.traceback in capfd.readouterr().err
    assert store.resume(ended.id).attempt == 2


def test_a_summary_with_nan_is_stored(store, settings):
    ended = carried_out(store, settings, "report_nan")
    assert (ended.state, ended.summary) == (S.SUCCEEDED, {"reliability": None, "median": 0.5})


def raised_by(action: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as info:  # noqa: PT011
        action()
    return info.value


def test_running_out_of_memory_is_recognised():
    torch = pytest.importorskip("torch")

    def out_of_gpu_memory() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines.")

    actions = (lambda: bytearray(1 << 62), lambda: torch.empty(1 << 58), out_of_gpu_memory)
    for error in map(describe, map(raised_by, actions)):
        assert error.cause.startswith("Out of memory")
        assert "\n" not in error.cause
        assert "batch" in error.advice


def test_a_missing_file_is_named():
    error = describe(raised_by(lambda: Path("/nowhere/model.safetensors").read_bytes()))
    assert error.cause == "A file is missing: /nowhere/model.safetensors."


# Deleting


def test_delete_removes_texts_checkpoints_log_and_rows(store, settings):
    run, other = submitted(store, settings), submitted(store, settings)
    secret = "Zaphra Quill lives in Orrin"
    (run.directory / "samples.jsonl").write_text(secret)
    (run.directory / "checkpoints" / "7").mkdir(parents=True)
    (run.directory / "checkpoints" / "7" / "state").write_text(secret)
    (run.directory / "worker.log").write_text(secret)
    store.add_event(run.id, "info", secret)
    store.add_metrics(run.id, 0, {"loss": 1.0})
    store.finish(run.id, S.FAILED, RunError("E", "cause", "advice", secret))
    store.delete(run.id)
    assert not run.directory.exists()
    assert [left.id for left in store.list()] == [other.id]
    assert store.metrics(run.id).empty
    assert store.events(run.id).empty
    written = b"".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    assert secret.encode() not in written
    assert other.directory.exists()


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_delete_refuses_an_active_run(store, settings, state):
    run = submitted(store, settings)
    store.add_event(run.id, "info", "kept")
    set_row(store, run, state=state)
    with pytest.raises(UserError, match="has not ended") as refused:
        store.delete(run.id)
    assert "runs cancel" in refused.value.fix
    assert (run.directory / "config.json").exists()
    assert len(store.events(run.id)) == 1


def test_delete_leaves_a_directory_alone_that_is_no_run_directory(store, settings):
    run = submitted(store, settings)
    store.request_cancel(run.id)
    (run.directory / "config.json").rename(run.directory / "thesis.tex")
    with pytest.raises(UserError, match=r"holds no config\.json"):
        store.delete(run.id)
    assert (run.directory / "thesis.tex").exists()
    assert store.get(run.id).state is S.CANCELLED


def test_delete_leaves_a_directory_alone_that_holds_other_runs_or_the_home(store, settings):
    inner = submitted(store, settings)
    (settings.home / "config.json").write_text(config_of().model_dump_json())
    outer = store.create("score", "run in the home itself", "cpu", settings.home)
    store.request_cancel(outer.id)
    with pytest.raises(UserError, match="More than this run"):
        store.delete(outer.id)
    assert (inner.directory / "config.json").exists()


def test_a_run_whose_directory_is_gone_can_still_be_deleted(store, settings):
    run = submitted(store, settings)
    store.request_cancel(run.id)
    (run.directory / "config.json").unlink()
    run.directory.rmdir()
    store.delete(run.id)
    assert store.list() == []


def test_a_symbolic_link_in_a_run_directory_is_removed_but_not_followed(store, settings, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").touch()
    run = submitted(store, settings)
    (run.directory / "model").symlink_to(tmp_path / "model")
    store.request_cancel(run.id)
    store.delete(run.id)
    assert (tmp_path / "model" / "weights").exists()


# The package


def test_deleting_a_run_in_a_folder_of_the_user_s_own_leaves_the_user_s_files(
    store: RunStore, settings: Settings, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    run = submit(config_of(), store=store, settings=settings, directory=own)
    (own / "samples.parquet").write_text("texts")
    (own / "units").mkdir()
    (own / "notes.txt").write_text("mine")
    store.finish(run.id, RunState.FAILED)
    store.delete(run.id)
    assert [path.name for path in own.iterdir()] == ["notes.txt"]


# Characteristics: runs in the directory of a score run


def reading_of(store: RunStore, settings: Settings, scored: Run) -> Run:
    write_json(scored.directory / "summary.json", {"evaluations": 2, "tokens": 9, "model_parameters": 1})
    return submit(CharacteristicsConfig(score_run=scored.directory), store=store, settings=settings)


@pytest.mark.long
def test_one_command_carries_out_every_kind_of_run(store, settings):
    reading = reading_of(store, settings, submitted(store, settings))
    assert command_for(reading.directory)[1:] == [str(REPOSITORY / "cli"), "run", str(reading.directory)]
    assert worker.run(reading.directory, store=store) is S.FAILED
    assert "holds no finished score run" in store.get(reading.id).error.cause


def test_a_reading_needs_no_device_and_waits_for_none(store, settings):
    scored = submitted(store, settings)
    (settings.home / "locks").mkdir(exist_ok=True)
    with ExitStack() as busy:
        for device in ("cpu", "cuda:0"):
            busy.enter_context(FileLock(settings.home / "locks" / f"{lock_name(device)}.lock"))
        reading = reading_of(store, settings, scored)
        assert worker.run(reading.directory, store=store, job=f"{JOBS}:report_nan") is S.SUCCEEDED


def test_a_reading_belongs_to_its_score_run_and_to_no_other(store, settings):
    scored, other = submitted(store, settings), submitted(store, settings)
    reading = reading_of(store, settings, scored)
    assert [found.id for found in store.list(kinds=("characteristics",), score_run=scored)] == [reading.id]
    assert store.list(kinds=("characteristics",), score_run=other) == []
    assert store.score_run_of(reading).id == store.score_run_of(scored).id == scored.id


def test_a_config_of_another_kind_is_refused_by_name(store, settings):
    reading = reading_of(store, settings, submitted(store, settings))
    assert read_config(reading.directory, RunConfig).kind == "characteristics"
    with pytest.raises(UserError, match="It is a characteristics run, no score run"):
        read_config(reading.directory, ScoreConfig)


def test_deleting_a_score_run_takes_its_readings_along(store, settings):
    scored, other = submitted(store, settings), submitted(store, settings)
    reading = reading_of(store, settings, scored)
    for run in (scored, reading):
        store.finish(run.id, S.FAILED, RunError("E", "cause", "advice"))
    store.delete(scored.id)
    assert not scored.directory.exists()
    assert [left.id for left in store.list()] == [other.id]


def test_a_score_run_that_is_being_read_is_not_deleted(store, settings):
    scored = submitted(store, settings)
    reading = reading_of(store, settings, scored)
    store.finish(scored.id, S.FAILED, RunError("E", "cause", "advice"))
    with pytest.raises(UserError, match="has not ended"):
        store.delete(scored.id)
    assert {left.id for left in store.list()} == {scored.id, reading.id}
    assert (scored.directory / "config.json").exists()


def test_the_time_left_follows_the_pace_since_the_first_step_began(store, settings, monkeypatch) -> None:
    run = submitted(store, settings)
    context = StoredContext(store, store.get(run.id), threading.Event())
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(runs_context, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def told(after: float, done: int, total: int, **extra: Any) -> dict[str, Any]:
        clock.now += after
        context.progress(done, total, **extra)
        return store.get(run.id).progress

    assert told(1, 0, 1, message="Loading the model")["eta_seconds"] is None
    # Loading is not of the pace.
    assert told(100, 0, 192, likely=34, message="Drawing")["eta_seconds"] is None
    likely = told(4, 2, 192, likely=34, message="Drawing")
    assert likely["eta_seconds"] == pytest.approx(2.0 * 32)
    assert (likely["likely"], likely["is_most"]) == (34, True)
    known = told(4, 4, 50, message="Drawing")
    assert known["eta_seconds"] == pytest.approx(2.0 * 46)
    assert "is_most" not in known


def test_a_step_that_takes_long_is_told_within_at_most_once_an_interval(store, settings, monkeypatch) -> None:
    run = submitted(store, settings)
    context = StoredContext(store, store.get(run.id), threading.Event())
    monkeypatch.setattr(runs_context, "PROGRESS_INTERVAL", 0.0)
    context.progress(2, 8, message="Drawing")
    context.within(0.25)
    progress = store.get(run.id).progress
    assert (progress["done"], progress["total"], progress["message"]) == (2, 8, "Drawing")
    assert progress["within"] == 0.25
    monkeypatch.setattr(runs_context, "PROGRESS_INTERVAL", 3600.0)
    context.within(0.5)
    assert store.get(run.id).progress["within"] == 0.25
    context.progress(8, 8, message="Drawing")
    assert "within" not in store.get(run.id).progress
