"""Kinds of run: one closed table, artifacts declared once, and stores of earlier versions."""

from __future__ import annotations

import importlib
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Run, RunState, RunStore, annotation
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.files import Artifact, RunDirectory, read_json, whole_lines, write_frame, write_json
from mrd_core.runs.kind import kind_named, kinds
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.runs.schema import VERSION
from mrd_core.runs.subject import subject
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import Settings
from mrd_core.unlearning.config import CurriculumConfig, UnlearnConfig
from tests.conftest import REPOSITORY

# The table of runs as it was before its versions were counted.
FIRST_RUNS = """
CREATE TABLE runs (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR(64) NOT NULL UNIQUE, kind VARCHAR(32) NOT NULL,
    title TEXT NOT NULL, state VARCHAR(16) NOT NULL, attempt INTEGER NOT NULL, device VARCHAR(64) NOT NULL,
    directory TEXT NOT NULL UNIQUE, created_at DATETIME NOT NULL, queued_at DATETIME NOT NULL, started_at DATETIME,
    finished_at DATETIME, host TEXT, pid INTEGER, pid_started DOUBLE, heartbeat_at DATETIME,
    progress JSON NOT NULL, error JSON, summary JSON
)
"""
SCORED, UNLEARNED, REMOVED = "20260101-000000-aaaa", "20260101-000001-bbbb", "20260101-000002-cccc"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, store_url=f"sqlite:///{tmp_path / 'store.db'}", allowed_roots=())


@pytest.fixture
def first_store(settings: Settings) -> Path:
    """A store of the first version: a score run, an unlearning run on it, and a run whose directory is gone."""
    database = settings.home / "store.db"
    configs = {
        SCORED: {"kind": "score", "forget_set": {"source": "demo"}},
        UNLEARNED: {"kind": "unlearn", "score_run": str(settings.home / "runs" / SCORED), "study": "three seeds"}
        | {"method": "npo", "model": {"source": "/models/my-llama"}},
    }
    for run_id, config in configs.items():
        write_json(settings.home / "runs" / run_id / "config.json", config)
    with sqlite3.connect(database) as connection:
        connection.execute(FIRST_RUNS)
        for run_id, kind in ((SCORED, "score"), (UNLEARNED, "unlearn"), (REMOVED, "unlearn")):
            connection.execute(
                "INSERT INTO runs"
                " (id, kind, title, state, attempt, device, directory, created_at, queued_at, progress)"
                " VALUES (?, ?, 'a title', 'failed', 1, 'cpu', ?, '2026-01-01', '2026-01-01', '{}')",
                (run_id, kind, str(settings.home / "runs" / run_id)),
            )
    connection.close()
    return database


@pytest.mark.parametrize("name", kinds())
def test_a_kind_is_whole(name: str) -> None:
    kind = kind_named(name)
    assert (kind.name, kind.config.model_fields["kind"].default) == (name, name)
    module, _, function = kind.job.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert all(count == 1 for count in Counter(artifact.path for artifact in kind.artifacts.values()).values())
    assert all(artifact.about.endswith(".") for artifact in kind.artifacts.values())
    assert set(kind.files.results) <= set(kind.artifacts)


@pytest.mark.parametrize("name", ["guess", "os:system", "mrd_core.scoring.kind:SCORE", "", "score/../score"])
def test_a_config_names_no_code(name: str, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"kind": name})
    with pytest.raises(UserError, match="is unknown") as refused:
        read_config(tmp_path, RunConfig)
    assert {"characteristics", "theorem"} <= set(refused.value.fix.rstrip(".").replace(",", "").split())


@pytest.mark.slow
def test_the_table_imports_no_kind_before_it_is_asked_for() -> None:
    named = "[name for name in sys.modules if name.endswith(('kind', 'kinds'))]"
    code = f"import sys, mrd_core.runs.worker; print({named})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "['mrd_core.runs.kind']"


class Files(RunDirectory):
    table = Artifact("table.parquet", "A table.")
    parts = Artifact("parts", "Parts.", scaffolding=True)
    results = ("table", "summary")


