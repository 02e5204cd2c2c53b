"""A store in trouble: a full disk, broken pages, strange rows, odd names; and nothing left for others to read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.runs import RunState, RunStore, worker
from mrd_core.runs.faults import StoreError
from mrd_core.runs.kind import headline
from mrd_core.runs.submission import submit
from mrd_core.settings.installation import Settings
from mrd_core.studies.outcome import outcome
from tests.conftest import REPOSITORY
from tests.support import disks
from tests.support.commands import Outcome, ended, started
from tests.support.disks import fill
from tests.support.runs import config_of, lost, set_row, settings_in, submitted
from tests.unit.conftest import rows, write_rows

S = RunState
MEGABYTE = 2**20
# Of a score run, the least that it has.
SUMMARY = {"n_samples": 3, "evaluations": 2, "tokens": 10, "model_parameters": 100}
SUBMISSION = """
import os, signal, sys
from pathlib import Path
from mrd_core.runs import RunStore, submission
from mrd_core.settings.installation import Settings
from tests.support.runs import config_of

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def prepare(draft):
    if sys.argv[2] == "prepare":
        (draft / "texts").touch()
        killed()

submission.register = killed
settings = Settings.from_environment()
store = RunStore.open(settings)
submission.submit(config_of(), store=store, settings=settings, directory=Path(sys.argv[1]), prepare=prepare)
"""


@pytest.fixture
def settings(home: Path) -> Settings:
    return settings_in(home)


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """The home as a file system of 20 MB."""
    with disks.small_disk(home, 20):
        yield home


def end(store: RunStore, settings: Settings, size: int = 0) -> str:
    """Leave a cancelled run with a file of some size [bytes]; return its id."""
    run = submitted(store, settings)
    (run.directory / "weights").write_bytes(bytes(size))
    store.request_cancel(run.id)
    return run.id


# A full disk


@pytest.mark.slow
@pytest.mark.parametrize("held_open", [False, True], ids=["at rest", "while a server has it open"])
def test_on_a_full_disk_runs_are_listed_and_deleting_frees_space(
    small_disk: Path,
    cli: Callable[..., Outcome],
    settings: Settings,
    held_open: bool,
    tmp_path: Path,
    tiny_model: Path,
) -> None:
    store: RunStore | None = RunStore.open(settings)
    assert store
    kept, gone = end(store, settings), end(store, settings, 5 * MEGABYTE)
    if not held_open:
        store._engine.dispose()
        store = None
    fill(small_disk)
    listing = cli("runs", "list")
    assert listing.code == 0
    assert kept in listing.out
    assert gone in listing.out
    assert cli("runs", "show", kept).code == 0
    forget = write_rows(tmp_path / "forget.jsonl", rows(2))
    refused = cli("score", "--model", tiny_model, "--forget-set", forget, "--draws", "4")
    assert (refused.code, "disk is full" in refused.said.lower()) == (2, True)
    assert "Traceback" not in refused.err
    # As a process of its own, as a user would.
    outcome = ended(started("runs", "delete", "--yes", gone))
    assert (outcome.code, f"{gone} is deleted." in outcome.said) == (0, True)
    assert not (small_disk / "runs" / gone).exists()
    assert [run.id for run in RunStore.open(settings).list()] == [kept]


@pytest.mark.slow
def test_a_run_that_meets_a_full_disk_says_so(small_disk: Path, settings: Settings, store: RunStore) -> None:
    run = submitted(store, settings)
    with pytest.raises(StoreError, match="disk is full"):
        worker.run(run.directory, store=store, job=f"{__name__}:fill_the_disk")
    assert store.get(run.id).state is S.RUNNING
    (small_disk / "ballast").unlink()
    set_row(store, run, pid=2**22)
    [failed] = lost(store)
    assert (failed.state, failed.attempt) == (S.FAILED, 1)
    assert failed.error
    assert "disk is full" in failed.error.cause
    assert "memory" not in failed.error.advice
    assert store.resume(run.id).attempt == 2


def fill_the_disk(_config: object, context: worker.JobContext) -> None:
    """Take all the space there is, then report progress."""
    fill(context.directory.parents[1])
    context.progress(1, 1, message="x" * 100_000)


def test_a_store_on_a_disk_without_room_for_it_is_refused_in_words(small_disk: Path, settings: Settings) -> None:
    fill(small_disk)
    store = RunStore.open(settings)
    assert store.list() == []
    with pytest.raises(StoreError, match="disk is full"):
        store.create("score", "a title", "cpu", small_disk / "run")


# A store that is damaged, empty, read-only, strange


def overwritten(database: Path, start: int) -> None:
    with database.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\x5a" * (database.stat().st_size - start))


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 4096], ids=["from the first page", "from the second page"])
def test_a_damaged_store_is_named_and_its_runs_are_taken_up_again(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore, start: int
) -> None:
    ids = [end(store, settings) for _ in range(3)]
    finished = submitted(store, settings)
    (finished.directory / "summary.json").write_text(json.dumps(SUMMARY))
    store.empty_log()
    store._engine.dispose()
    overwritten(settings.home / "store.db", start)
    listing = cli("runs", "list")
    assert (listing.code, "Traceback" in listing.err) == (2, False)
    assert "is damaged" in listing.said
    assert f"runs adopt {settings.home / 'runs'}" in listing.said
    for path in settings.home.glob("store.db*"):
        path.unlink()
    assert "4 run(s)" in cli("runs", "list").said
    adopted = cli("runs", "adopt", settings.home / "runs")
    assert "4 run(s) taken up." in adopted.said
    again = {run.id: run for run in RunStore.open(settings).list()}
    assert again.keys() == {*ids, finished.id}
    assert {again[run_id].state for run_id in ids} == {S.INTERRUPTED}
    assert (again[finished.id].state, again[finished.id].summary) == (S.SUCCEEDED, SUMMARY)
    assert "0 run(s) taken up." in cli("runs", "adopt", settings.home / "runs").said


@pytest.mark.slow
def test_doctor_finds_a_broken_page_that_no_list_reads(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore
) -> None:
    run = submitted(store, settings)
    store.add_steps(run.id, [], [])
    for step in range(400):
        store.add_event(run.id, "info", f"event {step} " + "x" * 200)
    store.empty_log()
    store._engine.dispose()
    assert "whole" in cli("doctor").said
    database = settings.home / "store.db"
    overwritten(database, database.stat().st_size - 4096)
    assert cli("runs", "list").code == 0
    assert "whole" not in cli("doctor").said.split("store's pages")[1][:40]
    shown = cli("runs", "show", run.id)
    assert (shown.code, "is damaged" in shown.said) == (2, True)
    assert f"page {database.stat().st_size // 4096}" in shown.said.lower()


def test_an_empty_store_beside_runs_does_not_say_that_there_are_none(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore
) -> None:
    end(store, settings)
    store._engine.dispose()
    for path in settings.home.glob("store.db*"):
        path.unlink()
    (settings.home / "store.db").touch()
    assert f"runs adopt {settings.home / 'runs'}" in cli("runs", "list").said


def test_a_read_only_store_is_listed_and_says_why_it_changes_nothing(
    small_disk: Path, cli: Callable[..., Outcome], settings: Settings
) -> None:
    store = RunStore.open(settings)
    run_id = end(store, settings)
    store._engine.dispose()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    listing = cli("runs", "list")
    assert (listing.code, run_id in listing.out, "cannot be written" in listing.said) == (0, True, True)
    for command in (("delete", "--yes"), ("resume",)):
        refused = cli("runs", *command, run_id)
        assert (refused.code, "cannot be written" in refused.said) == (2, True)
        assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("kind", "tomorrow's", "does not know the kind 'tomorrow's'"),
        ("state", "paused", "does not know the state 'paused'"),
        ("progress", "{no json", ""),
        ("error", "[half", ""),
    ],
)
def test_a_strange_row_hides_no_other(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore, column: str, value: str, cause: str
) -> None:
    strange, other = end(store, settings), end(store, settings)
    with sqlite3.connect(settings.home / "store.db") as connection:
        connection.execute(f"UPDATE runs SET {column} = ? WHERE id = ?", (value, strange))
    connection.close()
    listing = cli("runs", "list")
    assert (listing.code, strange in listing.out, other in listing.out) == (0, True, True)
    assert cause in cli("runs", "show", strange).said
    assert store.reap() == []
    if column == "state":
        refused = cli("runs", "delete", "--yes", strange)
        assert (refused.code, cause in refused.said, "Update the program." in refused.said) == (2, True, True)
    else:
        assert cli("runs", "delete", "--yes", strange).code == 0
    assert cli("runs", "delete", "--yes", other).code == 0


@pytest.mark.parametrize("name", ["a?b=1", "100%", "per%20cent", "c#d", "two words", "ü&+@:", "q'uote"])
def test_the_home_is_the_folder_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MRD_HOME", str(tmp_path / name))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)
    settings = Settings.from_environment()
    run = submitted(RunStore.open(), settings)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert run.directory.is_relative_to(tmp_path / name / "runs")
    assert (tmp_path / name / "store.db").is_file()
    assert [known.id for known in RunStore.open().list()] == [run.id]


# What others may read, and what is left behind


@pytest.mark.slow
def test_nobody_else_reads_what_a_run_writes(tiny_model: Path, home: Path, tmp_path: Path) -> None:
    forget = write_rows(tmp_path / "forget.jsonl", rows(3))
    quick = ("--sigma", "1e-2", "--draws", "4", "--workers", "1", "--out", tmp_path / "own")
    before = os.umask(0o022)
    try:
        outcome = ended(started("score", "--model", tiny_model, "--forget-set", forget, *quick))
    finally:
        os.umask(before)
    assert outcome.code == 0, outcome.err
    paths = [*home.rglob("*"), home, *(tmp_path / "own").rglob("*"), tmp_path / "own"]
    assert {path.name for path in paths} > {"store.db", "samples.parquet", "scores.parquet"}
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_the_library_keeps_runs_private_too(settings: Settings) -> None:
    before = os.umask(0o022)
    try:
        run = submitted(RunStore.open(settings), settings)
    finally:
        os.umask(before)
    for path in (settings.home, settings.home / "runs", run.directory, settings.home / "store.db"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("place", ["runs/own", "elsewhere/own"])
def test_what_a_kill_left_of_a_submission_is_swept_and_one_that_goes_on_is_not(
    settings: Settings, store: RunStore, place: str
) -> None:
    left = settings.home / "runs" / ".submitting-dead"
    (left / "20260101-000000-aaaa").mkdir(parents=True)
    (left / "20260101-000000-aaaa" / "samples.jsonl").write_text("texts")

    def prepare(draft: Path) -> None:
        for entry in settings.home.glob("*/.submitting-*"):
            os.utime(entry, (time.time() - 3600,) * 2, follow_symlinks=False)
        submitted(store, settings)
        assert draft.is_dir()

    submit(config_of(), store=store, settings=settings, directory=settings.home / place, prepare=prepare)
    assert not list(settings.home.glob("*/.submitting-*"))
    assert len(store.list()) == 2


def killed_in_submission(settings: Settings, directory: Path, moment: str) -> None:
    """Have a process submit a run and be killed while the directory is made, or before the run has a row."""
    words = (sys.executable, "-c", SUBMISSION, str(directory), moment)
    environment = os.environ | {"MRD_HOME": str(settings.home), "MRD_STORE_URL": settings.store_url}
    assert subprocess.run(words, cwd=REPOSITORY, env=environment).returncode == -signal.SIGKILL
    for link in (settings.home / "runs").glob(".submitting-*"):
        os.utime(link, (time.time() - 3600,) * 2, follow_symlinks=False)


def test_what_a_kill_left_beside_a_folder_of_ones_own_is_swept(
    cli: Callable[..., Outcome], settings: Settings, tmp_path: Path
) -> None:
    killed_in_submission(settings, tmp_path / "mine" / "own", "prepare")
    [staging] = (tmp_path / "mine").iterdir()
    assert (staging / "own" / "texts").exists()
    assert cli("runs", "list").code == 0
    assert [*(tmp_path / "mine").iterdir(), *(settings.home / "runs").iterdir()] == []


def test_a_folder_of_ones_own_without_a_row_is_named_and_taken_up(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore, tmp_path: Path
) -> None:
    own = tmp_path / "mine" / "own"
    killed_in_submission(settings, own, "register")
    with pytest.raises(UserError, match=f"store does not know .*runs adopt {own}"):
        submitted(store, settings, own)
    assert f"runs adopt {settings.home / 'runs'}" in cli("runs", "list").said
    assert "1 run(s) taken up." in cli("runs", "adopt", settings.home / "runs").said
    assert [run.directory for run in store.list()] == [own]
    assert "Not in this list" not in cli("runs", "list").said
    assert cli("runs", "delete", "--yes", store.list()[0].id).code == 0
    assert cli("runs", "list").code == 0
    assert [*(tmp_path / "mine").iterdir(), *(settings.home / "runs").iterdir()] == []


def test_what_a_kill_left_of_a_submission_is_swept_when_runs_are_listed(
    cli: Callable[..., Outcome], settings: Settings
) -> None:
    left, fresh = (settings.home / "runs" / f".submitting-{name}" for name in ("dead", "fresh"))
    for staging in (left, fresh):
        (staging / "20260101-000000-aaaa").mkdir(parents=True)
    os.utime(left, (time.time() - 3600,) * 2)
    assert cli("runs", "list").code == 0
    assert (left.exists(), fresh.exists()) == (False, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        (json.dumps(SUMMARY)[:20], "line 1 column"),
        (json.dumps(SUMMARY | {"n_samples": None}), "n_samples Input should be a valid integer"),
        ("[]", "Input should be a valid dictionary"),
        (b"\xff", "utf-8"),
    ],
    ids=["empty", "cut", "null", "list", "bytes"],
)
def test_a_run_whose_figures_cannot_be_read_is_named_and_those_after_it_are_taken_up(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore, text: str | bytes, reason: str
) -> None:
    template, folder = submitted(store, settings).directory, settings.home / "given"
    for name, content in (("a", text), ("b", json.dumps(SUMMARY))):
        shutil.copytree(template, folder / name)
        (folder / name / "summary.json").write_bytes(content.encode() if isinstance(content, str) else content)
    outcome = cli("runs", "adopt", folder)
    assert (outcome.code, "1 run(s) taken up." in outcome.said) == (0, True)
    assert str(folder / "a" / "summary.json") in outcome.said
    assert reason in outcome.said
    assert store.find_by_directory(folder / "b").state is S.SUCCEEDED
    assert store.find_by_directory(folder / "a") is None
    # As it says.
    (folder / "a" / "summary.json").unlink()
    assert "1 run(s) taken up." in cli("runs", "adopt", folder).said
    assert store.find_by_directory(folder / "a").state is S.INTERRUPTED


@pytest.mark.parametrize("kind", ["score", "unlearn"])
def test_a_run_with_strange_figures_hides_no_other(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore, kind: str
) -> None:
    strange, other = end(store, settings), end(store, settings)
    set_row(store, store.get(strange), state=S.SUCCEEDED, kind=kind, summary={"n_samples": None})
    set_row(store, store.get(other), state=S.SUCCEEDED, summary=SUMMARY)
    listing = cli("runs", "list")
    assert (listing.code, strange in listing.out, other in listing.out) == (0, True, True)
    assert outcome(store.get(strange)) == {"headline": "its figures are not as this version writes them"}
    assert headline(store.get(other)).startswith("3 samples")
    assert cli("runs", "delete", "--yes", strange).code == 0


def test_a_directory_without_a_row_is_named_and_taken_up(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore
) -> None:
    run_id = end(store, settings)
    shutil.copytree(settings.home / "runs" / run_id, settings.home / "runs" / "20260101-000000-aaaa")
    assert "1 run(s)" in cli("runs", "list").said
    assert "1 run(s) taken up." in cli("runs", "adopt", settings.home / "runs").said
    assert store.get("20260101").state is S.INTERRUPTED
    assert cli("runs", "delete", "--yes", "20260101-000000-aaaa").code == 0


def test_in_a_copied_home_the_runs_of_the_original_are_not_deleted(
    cli: Callable[..., Outcome],
    settings: Settings,
    store: RunStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = end(store, settings, 10)
    copy = Path(shutil.copytree(settings.home, tmp_path / "a copy"))
    files = sorted(path.name for path in (settings.home / "runs" / run_id).iterdir())
    monkeypatch.setenv("MRD_HOME", str(copy))
    refused = cli("runs", "delete", "--yes", run_id)
    assert (refused.code, f"another home, {settings.home}" in refused.said) == (2, True)
    assert f"MRD_HOME={settings.home} mrd-lens runs delete {run_id}" in refused.said
    assert sorted(path.name for path in (settings.home / "runs" / run_id).iterdir()) == files
    # As it says: the copy takes up its own.
    for path in copy.glob("store.db*"):
        path.unlink()
    assert "1 run(s) taken up." in cli("runs", "adopt", copy / "runs").said
    assert cli("runs", "delete", "--yes", run_id).code == 0
    assert list((copy / "runs").iterdir()) == []
    assert sorted(path.name for path in (settings.home / "runs" / run_id).iterdir()) == files


def test_a_run_of_another_home_is_let_go_once_its_files_are_gone(
    cli: Callable[..., Outcome],
    settings: Settings,
    store: RunStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = end(store, settings)
    copy = shutil.copytree(settings.home, tmp_path / "copy")
    assert cli("runs", "delete", "--yes", run_id).code == 0
    monkeypatch.setenv("MRD_HOME", str(copy))
    assert cli("runs", "delete", "--yes", run_id).code == 0
    assert RunStore.open(settings_in(copy)).list() == []


def test_runs_beside_a_store_that_was_named_are_deleted_from_it(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRD_STORE_URL", f"sqlite:///{tmp_path / 'mine' / 'store.db'}")
    settings, store = Settings.from_environment(), RunStore.open()
    run = submit(config_of(), store=store, settings=settings, directory=tmp_path / "mine" / "runs" / "own")
    store.request_cancel(run.id)
    assert cli("runs", "delete", "--yes", run.id).code == 0
    assert not run.directory.exists()


@pytest.mark.parametrize("place", ["", "/nowhere", "empty"])
def test_adopting_what_is_no_run_says_so(cli: Callable[..., Outcome], tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    outcome = cli("runs", "adopt", tmp_path / place if place == "empty" else place)
    expected = (0, "0 run(s) taken up.") if place == "empty" else (2, "does not exist")
    assert (outcome.code, expected[1] in outcome.said) == (expected[0], True)


def test_what_a_deleted_run_quoted_leaves_the_log_when_the_reader_has_gone(
    cli: Callable[..., Outcome], settings: Settings, store: RunStore
) -> None:
    run_id = end(store, settings)
    store.add_event(run_id, "error", "Zaphra Quill lives in Orrin")
    reader = sqlite3.connect(settings.home / "store.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    outcome = cli("runs", "delete", "--yes", run_id)
    assert "Another program is reading the store" in outcome.said
    reader.close()
    assert cli("runs", "list").code == 0
    assert not any(b"Zaphra" in path.read_bytes() for path in settings.home.glob("store.db*"))


def test_a_store_outside_the_home_is_named_with_its_own_log_and_the_runs_of_the_home(
    cli: Callable[..., Outcome], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "other" / "x.db"
    monkeypatch.setenv("MRD_STORE_URL", f"sqlite:///{database}")
    store = RunStore.open()
    run_id = end(store, Settings.from_environment())
    reader = sqlite3.connect(database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    assert f"so {database}-wal may quote them" in cli("runs", "delete", "--yes", run_id).said
    reader.close()
    store.empty_log()
    store._engine.dispose()
    overwritten(database, 0)
    listing = cli("runs", "list").said
    assert f"Move {database} away" in listing
    assert f"runs adopt {home / 'runs'}" in listing


def test_a_run_directory_that_cannot_be_removed_is_an_error_in_words(
    small_disk: Path, settings: Settings, tmp_path: Path
) -> None:
    store = RunStore.open(
        Settings(home=tmp_path / "other", store_url=f"sqlite:///{tmp_path}/s.db", allowed_roots=())
    )
    run = submit(config_of(), store=store, settings=settings, directory=small_disk / "run")
    store.request_cancel(run.id)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UserError, match="cannot be removed"):
        store.delete(run.id)
    assert store.get(run.id).state is S.CANCELLED
