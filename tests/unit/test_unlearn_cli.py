"""`mrd-lens unlearn`, by its front door."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mrd_core.runs import Run, RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.trainer import Trainer
from tests.support.commands import Outcome, ended, started
from tests.support.unlearning_runs import DRAWS, N_FORGET, Scored, scored_tiny

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]

PROMISED = {
    "updates",
    "forgotten",
    "n_samples",
    "forget_nll",
    "retain_nll",
    "seconds",
    "mrd_forward_evaluations",
    "stop_reason",
}
FEW = ("--max-steps", "3", "--learning-rate", "2e-3", "--device", "cpu", "--answers", "2")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def unlearn(scored: Scored, cli: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Return a function that runs `unlearn` on the tiny score run; later options win."""
    return lambda *options: cli("unlearn", "--scores", scored.directory, *FEW, *options)


def only_run() -> Run:
    (run,) = RunStore.open().list()
    return run


@pytest.mark.cold
def test_unlearn_ends_with_one_line_of_json_and_leaves_the_model(scored: Scored, tmp_path: Path) -> None:
    options = [
        "--method",
        "graddiff",
        "--sampler",
        "mrd",
        "--retain-set",
        scored.retain,
        "--out",
        tmp_path / "run",
    ]
    command = ["unlearn", "--model", scored.model, "--scores", scored.directory, *options, *FEW, "--json"]
    outcome = ended(started(*command))
    assert outcome.code == 0, outcome.err
    (line,) = outcome.out.splitlines()
    summary = json.loads(line)
    assert set(summary) >= PROMISED
    assert (summary["n_samples"], summary["updates"], summary["steps"]) == (N_FORGET, 12, 3)
    assert (summary["mrd_forward_evaluations"], summary["stop_reason"]) == (DRAWS, "max-steps")
    assert summary["forget_nll"] > summary["forget_nll_before"]
    assert summary == UnlearningFiles(tmp_path / "run").read_summary()
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert "Traceback" not in outcome.err


def test_without_json_it_prints_nothing_to_stdout_and_says_where_the_model_is(unlearn: Any, home: Path) -> None:
    outcome = unlearn("--method", "ga")
    assert (outcome.code, outcome.out) == (0, "")
    run = only_run()
    assert run.directory.is_relative_to(home)
    assert str(run.directory / "model") in outcome.err.replace("\n", "")
    assert f"of {N_FORGET} samples found forgotten in 12 updates" in outcome.said
    # The model of the score run, where none is named.
    assert (run.summary or {})["retain_nll"] is None


def test_a_score_run_can_be_named_by_its_id_and_the_run_be_shown_listed_and_deleted(
    cli: Any, scored: Scored
) -> None:
    # A score run of another data root is registered here first.
    store = RunStore.open()
    registered = store.create("score", "Scored elsewhere", "cpu", scored.directory)
    # Else it would be next in the queue.
    for source, to in pairwise((RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.SUCCEEDED)):
        assert store.transition(registered.id, to, expected=source)
    assert cli("unlearn", "--scores", registered.id, *FEW, "--method", "ga").code == 0
    (run,) = (run for run in store.list() if run.kind == "unlearn")
    assert read_config(run.directory, UnlearnConfig).score_run == scored.directory
    assert "0 of 10" in cli("runs", "list").said
    assert '"stop_reason": "max-steps"' in cli("runs", "show", run.id).said
    rows = [json.loads(line) for line in cli("curriculum", "--run", run.id).out.splitlines()]
    drawn = [sample for step in UnlearningFiles(run.directory).read_steps() for sample in step["forget"]]
    assert [row["sample_id"] for row in rows] == drawn
    assert cli("runs", "delete", run.id, "--yes").code == 0
    assert not run.directory.exists()
    assert scored.directory.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--method", "npo"), "needs a retain set"),
        (("--method", "magic"), "--method magic"),
        (("--method", "ga", "--sampler", "random"), "There is no such sampler"),
        (("--method", "ga", "--learning-rate", "0"), "greater than 0"),
        (("--method", "ga", "--max-steps", "none"), "--max-steps none"),
        (("--method", "ga", "--column", "nope"), "The column 'nope'"),
        (("--method", "ga", "--parameter", "beta=1"), "The parameter beta"),
        (("--method", "wga", "--parameter", "beta=lots"), "The parameter beta=lots"),
        (("--method", "ga", "--threshold-source", "held-out"), "need `held_out`"),
        (("--method", "ga", "--report-to", "paper"), "--report-to paper"),
        (("--method", "ga", "--seed", "-1"), "--seed -1"),
        (("--method", "ga", "--out", "README.md"), "not an empty directory"),
        (("--method", "ga", "--stratum", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--method", "ga", "--retain-set", "/no/such/file.csv"), "/no/such/file.csv"),
        (("--method", "ga", "--retain-set", "demo", "--retain-weight", "-1"), "--retain-weight -1"),
        (("--method", "ga", "--sampler", "mrd", "--column", "perplexity"), "use the sampler `column`"),
        (("--method", "ga", "--recompute-epochs", "1"), "has anything to measure anew"),
        (("--method", "ga", "--min-retain-accuracy", "0.5"), "A utility guard watches the retain set"),
        (("--method", "ga", "--spread", "--processes", "2"), "by a single process"),
        (("--method", "ga", "--processes", "0"), "--processes 0"),
    ],
    ids=str,
)
def test_a_bad_option_is_an_error_without_a_traceback_and_without_a_run(
    unlearn: Any, options: tuple[str, ...], reason: str
) -> None:
    outcome = unlearn(*options)
    assert (outcome.code, outcome.out) == (2, "")
    assert reason in outcome.said
    assert "Traceback" not in outcome.err
    assert RunStore.open().list() == []


