"""The run store in PostgreSQL: submitted to at once, and a server that goes away and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from mrd_core.runs import RunState, RunStore
from mrd_core.runs.faults import StoreError
from mrd_core.settings.installation import Settings
from tests.conftest import REPOSITORY
from tests.support.commands import Outcome
from tests.support.postgres import Server
from tests.support.runs import (
    PATIENCE,
    launching,
    lost,
    set_row,
    settings_in,
    steps,
    submitted,
    until,
    until_state,
)

pytestmark = pytest.mark.slow
S = RunState
SUBMISSIONS = 8
SUBMIT = f"""
import os, signal, sys
from mrd_core.runs import RunStore
from mrd_core.settings.installation import Settings
from tests.support.runs import submitted
children = []
# A submission that hangs ends with its process.
for _ in range({SUBMISSIONS}):
    if not (child := os.fork()):
        signal.alarm(25)
        settings = Settings.from_environment()
        submitted(RunStore.open(settings), settings)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.fixture
def settings(tmp_path: Path, postgres: Server) -> Settings:
    return settings_in(tmp_path / "home").model_copy(update={"store_url": postgres.fresh()})


@pytest.fixture
def store(settings: Settings) -> Iterator[RunStore]:
    opened = RunStore.open(settings)
    yield opened
    opened._engine.dispose()


def test_eight_processes_may_make_the_store_and_submit_at_once(settings: Settings) -> None:
    environment = os.environ | {"MRD_HOME": str(settings.home), "MRD_STORE_URL": settings.store_url}
    done = subprocess.run(
        [sys.executable, "-c", SUBMIT], env=environment, cwd=REPOSITORY, timeout=PATIENCE, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    store = RunStore.open(settings)
    runs = store.list()
    assert len({run.id for run in runs}) == SUBMISSIONS
    assert sorted(store.queue_place(run.id) for run in runs) == [*range(1, SUBMISSIONS + 1)]


def test_a_run_is_stored_listed_lost_resumed_and_deleted(store: RunStore, settings: Settings) -> None:
    run = submitted(store, settings)
    set_row(store, run, state="paused")
    assert [strange.state for strange in store.list()] == [S.UNKNOWN]
    set_row(store, run, state=S.QUEUED, queued_at=run.queued_at.replace(year=2025))
    [gone] = lost(store)
    assert (gone.id, gone.state, gone.lost_in) == (run.id, S.LOST, S.QUEUED)
    assert store.resume(run.id).attempt == 2
    assert store.request_cancel(run.id) is S.CANCELLED
    store.add_metrics(run.id, 0, {"loss": float("nan")})
    store.delete(run.id)
    assert store.list() == []
    assert not run.directory.exists()


def test_a_run_outlives_a_server_that_goes_away_and_comes_back(
    store: RunStore, settings: Settings, postgres: Server
) -> None:
    run = submitted(store, settings, draws=120)
    with launching(store, settings) as launch:
        launch(run, "count")
        until(lambda: steps(run) >= 3, "a few steps are done")
        postgres.control("stop", "-m", "immediate")
        try:
            with pytest.raises(StoreError, match="server cannot be reached") as away:
                RunStore.open(settings)
            assert "Start the server" in away.value.fix
            before = (run.directory / "steps.txt").read_text()
            until(lambda: (run.directory / "steps.txt").read_text() != before, "the run goes on meanwhile")
            time.sleep(1)
        finally:
            postgres.control("start")
        ended = until_state(store, run, S.SUCCEEDED, S.FAILED)
        assert (ended.state, ended.attempt) == (S.SUCCEEDED, 1)
        assert store.metrics(run.id).step.tolist() == [*range(120)]


def test_a_worker_that_starts_while_the_server_is_away_waits_for_it(
    store: RunStore, settings: Settings, postgres: Server
) -> None:
    run = submitted(store, settings, draws=8)
    with launching(store, settings) as launch:
        postgres.control("stop", "-m", "immediate")
        try:
            launch(run, "count")
            # Until the worker has loaded what it needs and looked for the store.
            time.sleep(5)
        finally:
            postgres.control("start")
        assert until_state(store, run, S.SUCCEEDED, S.FAILED, S.LOST).state is S.SUCCEEDED


@pytest.mark.parametrize(
    ("account", "database", "reason"),
    [
        ("locked:wrong", "postgres", "password authentication failed"),
        ("locked", "postgres", "no password supplied"),
        ("stranger", "postgres", 'role "stranger" does not exist'),
        ("tester", "nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_what_a_server_refuses_is_not_called_away(
    settings: Settings, postgres: Server, account: str, database: str, reason: str
) -> None:
    rules = postgres.folder / "pg_hba.conf"
    if "locked" not in rules.read_text():
        rules.write_text("host all locked all scram-sha-256\n" + rules.read_text())
        postgres.control("reload")
        engine = sqlalchemy.create_engine(settings.store_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE ROLE locked LOGIN PASSWORD 'secret'")
        engine.dispose()
    url = postgres.url(database).replace("tester@", f"{account}@")
    with pytest.raises(StoreError, match=f"The database refuses it .*{reason}") as refused:
        RunStore.open(settings.model_copy(update={"store_url": url}))
    assert not refused.value.passes
    assert "MRD_STORE_URL" in refused.value.fix
    assert "wrong" not in str(refused.value)


def test_the_doctor_shows_no_password(
    cli: Callable[..., Outcome], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "MRD_STORE_URL", settings.store_url.replace("tester@", "tester:secret@") + "?sslpassword=secret"
    )
    report = cli("doctor")
    assert (report.code, "secret" in report.said, "***" in report.said) == (0, False, True)


def test_without_the_driver_the_line_to_type_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    url = "postgresql://me:secret@127.0.0.1/mrd"
    with pytest.raises(StoreError, match="driver is not installed") as refused:
        RunStore.open(Settings(home=tmp_path, store_url=url, allowed_roots=()))
    assert f"-m pip install -r {REPOSITORY / 'requirements-postgres.txt'}" in refused.value.fix
    assert "secret" not in str(refused.value)
