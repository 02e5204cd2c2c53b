"""`mrd-lens study`, by its front door: nothing is done twice, whatever comes between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mrd_core.runs import ACTIVE, Run, RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.launchers import watch
from mrd_core.runs.liveness import FRESH
from mrd_core.settings.configuration import RunConfig
from tests.support.cluster import running
from tests.support.commands import Outcome, ended, started
from tests.support.runs import set_row, until
from tests.support.studies import write_study
from tests.support.unlearning_runs import Scored, scored_tiny

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]

ROWS, UNLEARNINGS = 10, 4


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def file(tmp_path: Path, scored: Scored) -> Path:
    return write_study(tmp_path, scored)


def attempts() -> dict[str, int]:
    """Return how often each run was begun."""
    return {run.id: run.attempt for run in RunStore.open().list()}


def states(outcome: Outcome) -> dict[str, str]:
    return {run["name"]: run["state"] for run in json.loads(outcome.out.splitlines()[-1])["runs"]}


def kinds() -> list[str]:
    return sorted(run.kind for run in RunStore.open().list())


def until_at_work(process: subprocess.Popen[str], finished: int) -> None:
    """Wait until a study has finished some unlearning runs and is at work on the next."""
    store = RunStore.open()

    def at_work() -> bool:
        assert process.poll() is None, process.communicate()
        runs: list[Run] = store.list(kinds=["unlearn"])
        done = sum(run.state is RunState.SUCCEEDED for run in runs)
        return done >= finished and any(run.state is RunState.RUNNING for run in runs)

    until(at_work, f"{finished} unlearning run(s) are done, and one is running")


def test_a_study_is_run_once_through_kills_and_later_only_what_is_new(
    cli: Callable[..., Outcome], file: Path
) -> None:
    dry = cli("study", "run", file, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert set(states(dry).values()) == {"to do"}
    assert len(states(dry)) == ROWS
    assert kinds() == []

    process = started("study", "run", file)
    until_at_work(process, finished=1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    store = RunStore.open()
    (killed,) = store.list(states=ACTIVE)
    before = attempts()
    assert states(cli("study", "show", file, "--json"))[killed.title.partition(" on ")[0]] == "resumes"

    # Nobody waits for its last heartbeat to grow old.
    set_row(store, killed, heartbeat_at=datetime.now(UTC) - 2 * FRESH)
    again = cli("study", "run", file, "--json")
    assert again.code == 0, again.err
    assert set(states(again).values()) == {"exists"}
    after = attempts()
    # What was finished was left alone, and what was under way went on.
    assert {run: after[run] for run in before} == before | {killed.id: 2}
    assert kinds() == ["evaluate"] * (UNLEARNINGS + 1) + ["score"] + ["unlearn"] * UNLEARNINGS
    assert {run.study for run in store.list()} == {"tiny"}

    assert states(cli("study", "run", file, "--json")) == states(again)
    assert attempts() == after

    more = cli("study", "run", file, "--set", "unlearn.seed=[0,1]", "--set", "unlearn.method=ga", "--json")
    assert more.code == 0, more.err
    new = [run for run in store.list() if run.id not in after]
    assert sorted(run.kind for run in new) == ["evaluate"] * 2 + ["unlearn"] * 2
    seeds = {read_config(run.directory, RunConfig).model_dump()["seed"] for run in new if run.kind == "unlearn"}
    assert seeds == {1}


def test_what_others_have_run_is_taken_and_what_has_changed_since_is_not(
    cli: Callable[..., Outcome], scored: Scored, tmp_path: Path
) -> None:
    forget = Path(shutil.copy(scored.forget, tmp_path / "forget.jsonl"))
    model = Path(shutil.copytree(scored.model, tmp_path / "model"))
    file = write_study(tmp_path, replace(scored, forget=forget, model=model))
    # With --json the bare model is timed besides, which changes no score.
    estimator = ("--sigma", "1e-3", "--draws", "4", "--stop", "never", "--probes", "--workers", "1", "--json")
    by_hand = ("score", "--forget-set", forget, "--model", model, "--device", "cpu")
    assert cli(*by_hand, *estimator, "--out", tmp_path / "mine").code == 0
    only_scores = ("study", "run", file, "--set", "unlearn=[]", "--set", "evaluate=[]", "--json")
    assert states(cli(*only_scores)) == {"Scores": "exists"}
    (run,) = RunStore.open().list()
    assert (run.directory, run.study) == (tmp_path / "mine", "tiny")

    forget.touch()
    assert states(cli(*only_scores, "--dry-run")) == {"Scores": "exists"}
    forget.write_text(forget.read_text("utf-8").replace("Who is", "Who, then, is").replace("Who", "Whom"), "utf-8")
    assert states(cli(*only_scores, "--dry-run")) == {"Scores": "to do"}
    shutil.copy(scored.forget, forget)
    assert states(cli(*only_scores, "--dry-run")) == {"Scores": "exists"}
    # Another one in its place, with the times of modification that it had.
    model.rename(tmp_path / "former")
    shutil.copytree(scored.model, model)
    assert (model / "model.safetensors").stat().st_mtime < run.created_at.timestamp()
    assert states(cli(*only_scores, "--dry-run")) == {"Scores": "to do"}


def test_a_reading_by_another_pipeline_or_version_is_not_taken(cli: Callable[..., Outcome], file: Path) -> None:
    reading = (
        "--set",
        "unlearn=[]",
        "--set",
        "evaluate=[]",
        "--set",
        "characteristics.reading.language=en",
        "--json",
    )
    assert states(cli("study", "run", file, *reading)) == {"Scores": "exists", "Characteristics": "exists"}
    store = RunStore.open()
    (run,) = store.list(kinds=["characteristics"])
    # Its directory is named for pipeline and version.
    set_row(store, run, directory=str(run.directory.rename(run.directory.with_name("other"))))
    assert states(cli("study", "show", file, *reading)) == {"Scores": "exists", "Characteristics": "to do"}


def test_one_failed_run_stops_only_what_builds_on_it(
    cli: Callable[..., Outcome], scored: Scored, tmp_path: Path
) -> None:
    failing = '\n[[unlearn]]\nmethod = "po"\nrefusals = "gone.txt"\nlimits.max_steps = 1\n'
    failing += '\n[[evaluate]]\nsuite = "wmdp"\ndata = "exam"\n'
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam" / "mmlu.jsonl").write_text(
        '{"question": "Who?", "option1": "Ann", "answer": "Ann"}\n', "utf-8"
    )
    file = write_study(tmp_path, scored, more=failing)
    few = ("--set", "unlearn.0.method=ga", "--set", "unlearn.0.curriculum.sampler=uniform")
    outcome = cli("study", "run", file, *few, "--json")
    assert outcome.code == 1
    assert states(outcome) == {
        "Scores": "exists",
        "GA, seed 0": "exists",
        "PO, seed 0": "failed",
        "Own files on the original": "exists",
        "Own files on GA, seed 0": "exists",
        "Own files on PO, seed 0": "blocked",
        "WMDP on the original": "failed",
        "WMDP on GA, seed 0": "failed",
        "WMDP on PO, seed 0": "failed",
    }
    assert "gone.txt" in outcome.err
    # What cannot be read is found before the first run begins.
    before, _, after = outcome.err.partition("[1/9]")
    assert "3 of 9 runs cannot be begun" in before
    assert "It has no column 'choices'" in before
    assert "WMDP on" not in [line.partition("] ")[2][:7] for line in after.splitlines()]
    shown = cli("study", "show", file, *few)
    assert "of 10 forgotten, 16 updates" in shown.said
    assert "mrd-lens compare" in shown.err


def test_a_budget_ends_before_the_run_that_would_not_fit(cli: Callable[..., Outcome], file: Path) -> None:
    (seconds, *_) = (
        run["seconds"] for run in json.loads(cli("study", "run", file, "--dry-run", "--json").out)["runs"]
    )
    outcome = cli("study", "run", file, "--budget", 0.99 * seconds / 3600)
    assert outcome.code == 0
    assert "no room for “Scores”" in outcome.said
    assert f"{ROWS} run(s) are left" in outcome.said
    assert kinds() == []
    only = ("--set", "unlearn=[]", "--set", "evaluate=[]")
    assert states(cli("study", "run", file, *only, "--budget", 1.01 * seconds / 3600, "--json")) == {
        "Scores": "exists"
    }


def test_a_budget_that_may_not_hold_is_said(cli: Callable[..., Outcome], file: Path) -> None:
    few = ("--set", "unlearn=[]", "--set", "evaluate=[]", "--set", "characteristics.reading.language=en")
    outcome = cli("study", "run", file, *few, "--budget", 1, "--json")
    assert set(states(outcome).values()) == {"exists"}
    said = [line for line in outcome.err.splitlines() if "The budget may not hold" in line]
    assert len(said) == 1
    assert "nothing of the kind has been run here yet" in said[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.long
def test_a_signal_stops_the_study_with_its_run_and_the_same_command_goes_on(
    cli: Callable[..., Outcome], scored: Scored, tmp_path: Path, number: int, code: int
) -> None:
    file = write_study(tmp_path, scored, steps=40)
    process = started("study", "run", file)
    until_at_work(process, finished=0)
    process.send_signal(number)
    stopped = ended(process)
    assert stopped.code == code
    assert "mrd-lens study run" in stopped.said
    assert not RunStore.open().list(states=ACTIVE)
    again = cli("study", "run", file, "--json")
    assert again.code == 0, again.err
    assert sorted(attempts().values()) == [1] * (ROWS - 1) + [2]


@pytest.mark.long
def test_in_the_background_runs_begin_when_what_they_build_on_is_there(
    cli: Callable[..., Outcome], file: Path
) -> None:
    outcome = cli("study", "run", file, "--background", "--json")
    assert outcome.code == 0, outcome.err
    assert set(states(outcome).values()) == {"exists"}
    assert sorted(attempts().values()) == [1] * ROWS
    runs: dict[str, Any] = {str(run.directory): run for run in RunStore.open().list()}
    for run in runs.values():
        config = read_config(run.directory, RunConfig).model_dump(mode="json")
        for name in ("score_run", "unlearn_run"):
            parent = runs.get(str(config.get(name)))
            assert parent is None or parent.finished_at <= run.created_at


@pytest.mark.long
def test_a_budget_counts_what_is_under_way(cli: Callable[..., Outcome], file: Path) -> None:
    # So slow that hours are estimated of what takes seconds.
    pace = ("--pace", "1e5")
    told = json.loads(cli("study", "run", file, *pace, "--dry-run", "--json").out)["runs"]
    score, unlearn = told[0]["seconds"], [run["seconds"] for run in told if run["kind"] == "unlearn"]
    budget = 1.05 * max(score, 2 * unlearn[0])
    # Each is begun at the estimates of those before it, which go on beside it; the seconds that all took are less.
    fitting = sum(sum(unlearn[: count + 1]) < budget - 60 for count in range(len(unlearn)))
    assert 1 <= fitting < len(unlearn)
    outcome = cli("study", "run", file, *pace, "--background", "--budget", budget / 3600)
    assert "The budget has no room" in outcome.said
    assert len(RunStore.open().list(kinds=["unlearn"])) == fitting
    until(lambda: not RunStore.open().list(states=ACTIVE), "what was begun has ended")


def test_the_store_lists_studies_and_shows_those_that_no_file_describes(
    cli: Callable[..., Outcome], file: Path
) -> None:
    only = ("--set", "unlearn=[]", "--set", "evaluate=[]", "--set", "name=Scores alone")
    assert cli("study", "run", file, *only).code == 0
    listed = json.loads(cli("study", "list", "--json").out)
    assert listed["stored"] == {"Scores alone": {"succeeded": 1}}
    assert "Scores alone" in cli("study", "list").out
    (run,) = json.loads(cli("study", "show", "Scores alone", "--json").out)["runs"]
    assert (run["kind"], run["state"]) == ("score", "succeeded")
    assert cli("study", "show", "Nobody's").code == 2


@pytest.mark.long
@pytest.mark.cold
def test_a_scheduler_is_given_each_run_when_it_can_begin(
    cli: Callable[..., Outcome], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -r requirements-slurm.txt")
    monkeypatch.setattr(watch, "PAUSE", 0.2)
    few = ("--set", "unlearn.method=ga", "--set", "evaluate.of=['unlearned']")
    with tempfile.TemporaryDirectory(prefix="mrd-slurm-") as folder, running(Path(folder)) as cluster:
        for name, value in cluster.variables.items():
            monkeypatch.setenv(name, value)
        outcome = cli("study", "run", file, *few, "--launcher", "slurm", "--jobs", "2", "--json")
    assert outcome.code == 0, outcome.err
    assert list(states(outcome).values()) == ["exists"] * 5
    assert {run.launcher for run in RunStore.open().list()} == {"slurm"}