def test_an_evaluation_is_called_by_what_was_unlearned(tmp_path: Path) -> None:
    title = kind_named("evaluate").title
    assert title(EvaluateConfig(data="demo")) == "Own files on the demo model"
    config = EvaluateConfig(unlearn_run=tmp_path / "20261128-070636-039d")
    # Of a run that is gone its id is all that is known.
    assert title(config) == "Own files on the result of 20261128-070636-039d"
    config.unlearn_run.mkdir()
    curriculum = CurriculumConfig(sampler="mrd")
    unlearned = UnlearnConfig(score_run=tmp_path, model=ModelConfig(), method="ga", curriculum=curriculum, seed=3)
    write_config(config.unlearn_run, unlearned)
    assert title(config) == "Own files on GA + MRD, seed 3"


def test_artifacts_are_paths_and_are_listed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.table == tmp_path / "table.parquet"
    assert [artifact.path for artifact in Files.artifacts().values()] == [
        "config.json",
        "worker.log",
        "launch.json",
        "jobs",
        "summary.json",
        "table.parquet",
        "parts",
    ]


def test_a_run_is_finished_when_its_last_result_is_there(tmp_path: Path) -> None:
    files = Files(tmp_path)
    write_json(files.summary, {"n": 1})
    assert files.is_finished
    with pytest.raises(UserError, match=r"has no table\.parquet"):
        Files.finished(tmp_path)


def test_scaffolding_goes_and_results_stay(tmp_path: Path) -> None:
    files = Files(tmp_path)
    write_json(files.parts / "one.json", {})
    write_json(files.summary, {})
    (tmp_path / ".table.parquet.123.tmp").write_text("half")
    files.remove_scaffolding()
    files.remove_scaffolding()
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"value": 1.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": float("nan")})
    with pytest.raises(AttributeError):
        write_frame(path, None)  # type: ignore[arg-type]
    assert read_json(path) == {"value": 1.5}
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_a_kill_cut_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert list(whole_lines(log)) == []
    log.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(whole_lines(log)) == [{"step": 1}, {"step": 2}]


def test_a_store_of_the_first_version_opens_with_what_its_runs_build_on(
    first_store: Path, settings: Settings
) -> None:
    for store in (RunStore.open(settings), RunStore.open(settings)):
        scored, unlearned, removed = (store.get(run_id) for run_id in (SCORED, UNLEARNED, REMOVED))
        assert (scored.score_run, scored.study) == (None, None)
        assert (unlearned.score_run, unlearned.study) == (scored.directory, "three seeds")
        assert (removed.score_run, removed.state) == (None, RunState.FAILED)
        assert (scored.model, scored.forget_set, scored.method) == (None, "Demo forget set", None)
        assert (unlearned.model, unlearned.forget_set, unlearned.method) == ("my-llama", "Demo forget set", "npo")
        assert (removed.model, removed.tags, removed.note) == (None, (), None)
        assert store.list(kinds=("unlearn",), score_run=scored) == [unlearned]
        assert store.score_run_of(unlearned) == scored
    connection = sqlite3.connect(first_store)
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(VERSION,)]
    connection.close()


