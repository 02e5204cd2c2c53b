"""Two stores that know one run directory: one process is at work in it, and the other is told which."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState, RunStore, occupancy, worker
from mrd_core.runs.submission import adopt, submit
from mrd_core.settings.installation import Settings
from tests.support.runs import JOBS, config_of, go, launching, settings_in, until_state

S = RunState


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occupancy, "PATIENCE", 0.2)


@pytest.fixture
def settings(home: Path) -> Settings:
    return settings_in(home)


@pytest.fixture
def elsewhere(tmp_path: Path) -> RunStore:
    return RunStore.open(settings_in(tmp_path / "elsewhere"))


@pytest.fixture
def at_work(store: RunStore, settings: Settings, tmp_path: Path) -> Iterator[Run]:
    """A run in a folder of the user's own that a process of its own carries out, until it is let go."""
    run = submit(config_of(), store=store, settings=settings, directory=tmp_path / "own")
    with launching(store, settings) as launch:
        launch(run, "wait_for_go")
        yield until_state(store, run, S.RUNNING)


@pytest.mark.parametrize("is_known", [False, True], ids=["unknown there", "taken up there"])
def test_a_second_store_does_not_carry_out_what_another_does_and_says_who(
    store: RunStore, settings: Settings, elsewhere: RunStore, at_work: Run, is_known: bool
) -> None:
    database = settings.home / "store.db"
    who = f"Process {at_work.pid} on {at_work.host}, of the run store {database}, is at work there"
    taken_up = elsewhere.resume(adopt(at_work.directory, elsewhere).id) if is_known else None
    with pytest.raises(UserError) as refused:
        worker.run(at_work.directory, store=elsewhere, job=f"{JOBS}:count")
    assert who in refused.value.why
    assert not (at_work.directory / "steps.txt").exists()
    if taken_up:
        failed = elsewhere.get(taken_up.id)
        assert failed.error
        assert (failed.state, who in failed.error.cause) == (S.FAILED, True)
        with pytest.raises(UserError, match="is at work there"):
            elsewhere.delete(taken_up.id)
    else:
        assert elsewhere.list() == []
    go(at_work)
    assert until_state(store, at_work, S.SUCCEEDED, S.FAILED).state is S.SUCCEEDED
    if taken_up:
        elsewhere.resume(taken_up.id)
    assert worker.run(at_work.directory, store=elsewhere, job=f"{JOBS}:count") is S.SUCCEEDED


def test_a_worker_that_was_killed_holds_nothing(at_work: Run, elsewhere: RunStore) -> None:
    assert at_work.pid
    os.kill(at_work.pid, 9)
    occupancy.PATIENCE = 30.0
    assert worker.run(at_work.directory, store=elsewhere, job=f"{JOBS}:count") is S.SUCCEEDED


def test_a_copy_of_a_run_at_work_is_a_run_of_its_own(at_work: Run, elsewhere: RunStore, tmp_path: Path) -> None:
    copy = shutil.copytree(at_work.directory, tmp_path / "copy")
    assert worker.run(copy, store=elsewhere, job=f"{JOBS}:count") is S.SUCCEEDED
