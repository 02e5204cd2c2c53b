"""Runs as jobs of a real Slurm: submitted, cancelled, out of time, preempted, on a drained node, shared out."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrd_core.runs import RunState
from mrd_core.runs.launchers import watch
from tests.support.cluster import Cluster, running
from tests.support.jobs import (
    FORGET_SET,
    ROWS,
    mrd_lens,
    score,
    scores,
    store,
    submitted,
    the_run,
    until,
    until_drawn,
    until_state,
)

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.cold]
pytest.importorskip("submitit", reason="submitit is not installed: pip install -r requirements-slurm.txt")

SHORT, SHARED, LONG = (f"--draws {count} --stop never" for count in (6, 120, 40000))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Slurm; skipped with the reason where there is none."""
    with tempfile.TemporaryDirectory(prefix="mrd-slurm-") as folder, running(Path(folder)) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def home(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation that can reach the cluster, asked as often as the tests look."""
    for name, value in cluster.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(watch, "PAUSE", 0.2)
    (tmp_path / FORGET_SET).write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "home"
    cluster.clear()


def released(cluster: Cluster, job: str) -> None:
    """Let a job that was put back into the queue start at once: Slurm holds it for two minutes."""
    cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")


def test_a_job_of_slurm_gives_the_scores_of_this_machine(cluster: Cluster, tmp_path: Path) -> None:
    run = submitted("slurm", SHORT)
    assert (run.launcher, cluster.state(run.job) in ("PENDING", "RUNNING")) == ("slurm", True)
    assert f"Slurm job {run.job}" in mrd_lens("runs", "show", run.id).stdout
    until_state(RunState.SUCCEEDED)
    # The check that follows ran in the same job.
    assert score(SHORT, "--out", tmp_path / "here").returncode == 0
    pd.testing.assert_frame_equal(scores(run.directory), scores(tmp_path / "here"))
    assert np.isfinite(scores(run.directory)["mrd"]).all()
    # What submitit pickles is for its owner alone.
    assert all(not path.stat().st_mode & 0o077 for path in (run.directory / "jobs").iterdir())


def test_a_job_that_waits_is_cancelled_where_it_waits(cluster: Cluster) -> None:
    cluster.ask("scontrol", "update", f"NodeName={cluster.host}", "State=DRAIN", "Reason=tests")
    run = submitted("slurm", SHORT)
    until(lambda: "Slurm job" in mrd_lens("runs", "show", run.id).stdout, "the job is shown")
    # Longer than a local worker is waited for, it is not lost.
    until(lambda: "DRAIN" in mrd_lens("runs", "show", run.id).stdout.upper(), "why it waits is shown")
    assert the_run().state is RunState.QUEUED
    assert "cancelled" in mrd_lens("runs", "cancel", run.id).stdout
    until(lambda: cluster.state(run.job) in ("CANCELLED", ""), "Slurm has cancelled it")


def test_a_run_is_cancelled_on_its_node(cluster: Cluster) -> None:
    run = submitted("slurm", LONG)
    until_drawn()
    mrd_lens("runs", "cancel", run.id)
    assert until_state(RunState.CANCELLED).error is None
    until(lambda: cluster.state(run.job) not in ("RUNNING", "COMPLETING"), "the job has ended")


def test_scancel_is_told_as_such_and_the_run_goes_on_here_or_there(cluster: Cluster) -> None:
    run = submitted("slurm", LONG)
    until_drawn()
    cluster.ask("scancel", run.job)
    until(lambda: the_run().error is not None, "the end of the job is told")
    ended = the_run()
    assert (ended.state, ended.error.type) == (RunState.INTERRUPTED, "Slurm")
    assert f"Slurm job {run.job} was cancelled" in ended.error.cause
    drawn = len(list(run.directory.glob("units/*.npz")))
    again = mrd_lens("runs", "resume", run.id)
    assert again.returncode == 0, again.stderr
    assert the_run().job not in (None, run.job)
    until_drawn(drawn + 1)


def test_a_job_out_of_time_stops_at_a_checkpoint_and_goes_on(cluster: Cluster) -> None:
    run = submitted("slurm", LONG, "--minutes", "2")
    until_drawn()
    until(lambda: cluster.state(run.job) == "PENDING" and the_run().attempt == 2, "it waits again")
    waiting = the_run()
    assert (waiting.state, waiting.job) == (RunState.QUEUED, run.job)
    refused = mrd_lens("runs", "resume", run.id)
    assert refused.returncode == 0
    assert "takes it up" in refused.stderr or f"slurm job {run.job}" in refused.stderr
    drawn = len(list(run.directory.glob("units/*.npz")))
    released(cluster, run.job)
    until_drawn(drawn + 1)
    assert until_state(RunState.RUNNING).attempt == 2


def test_a_preempted_run_waits_and_goes_on_with_the_same_bits(cluster: Cluster, tmp_path: Path) -> None:
    run = submitted("slurm", SHARED)
    until_drawn()
    urgent = ("srun", "--partition=urgent", f"--ntasks={os.cpu_count()}", "sleep", "2")
    with subprocess.Popen(urgent, stderr=subprocess.DEVNULL):
        until(lambda: the_run().attempt == 2, "the run was preempted and waits again")
    events = list(store().events(run.id)["message"])
    assert f"Slurm job {run.job} waits in the queue again." in events
    released(cluster, run.job)
    until_state(RunState.SUCCEEDED)
    assert score(SHARED, "--out", tmp_path / "here").returncode == 0
    pd.testing.assert_frame_equal(scores(run.directory), scores(tmp_path / "here"))


def test_a_worker_that_is_killed_in_its_job_is_lost_and_can_be_resumed() -> None:
    run = submitted("slurm", LONG)
    until_drawn()
    os.kill(the_run().pid, signal.SIGKILL)
    lost = until_state(RunState.LOST)
    assert "Exited with exit code 137" in lost.error.cause
    assert mrd_lens("runs", "resume", run.id, "--minutes", "20", "--launcher", "slurm").returncode == 0
    assert until_state(RunState.RUNNING).attempt == 2


def test_several_jobs_share_one_score_run(cluster: Cluster, tmp_path: Path) -> None:
    run = submitted("slurm", SHARED, "--jobs", "2")
    until_state(RunState.SUCCEEDED)
    assert (run.directory / "jobs" / "share-1.log").exists()
    until(lambda: cluster.state(run.job) not in ("RUNNING", "PENDING", "COMPLETING"), "all jobs have ended")
    assert score(SHARED, "--out", tmp_path / "here").returncode == 0
    pd.testing.assert_frame_equal(scores(run.directory), scores(tmp_path / "here"))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--partition", "nowhere"), "invalid partition"),
        (("--sbatch", "constraint=nothing"), "Invalid feature"),
        (("--gpus", "8"), "Invalid generic resource"),
    ],
)
def test_what_slurm_refuses_is_said_and_leaves_nothing(home: Path, words: tuple[str, ...], what: str) -> None:
    done = score(SHORT, "--launcher", "slurm", *words)
    assert done.returncode == 2
    assert what.lower() in " ".join(done.stderr.split()).lower()
    assert store().list() == []
    assert not list((home / "runs").iterdir())


def test_jobs_are_for_what_can_be_shared(tmp_path: Path) -> None:
    assert score(SHORT, "--out", tmp_path / "scored").returncode == 0
    done = mrd_lens("characteristics", tmp_path / "scored", "--launcher", "slurm", "--jobs", "2")
    assert done.returncode == 2
    assert "characteristics, which one job carries out" in " ".join(done.stderr.split())


def test_the_doctor_asks_each_node(cluster: Cluster) -> None:
    said = mrd_lens("doctor", "--nodes").stdout
    row = next(line for line in said.splitlines() if line.startswith(f"node {cluster.host}"))
    assert "works" in row
    cluster.ask("scontrol", "update", f"NodeName={cluster.host}", "State=DRAIN", "Reason=tests")
    assert "could not be asked" in " ".join(mrd_lens("doctor", "--nodes").stdout.split())
