"""Runs as jobs of a real Ray on the loopback interface: submitted, cancelled, shared by tasks, killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from mrd_core.runs import RunState
from mrd_core.runs.launchers import watch
from tests.support.cluster import free_port
from tests.support.jobs import FORGET_SET, ROWS, mrd_lens, score, scores, submitted, the_run, until, until_state

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.cold]
pytest.importorskip("ray", reason="ray is not installed: pip install -r requirements-ray.txt")

RAY = shutil.which("ray", path=Path(sys.executable).parent)
SHORT, SHARED, LONG = (f"--draws {count} --stop never" for count in (6, 240, 40000))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of this machine; its address."""
    # Sockets of Ray have long names, and those of Unix may have a hundred letters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        words = ["--head", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=3"]
        # The system gives ports above those that Ray keeps for its workers.
        dashboard = free_port()
        ports = [f"--port={free_port()}", f"--dashboard-port={dashboard}", "--disable-usage-stats"]
        begun = [RAY, "start", *words, *ports, f"--temp-dir={folder}", "--object-store-memory=100000000"]
        subprocess.run(begun, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            subprocess.run([RAY, "stop", "--force"], check=False, stdout=subprocess.DEVNULL)


@pytest.fixture(autouse=True)
def home(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that can reach the cluster, asked as often as the tests look."""
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setenv("MRD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(watch, "PAUSE", 0.5)
    (tmp_path / FORGET_SET).write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_job_of_ray_gives_the_scores_of_this_machine(tmp_path: Path) -> None:
    run = submitted("ray", SHORT)
    assert (run.launcher, run.job) == ("ray", f"mrd-{run.id}-1")
    assert f"Ray job {run.job}" in mrd_lens("runs", "show", run.id).stdout
    until_state(RunState.SUCCEEDED)
    assert score(SHORT, "--out", tmp_path / "here").returncode == 0
    pd.testing.assert_frame_equal(scores(run.directory), scores(tmp_path / "here"))


def test_a_task_and_the_worker_are_killed_in_mid_run_and_the_bits_are_the_same(tmp_path: Path) -> None:
    run = submitted("ray", SHARED, "--jobs", "2")

    def sharing() -> list[psutil.Process]:
        processes = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"]]
        return [p for p in processes if "share" in p.info["cmdline"] and str(run.directory) in p.info["cmdline"]]

    until(lambda: bool(sharing()) and any(run.directory.glob("units/*.npz")), "a task draws")
    sharing()[0].kill()
    until(lambda: bool(sharing()), "the task began anew")
    os.kill(the_run().pid, signal.SIGKILL)
    assert "failed with exit code 137." in until_state(RunState.LOST).error.cause
    assert mrd_lens("runs", "resume", run.id).returncode == 0
    assert until_state(RunState.SUCCEEDED).attempt == 2
    assert score(SHARED, "--out", tmp_path / "here").returncode == 0
    pd.testing.assert_frame_equal(scores(run.directory), scores(tmp_path / "here"))


def test_a_run_is_cancelled_on_its_node_and_a_stopped_job_is_told_as_such() -> None:
    run = submitted("ray", LONG)
    until(lambda: any(run.directory.glob("units/*.npz")), "units are drawn")
    subprocess.run([RAY, "job", "stop", run.job], check=True, stdout=subprocess.DEVNULL)
    until(lambda: the_run().error is not None, "the end of the job is told")
    ended = the_run()
    assert (ended.state, ended.error.type) == (RunState.INTERRUPTED, "Ray")
    assert mrd_lens("runs", "resume", run.id).returncode == 0
    until_state(RunState.RUNNING)
    mrd_lens("runs", "cancel", run.id)
    assert until_state(RunState.CANCELLED).attempt == 2


def test_the_doctor_asks_each_node() -> None:
    said = mrd_lens("doctor", "--nodes").stdout
    (row,) = (line for line in said.splitlines() if line.startswith("node "))
    assert "works" in row


def test_what_ray_has_not_got_is_refused() -> None:
    done = score(SHORT, "--launcher", "ray", "--partition", "main")
    assert done.returncode == 2
    assert "--partition is for Slurm" in " ".join(done.stderr.split())


def test_a_cluster_that_is_not_there_is_said_with_the_way_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    done = score(SHORT, "--launcher", "ray")
    assert done.returncode == 2
    assert "finds no cluster at http://127.0.0.1:1" in " ".join(done.stderr.split())
    assert "--dashboard-host=127.0.0.1" in done.stderr