@pytest.mark.parametrize("scores", ["no-such-run", "/"])
def test_scores_that_are_no_score_run_are_refused(cli: Any, scores: str) -> None:
    outcome = cli("unlearn", "--scores", scores, *FEW)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--model", "/no/such/model"), 2, "does not exist on this machine"),
        (("--learning-rate", "1e14"), 2, "is not a finite number"),
    ],
)
def test_a_run_that_fails_says_why_and_exits_so(
    unlearn: Any, options: tuple[str, ...], code: int, reason: str
) -> None:
    outcome = unlearn("--method", "ga", *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert reason in outcome.said
    assert "Traceback" not in outcome.err
    assert only_run().state is RunState.FAILED


def test_a_planned_curriculum_goes_to_stdout_or_into_a_file(cli: Any, scored: Scored, tmp_path: Path) -> None:
    command = ("curriculum", "--scores", scored.directory, "--column", "mrd_answer_sum", "--seed", "3")
    shown = cli(*command)
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert [row["position"] for row in rows] == list(range(1, N_FORGET + 1))
    assert all(list(row) == ["position", "sample_id", "weight", "share"] for row in rows)
    written = cli(*command, "--out", tmp_path / "order.jsonl")
    assert (written.code, written.out) == (0, "")
    assert (tmp_path / "order.jsonl").read_text() == shown.out
    assert cli(*command[:-1], "4").out != shown.out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "Name it with either --run or --scores"),
        (("--run", "SCORES", "--scores", "SCORES"), "Name it with either --run or --scores"),
        (("--run", "SCORES"), "It is a score run"),
        (("--scores", "SCORES", "--sampler", "random"), "There is no such sampler"),
        (("--scores", "SCORES", "--column", "nope"), "use the sampler `column`"),
        (("--scores", "SCORES", "--sampler", "column", "--column", "nope"), "The column 'nope'"),
        (("--scores", "SCORES", "--seed", "-1"), "--seed -1"),
        (("--scores", "SCORES", "--out", "/no/such/folder/order.jsonl"), "cannot be written"),
        (("--scores", "no-such-run"), "no-such-run"),
    ],
    ids=str,
)
def test_a_curriculum_that_cannot_be_had_is_an_error_without_a_traceback(
    cli: Any, scored: Scored, options: tuple[str, ...], reason: str
) -> None:
    outcome = cli("curriculum", *(str(scored.directory) if word == "SCORES" else word for word in options))
    assert (outcome.code, outcome.out) == (2, "")
    assert reason in outcome.said
    assert "Traceback" not in outcome.err


def test_ctrl_c_cancels_a_run_and_resume_ends_it(unlearn: Any, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def step_of(self: Trainer, *arguments: Any, **named: Any) -> Any:
        if self.steps == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments, **named)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(Trainer, "step", step_of)
    outcome = unlearn("--method", "ga")
    assert outcome.code == 130
    assert f"runs resume {only_run().id}" in outcome.said
    assert only_run().state is RunState.CANCELLED
    monkeypatch.setattr(Trainer, "step", step)
    assert cli("runs", "resume", only_run().id).code == 0
    assert (only_run().summary or {})["steps"] == 3
