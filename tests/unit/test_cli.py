"""The command line, by its front door: real runs in a data root of their own, and errors that can be read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cli.door import COMMANDS
from cli.jobs import EXIT_CANCELLED
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Run, RunState, RunStore, submit, worker
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import write_json
from mrd_core.runs.liveness import ProcessIdentity
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import GRADIENT_MEASURES, PLAIN_MEASURES
from mrd_core.settings.installation import Settings
from tests.support.commands import PATIENCE, Outcome, ended, started

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]

QUICK = ("--sigma", "1e-2", "--draws", "8", "--workers", "1")
PROMISED = {
    "n_samples",
    "median_relative_se",
    "reliability_sum",
    "reliability_mean",
    "evaluations",
    "seconds",
    "seconds_floor_pass",
    "sigma",
    "device",
    "dtype",
}
NO_NETWORK = """
import socket

def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")

def connect(self, address, _connect=socket.socket.connect):
    return _connect(self, address) if self.family == socket.AF_UNIX else refuse()

socket.socket.connect = connect
socket.getaddrinfo = refuse
"""


@pytest.fixture
def score(cli: Callable[..., Outcome], tiny_model: Path, tiny_forget_set: Path) -> Callable[..., Outcome]:
    """Return a function that runs `score` on the tiny model in this process; later options win."""

    def run(*options: object) -> Outcome:
        return cli("score", "--model", tiny_model, "--forget-set", tiny_forget_set, *QUICK, *options)

    return run


def only_run() -> Run:
    (run,) = RunStore.open().list()
    return run


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.02)


def test_help_lists_the_commands_and_hides_the_one_for_helping_processes():
    outcome = ended(started("--help"))
    assert outcome.code == 0
    commands = re.findall(r"^  (\w+) ", outcome.out.partition("Commands:")[2], flags=re.MULTILINE)
    assert commands == list(COMMANDS)


def test_runs_has_a_command_for_everything_that_can_be_done_with_a_run(cli):
    outcome = cli("runs", "--help")
    commands = re.findall(r"^  (\w+) ", outcome.out.partition("Commands:")[2], flags=re.MULTILINE)
    assert commands == ["list", "show", "log", "cancel", "resume", "rename", "tag", "note", "delete", "adopt"]


# score


def test_score_ends_with_one_line_of_json_and_leaves_the_scores(score, tmp_path):
    outcome = score("--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    (line,) = outcome.out.splitlines()
    summary = json.loads(line)
    assert set(summary) >= PROMISED
    assert (summary["n_samples"], summary["evaluations"], summary["sigma"]) == (12, 8, 1e-2)
    assert 0 < summary["seconds_floor_pass"] < summary["seconds"]
    columns = ["sample_id", "mrd", "mrd_signed", "mrd_se", "mrd_low", "mrd_high", "n_tokens", "mean_log_prob"]
    columns += [f"{formula}_answer_mean" for formula in ("mrd", "mean_absolute", "initial")]
    assert set(columns) <= set(pd.read_parquet(tmp_path / "run" / "scores.parquet"))


def test_without_json_score_prints_nothing_to_stdout_and_says_where_the_scores_are(score, tmp_path):
    outcome = score("--out", tmp_path / "run")
    assert (outcome.code, outcome.out) == (0, "")
    assert str(tmp_path / "run" / "scores.parquet") in outcome.err.replace("\n", "")
    assert "12 samples, 8 evaluations" in outcome.said


def test_a_missing_forget_set_is_an_error_without_a_traceback(tiny_model, tmp_path):
    outcome = ended(started("score", "--model", tiny_model, "--forget-set", tmp_path / "missing.jsonl"))
    assert (outcome.code, outcome.out) == (2, "")
    assert "missing.jsonl" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--sigma", "0", "greater than 0"),
        ("--sigma", "lots", "valid number, unable to parse string as a number or Input should be 'auto'"),
        ("--draws", "1", "greater than or equal to 4"),
        ("--seed", "-1", "greater than or equal to 0"),
        ("--preset", "x", "Use recommended or paper."),
        ("--scope", "bad", "'answer' or 'full'"),
        ("--gradient-norms", "maybe", "'auto', 'yes' or 'no'"),
        ("--stop", "soon", "'precision', 'reliability' or 'never'"),
        ("--dtype", "float16", "'float32', 'bfloat16' or 'float64'"),
        ("--layout", "novel", "'tofu'"),
        ("--prompt-column", "nope", "question"),
        ("--out", "README.md", "not an empty directory"),
    ],
)
def test_a_bad_option_is_named_with_what_would_be_right(score, option, value, reason):
    outcome = score(option, value)
    assert (outcome.code, outcome.out) == (2, "")
    assert value in outcome.said
    assert reason in outcome.said
    assert "Traceback" not in outcome.err
    assert RunStore.open().list() == []


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--model", "/no/such/model", "does not exist on this machine"),
        ("--device", "cuda:99", "torch"),
        ("--template", "chat", "no chat template"),
    ],
)
def test_a_run_that_cannot_start_fails_with_the_reason_and_exits_with_2(score, option, value, reason):
    outcome = score(option, value)
    assert (outcome.code, outcome.out) == (2, "")
    assert reason in outcome.said
    assert "Traceback" not in outcome.err
    assert only_run().state is RunState.FAILED
    assert only_run().error.type == "UserError"


def test_a_directory_that_holds_a_run_is_not_overwritten(score, tmp_path):
    assert score("--out", tmp_path / "run").code == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    outcome = score("--out", tmp_path / "run", "--seed", "1")
    assert outcome.code == 2
    assert "already holds a run" in outcome.said
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_the_paper_preset_is_the_published_setting_and_its_options_can_be_overridden(score, tmp_path):
    outcome = score("--preset", "paper", "--out", tmp_path / "run")
    assert outcome.code == 0
    summary = ScoreFiles(tmp_path / "run").read_summary()
    assert (summary["preset"], summary["mode"], summary["sigma"]) == ("paper", "plain", 1e-2)


def test_the_other_measures_stand_beside_the_scores_and_gradients_can_be_left_out(score, tmp_path):
    for wish in ("auto", "no"):
        assert score("--out", tmp_path / wish, "--gradient-norms", wish).code == 0
    files = [ScoreFiles(tmp_path / wish) for wish in ("auto", "no")]
    measured, without = (pd.read_parquet(one.measures) for one in files)
    scores = pd.read_parquet(files[0].scores)
    assert measured["sample_id"].tolist() == scores["sample_id"].tolist()
    np.testing.assert_allclose(measured["nll"], -scores["mean_log_prob_answer"], atol=1e-4)
    np.testing.assert_array_equal(measured["answer_tokens"], scores["n_tokens_answer"])
    assert (measured[list(GRADIENT_MEASURES)] > 0).all(axis=None)
    assert without[list(GRADIENT_MEASURES)].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        measured[["sample_id", *PLAIN_MEASURES]], without[["sample_id", *PLAIN_MEASURES]]
    )


# run


def test_a_copied_config_reproduces_the_scores_to_the_bit(score, cli, tmp_path):
    assert score("--out", tmp_path / "run", "--seed", "5").code == 0
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.json").write_bytes((tmp_path / "run" / "config.json").read_bytes())
    assert cli("run", again).code == 0
    for name in ("scores.parquet", "draws.parquet", "tokens.parquet", "measures.parquet"):
        frames = [pd.read_parquet(tmp_path / folder / name) for folder in ("run", "again")]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert len(RunStore.open().list()) == 2


def test_run_refuses_a_directory_without_a_config(cli, tmp_path):
    outcome = cli("run", tmp_path)
    assert outcome.code == 2
    assert "config.json" in outcome.said


# runs


def test_without_runs_the_list_says_how_to_begin(cli):
    assert "No runs yet" in cli("runs", "list").said


def test_a_finished_run_is_listed_shown_and_deleted_with_its_texts(score, cli, home):
    assert score().code == 0
    run = only_run()
    assert run.directory.is_relative_to(home)
    listed = cli("runs", "list").said
    assert run.id in listed
    assert "succeeded" in listed
    shown = cli("runs", "show", run.id).said
    assert f'"evaluations": {run.summary["evaluations"]}' in shown
    assert "precision gate: passed" in shown
    # It is at its end: no command would carry it on.
    assert "mrd-lens run" not in shown
    assert cli("runs", "delete", run.id, answer="n\n").code == 1
    assert run.directory.exists()
    assert cli("runs", "delete", run.id, "--yes").code == 0
    assert not run.directory.exists()
    assert RunStore.open().list() == []


def test_runs_are_renamed_tagged_noted_and_deleted_together(cli, tmp_path):
    store = RunStore.open()
    runs = []
    for name in "ab":
        directory = tmp_path / "home" / "runs" / name
        write_json(directory / "config.json", {"kind": "score", "forget_set": {"source": "demo"}})
        runs.append(store.create("score", "by its settings", "cpu", directory))
    first, second = runs
    assert "is called GA [x] for the paper." in cli("runs", "rename", first.id, " GA [x]  for the paper").said
    assert "has the tags paper, seed 1." in cli("runs", "tag", first.id, "paper", "seed 1", "paper").out
    assert "has a note." in cli("runs", "note", first.id, "look\nagain").out
    listed, shown = cli("runs", "list").said, cli("runs", "show", first.id).said
    assert all(word in listed for word in ("GA", "[x]", "(paper,", "seed"))
    assert all(text in shown for text in ("paper, seed 1", "look again"))
    cli("runs", "tag", first.id, "--remove", "paper")
    cli("runs", "note", first.id, "")
    cli("runs", "rename", first.id, "")
    again = store.get(first.id)
    assert (again.tags, again.note, again.title) == (("seed 1",), None, "Demo forget set on the demo model")
    for run in runs:
        store.request_cancel(run.id)
    assert cli("runs", "delete", "--yes", first.id, second.id).code == 0
    assert store.list() == []


@pytest.mark.parametrize("command", ["show", "cancel", "resume", "delete"])
def test_an_unknown_run_is_an_error(cli, command):
    outcome = cli("runs", command, "nobody")
    assert outcome.code == 2
    assert "There is no such run." in outcome.said


def test_a_running_run_is_cancelled_and_resumed(cli, tiny_model, tiny_forget_set):
    run = submitted(tiny_model, tiny_forget_set)
    working = threading.Thread(target=worker.run, args=(run.directory,))
    working.start()
    until(lambda: any(ScoreFiles(run.directory).units.glob("*.npz")), "it draws")
    assert f"{run.id} is cancelling." in cli("runs", "cancel", run.id).said
    working.join(PATIENCE)
    assert only_run().state is RunState.CANCELLED
    assert f"mrd-lens runs resume {run.id}" in cli("runs", "show", run.id).said
    assert cli("runs", "resume", run.id).code == 0
    assert (only_run().state, only_run().summary["evaluations"]) == (RunState.SUCCEEDED, 60)
    assert "only a run that ended early can be resumed" in cli("runs", "resume", run.id).said


def test_a_run_that_no_worker_took_up_goes_on_with_the_same_word(cli, tiny_model, tiny_forget_set):
    run, at_work = (submitted(tiny_model, tiny_forget_set) for _ in range(2))
    # As a worker leaves it that is killed before it takes the run up.
    assert cli("runs", "resume", run.id).code == 0
    assert (RunStore.open().get(run.id).state, RunStore.open().get(run.id).attempt) == (RunState.SUCCEEDED, 1)
    assert RunStore.open().claim(at_work, ProcessIdentity.current())
    refused = cli("runs", "resume", at_work.id)
    assert (refused.code, f"mrd-lens runs cancel {at_work.id}" in refused.said) == (2, True)


def submitted(model: Path, forget_set: Path) -> Run:
    """Return a queued run that will draw for about a second."""
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=str(forget_set)),
        model=ModelConfig(source=str(model)),
        estimator=EstimatorConfig(sigma=1e-2, draws=60, stop="never", batch_tokens=1, workers=1),
    )
    return submit(config, store=RunStore.open(), settings=Settings.from_environment())


def test_ctrl_c_cancels_a_run_and_its_helpers_without_a_traceback(tiny_model, tiny_forget_set):
    arguments = ("score", "--model", tiny_model, "--forget-set", tiny_forget_set, "--sigma", "1e-2")
    process = started(*arguments, "--stop", "never", "--draws", "6000", "--workers", "2")
    until(lambda: RunStore.open().list() and any(ScoreFiles(only_run().directory).units.glob("*.npz")), "it draws")
    # The terminal sends it to every process in the foreground.
    os.killpg(process.pid, signal.SIGINT)
    outcome = ended(process)
    assert outcome.code == 130
    assert f"runs resume {only_run().id}" in outcome.said
    assert "Traceback" not in outcome.err
    assert only_run().state is RunState.CANCELLED


# doctor, demo


def test_doctor_says_what_this_installation_runs_on_and_why(cli):
    outcome = cli("doctor")
    assert outcome.code == 0
    lines = {line.split("  ")[0].strip() for line in outcome.out.splitlines()}
    assert lines >= {"mrd-lens", "python", "torch", "device", "dtype", "workers", "threads", "home", "store"}
    # Whatever the width of the terminal, paths are there in full.
    assert "…" not in outcome.out


@pytest.mark.parametrize(("mode", "readers"), [(0o755, "everybody"), (0o750, "its group"), (0o700, "")])
def test_doctor_says_who_else_may_read_the_texts(cli, home, mode, readers):
    (home / "runs").mkdir(parents=True, exist_ok=True)
    for folder in (home, home / "runs"):
        folder.chmod(mode)
    found = " ".join(cli("doctor").out.split())
    assert (f"to {readers} close them: chmod -R go=" in found) is bool(readers)
    assert ("texts are open" in found) is bool(readers)


@pytest.fixture
def without_network(tmp_path: Path) -> dict[str, str]:
    """Environment of processes in which every connection but a local one raises, helping processes included."""
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    environment = {"PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    probe = "import socket; socket.create_connection(('127.0.0.1', 9))"
    refused = subprocess.run(
        [sys.executable, "-c", probe], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert "the network was touched" in refused.stderr
    return environment


@pytest.mark.parametrize("samples", [8, pytest.param(None, marks=pytest.mark.long)])
def test_the_demo_touches_no_network(samples, without_network, tmp_path):
    forget_set, whole = "demo", read(ForgetSetConfig(source="demo")).frame
    if samples:
        forget_set = tmp_path / "rows.csv"
        whole[["prompt", "answer"]].head(samples).to_csv(forget_set, index=False)
    outcome = ended(
        started("score", "--model", "demo", "--forget-set", forget_set, *QUICK, "--draws", 4, **without_network)
    )
    # Nor is anything printed where a script reads, not even by what is imported.
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    assert only_run().summary["n_samples"] == (samples or len(whole))


def test_the_demo_command_scores_the_demo_with_the_recommended_settings(cli):
    cancelling = threading.Thread(target=cancel_what_runs)
    cancelling.start()
    assert cli("demo").code == EXIT_CANCELLED
    cancelling.join()
    config = read_config(only_run().directory, ScoreConfig)
    assert config.forget_set == ForgetSetConfig(source="demo")
    assert (config.model, config.estimator) == (ModelConfig(), EstimatorConfig())


def cancel_what_runs() -> None:
    """Wait until a run is on, and cancel it."""
    store = RunStore.open()
    until(lambda: store.list(states=[RunState.RUNNING]), "it runs")
    store.request_cancel(only_run().id)
