"""Several processes on one unlearning run, by the front door: its bits are those of one, and none outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from mrd_core.errors import UserError
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.model.processes import device_of
from mrd_core.runs import Run, RunState, RunStore, submit
from mrd_core.runs.team import LEFT, Followers, Seat
from mrd_core.samples import ForgetSet, save_stratum
from mrd_core.settings.command import ROOT
from mrd_core.settings.installation import Settings
from mrd_core.unlearning.files import UnlearningFiles
from tests.conftest import REPOSITORY
from tests.support.commands import PATIENCE, Outcome, ended, started
from tests.support.unlearning_runs import Scored, scored_tiny

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]

DEMO = ROOT / "mrd_core" / "demo" / "dossier" / "demo-score"
EXACT = ("--dtype", "float64", "--device", "cpu", "--micro-batch", "2", "--answers", "2")
# Enough for somebody to come in between.
LONG = ("--learning-rate", "1e-5", "--max-steps", "100", "--checkpoint-steps", "1", "--accuracy", "0.01")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture
def command(scored: Scored) -> tuple[Any, ...]:
    return ("unlearn", "--scores", scored.directory, "--retain-set", scored.retain, *EXACT, *LONG)


def bits(directory: Path) -> tuple[bytes, bytes]:
    """Return the model and the order of an unlearning run that is done."""
    files = UnlearningFiles(directory)
    assert files.is_finished
    return (files.model / "model.safetensors").read_bytes(), files.steps.read_bytes()


def until(holds: Callable[[], Any]) -> Any:
    """Wait until something is so, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (value := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def steps_in(directory: Path) -> int:
    files = UnlearningFiles(directory)
    return len(files.read_steps()) if files.steps.exists() else 0


def begun(command: tuple[Any, ...], directory: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a run of two processes, and return its worker and the other one some steps later."""
    worker = started(*command, "--processes", "2", "--out", directory)
    until(lambda: steps_in(directory) > 5)
    (follower,) = psutil.Process(worker.pid).children()
    return worker, follower


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def only_run() -> Run:
    (run,) = RunStore.open().list()
    return run


@pytest.mark.long
def test_two_processes_unlearn_the_demos_model_to_the_bits_of_one(cli: Any, tmp_path: Path) -> None:
    demo = ForgetSet.load(DEMO / "samples.parquet")
    few = save_stratum(demo, list(demo.frame["sample_id"][:6]), "few", tmp_path)
    command = ("unlearn", "--scores", DEMO, "--stratum", few, "--retain-set", "demo", "--max-steps", 4, *EXACT)
    for count in (1, 2):
        outcome = cli(*command, "--processes", count, "--evaluate-every", 2, "--out", tmp_path / str(count))
        assert outcome.code == 0, outcome.err
    assert bits(tmp_path / "2") == bits(tmp_path / "1")
    assert steps_in(tmp_path / "1") == 4
    first, second = (UnlearningFiles(tmp_path / str(count)).read_evaluations() for count in (1, 2))
    assert [line | {"seconds": 0} for line in first] == [line | {"seconds": 0} for line in second]
    assert len(first) == 3


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_processes_to_the_same_bits(
    cli: Any, command: tuple[Any, ...], tmp_path: Path
) -> None:
    assert cli(*command, "--out", tmp_path / "whole").code == 0
    worker, follower = begun(command, tmp_path / "run")
    worker.send_signal(signal.SIGTERM)
    assert ended(worker).code == 143
    until(lambda: is_gone(follower))
    at = steps_in(tmp_path / "run")
    assert 5 < at < 100
    run = RunStore.open().find_by_directory(tmp_path / "run")
    assert run is not None
    assert run.state is RunState.INTERRUPTED
    outcome = cli("runs", "resume", run.id, "--processes", 3)
    os.environ.pop("MRD_PROCESSES", None)
    assert outcome.code == 0, outcome.err
    assert f"Goes on after step {at}." in outcome.said
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


@pytest.mark.long
def test_a_run_whose_second_process_dies_fails_and_says_so_and_can_go_on(
    cli: Any, command: tuple[Any, ...], tmp_path: Path
) -> None:
    worker, follower = begun(command, tmp_path / "run")
    follower.kill()
    outcome = ended(worker)
    assert outcome.code == 2
    assert "Process 1 of the 2 that work on this run (from 0 on) is gone: signal 9 ended it." in outcome.said
    assert "resume the run" in outcome.said
    assert only_run().state is RunState.FAILED
    assert cli("runs", "resume", only_run().id, "--processes", 1).code == 0
    os.environ.pop("MRD_PROCESSES", None)
    assert cli(*command, "--out", tmp_path / "whole").code == 0
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


@pytest.mark.long
def test_no_process_outlives_a_worker_that_is_killed(command: tuple[Any, ...], tmp_path: Path) -> None:
    worker, follower = begun(command, tmp_path / "run")
    worker.kill()
    ended(worker)
    until(lambda: is_gone(follower))
    assert not (UnlearningFiles(tmp_path / "run").summary).exists()


@pytest.mark.long
def test_torchrun_starts_a_run_too(scored: Scored, tmp_path: Path, cli: Any) -> None:
    settings = Settings.from_environment()
    config = scored.config(
        retain=scored.kept, method="graddiff", optimiser={"learning_rate": 1e-3, "micro_batch": 2}, answers=2
    )
    run = submit(config, store=RunStore.open(settings), settings=settings, directory=tmp_path / "run")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "cli", "run", str(run.directory)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert only_run().state is RunState.SUCCEEDED
    alone = submit(config, store=RunStore.open(settings), settings=settings, directory=tmp_path / "alone")
    assert cli("run", alone.directory).code == 0
    assert bits(run.directory) == bits(alone.directory)


@pytest.mark.long
def test_a_process_that_cannot_begin_fails_the_run_before_the_first_step(
    command: tuple[Any, ...], tmp_path: Path, scored: Scored
) -> None:
    # The second process loads the model when the first has measured it.
    moved = tmp_path / "model"
    subprocess.run(["cp", "-r", scored.model, moved], check=True)
    worker = started(*command, "--model", moved, "--processes", "2", "--out", tmp_path / "run")
    until((tmp_path / "run" / "start.json").exists)
    (moved / "config.json").unlink()
    outcome: Outcome = ended(worker)
    assert outcome.code == 2
    assert "Process 1 of the 2" in outcome.said
    assert "it ended with code 2" in outcome.said


@pytest.mark.long
def test_two_processes_find_the_values_and_the_texts_of_one(cli: Any, scored: Scored, tmp_path: Path) -> None:
    sets = ("--forget-set", scored.forget, "--retain-set", scored.retain, "--held-out-set", "demo")
    # So small that a set is many batches.
    how = ("--extraction-likelihood", "--max-new-tokens", 8, "--batch-tokens", 16, "--limit", 7, "--device", "cpu")
    for count in (1, 2):
        out = tmp_path / str(count)
        outcome = cli("evaluate", "--model", scored.model, *sets, *how, "--processes", count, "--out", out)
        assert outcome.code == 0, outcome.err
    one, two = (EvaluationFiles(tmp_path / str(count)) for count in (1, 2))
    values = pd.read_parquet(one.values)
    assert values["value"].notna().sum() > 100
    pd.testing.assert_frame_equal(values, pd.read_parquet(two.values), check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(one.answers), pd.read_parquet(two.answers), check_exact=True)


def test_the_environment_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Seat.own(3) == Seat(0, 3)
    monkeypatch.setenv("MRD_PROCESSES", "2")
    assert Seat.own(3) == Seat(0, 2)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    # As a scheduler says of every single process.
    assert Seat.own(3) == Seat(0, 2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Seat.own(3) == Seat(3, 4, 1, started=True)
    assert not Seat.own().leads


@pytest.mark.parametrize(
    ("gpus", "seat", "wanted", "device"),
    [
        (0, Seat(0, 2), "auto", "cpu"),
        (2, Seat(0, 2), "cpu", "cpu"),
        (2, Seat(0, 2), "auto", "cuda:0"),
        (2, Seat(1, 2, 1, started=True), "cuda", "cuda:1"),
        # On the second of two machines.
        (2, Seat(3, 4, 1, started=True), "auto", "cuda:1"),
        (2, Seat(), "cuda:1", "cuda:1"),
        (2, Seat(0, 3), "auto", "takes a GPU for each, and torch sees 2"),
        (2, Seat(0, 2), "cuda:1", "is one, and 2 processes take one each"),
    ],
)
def test_each_process_has_a_gpu_of_its_own(
    gpus: int, seat: Seat, wanted: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    try:
        found = device_of(seat, wanted)
    except UserError as error:
        found = error.why
    # Without a GPU the model's own choice is the CPU.
    assert device.removesuffix("cpu") in found if gpus else found == "auto"


def test_of_several_that_ended_the_one_that_began_is_named() -> None:
    class Ended(Followers):
        def __init__(self, *codes: int | None) -> None:
            # Processes that end so.
            self._processes = [
                subprocess.Popen([sys.executable, "-c", f"import os; os._exit({code})"]) for code in codes
            ]
            for process in self._processes:
                process.wait()

    with pytest.raises(UserError, match="Process 2 of the 3"):
        Ended(LEFT, 1).require()
    with pytest.raises(UserError, match="Process 1 of the 3"):
        Ended(LEFT, LEFT).require()
    Ended(0, 0).require()