@pytest.mark.slow
def test_several_processes_bring_an_old_store_along_at_once(first_store: Path, settings: Settings) -> None:
    code = (
        "import sys; from mrd_core.runs import RunStore; from mrd_core.settings.installation import Settings;"
        f"print(len(RunStore.open(Settings.model_validate_json({settings.model_dump_json()!r})).list()))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in processes] == ["3"] * 3
    connection = sqlite3.connect(first_store)
    assert connection.execute("SELECT count(*) FROM schema_version").fetchone() == (1,)
    connection.close()


def test_a_run_of_the_first_version_is_deleted_whole(first_store: Path, settings: Settings) -> None:  # noqa: ARG001
    store = RunStore.open(settings)
    directory = store.get(UNLEARNED).directory
    store.delete(UNLEARNED)
    store.delete(REMOVED)
    assert not directory.exists()
    assert [run.id for run in store.list()] == [SCORED]


def test_a_store_of_a_later_version_is_refused(settings: Settings) -> None:
    RunStore.open(settings)
    with sqlite3.connect(settings.home / "store.db") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(UserError, match="newer version") as refused:
        RunStore.open(settings)
    assert "99" in refused.value.why


def test_what_a_run_builds_on_is_kept_in_the_store(settings: Settings, tmp_path: Path) -> None:
    store = RunStore.open(settings)
    (tmp_path / "built").mkdir()
    scored = store.create("score", "scores", "cpu", tmp_path / "scored")
    built = store.create("unlearn", "ga", "cpu", tmp_path / "built", score_run=scored.directory, study="s")
    other = store.create("unlearn", "ga", "cpu", tmp_path / "other", score_run=tmp_path / "elsewhere")
    assert store.list(score_run=scored) == [built]
    assert (built.score_run, built.study) == (scored.directory, "s")
    with pytest.raises(UserError, match="is not in this store"):
        store.score_run_of(other)


def test_a_store_of_the_second_version_opens_and_its_running_runs_go_by_their_heartbeat(
    settings: Settings, tmp_path: Path
) -> None:
    store = RunStore.open(settings)
    run = store.create("score", "scores", "cpu", tmp_path / "scored")
    assert store.claim(run, ProcessIdentity.current())
    with sqlite3.connect(settings.home / "store.db") as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN system")
        connection.execute("ALTER TABLE runs DROP COLUMN lost_in")
        connection.execute("UPDATE schema_version SET version = 2")
        connection.execute("UPDATE runs SET pid_started = 1.7e9")
    connection.close()
    opened = RunStore.open(settings)
    assert opened.reap() == []
    assert opened.get(run.id).system is None
    with sqlite3.connect(settings.home / "store.db") as connection:
        connection.execute("UPDATE runs SET heartbeat_at = '2026-01-01 00:00:00.000000'")
    connection.close()
    assert [lost.id for lost in opened.reap()] == [run.id]


def test_a_store_of_the_third_version_opens_with_what_its_runs_are_about(
    settings: Settings, tmp_path: Path
) -> None:
    store = RunStore.open(settings)
    write_json(tmp_path / "scored" / "config.json", {"kind": "score", "forget_set": {"source": "a/b.jsonl"}})
    run = store.create("score", "renamed by hand", "cpu", tmp_path / "scored", study="kept")
    with sqlite3.connect(settings.home / "store.db") as connection:
        for column in ("model", "forget_set", "method", "tags", "note"):
            connection.execute(f"ALTER TABLE runs DROP COLUMN {column}")
        connection.execute("UPDATE schema_version SET version = 3")
    connection.close()
    opened = RunStore.open(settings).get(run.id)
    assert (opened.forget_set, opened.title, opened.study) == ("b.jsonl", "renamed by hand", "kept")
    assert (opened.tags, opened.note) == ((), None)
    assert annotation.tag(RunStore.open(settings), opened, ["paper"]).tags == ("paper",)


def test_an_evaluation_is_about_what_was_unlearned(tmp_path: Path) -> None:
    scored = {"kind": "score", "forget_set": {"source": "demo"}, "model": {"source": "demo"}}
    unlearned = {
        "kind": "unlearn",
        "score_run": str(tmp_path / "scored"),
        "method": "npo",
        "model": {"source": "m"},
    }
    write_json(tmp_path / "scored" / "config.json", scored)
    write_json(tmp_path / "unlearned" / "config.json", unlearned)
    evaluated = {"unlearn_run": str(tmp_path / "unlearned"), "score_run": str(tmp_path / "scored")}
    about = subject({"kind": "evaluate", "model": {"source": "demo"}} | evaluated)
    assert (about["model"], about["forget_set"], about["method"]) == ("m", "Demo forget set", "npo")


@pytest.mark.parametrize(
    ("write", "cause"),
    [
        (lambda store, run: annotation.rename(store, run, "x" * 121), "has 121 characters"),
        (lambda store, run: annotation.tag(store, run, ["a,b"]), "holds a comma"),
        (lambda store, run: annotation.tag(store, run, [" "]), "is blank"),
        (lambda store, run: annotation.note(store, run, "x" * 2001), "has 2001 characters"),
    ],
)
def test_what_people_write_on_a_run_is_checked(
    write: Callable[[RunStore, Run], Run], cause: str, settings: Settings, tmp_path: Path
) -> None:
    store = RunStore.open(settings)
    run = store.create("score", "scores", "cpu", tmp_path / "scored")
    with pytest.raises(UserError, match=cause):
        write(store, run)
    assert store.get(run.id) == run


def test_deleting_several_runs_removes_all_or_none(settings: Settings) -> None:
    store = RunStore.open(settings)
    runs = [store.create("score", name, "cpu", settings.home / "runs" / name) for name in "abc"]
    for run in runs[:2]:
        assert store.transition(run.id, RunState.CANCELLED, expected=RunState.QUEUED)
    with pytest.raises(UserError, match="has not ended"):
        store.delete(*(run.id for run in runs))
    assert len(store.list()) == 3
    store.delete(runs[0].id, runs[1].id)
    assert [run.id for run in store.list()] == [runs[2].id]
