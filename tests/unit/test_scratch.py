"""Checkpoints on another disk than that of the runs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.runs import RunState, RunStore
from mrd_core.runs.scratch import lend
from mrd_core.unlearning.files import UnlearningFiles
from tests.support.commands import Outcome, ended, started
from tests.support.runs import until
from tests.support.unlearning_runs import scored_tiny


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_an_interrupted_run_leaves_its_checkpoints_there_and_a_deleted_one_nothing(
    cli: Callable[..., Outcome], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scored, scratch, out = scored_tiny(tmp_path_factory.getbasetemp()), tmp_path / "scratch", tmp_path / "run"
    options = "--method ga --device cpu --answers 0 --learning-rate 1e-9 --checkpoint-steps 1 --max-steps 100000"
    worker = started(
        "unlearn", "--scores", scored.directory, *options.split(), "--out", out, MRD_SCRATCH=str(scratch)
    )
    until(lambda: any(scratch.glob("mrd-lens-run-*/checkpoint-*")), "a checkpoint lies on the scratch disk")
    worker.send_signal(signal.SIGTERM)
    assert ended(worker).code == 143
    assert (out / "checkpoints").is_symlink()
    # Goes on from there, whatever the variable says by then.
    worker = started("run", out, MRD_SCRATCH="")
    assert "not queued" in ended(worker).said
    (run,) = RunStore.open().list(kinds=("unlearn",))
    worker = started("runs", "resume", run.id)
    until(lambda: RunStore.open().get(run.id).state is RunState.RUNNING, "it goes on")
    until(lambda: "Goes on after step" in " ".join(RunStore.open().events(run.id)["message"]), "from a checkpoint")
    worker.send_signal(signal.SIGTERM)
    ended(worker)
    assert cli("runs", "delete", run.id, "--yes").code == 0
    assert not out.exists()
    assert list(scratch.iterdir()) == []


def test_what_lay_on_the_disk_of_another_machine_is_said_and_begun_anew(tmp_path: Path) -> None:
    files = UnlearningFiles(tmp_path / "run")
    files.directory.mkdir()
    assert lend(files, tmp_path / "scratch") == []
    there = files.checkpoints.readlink()
    (files.checkpoints / "checkpoint-1").mkdir()
    assert lend(files, tmp_path / "scratch") == []
    assert files.checkpoints.readlink() == there
    shutil.rmtree(there)
    assert lend(files, None) == [f"checkpoints of the earlier attempt is not there: {there}."]
    assert not files.checkpoints.is_symlink()


def test_a_link_of_somebody_elses_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    files = UnlearningFiles(tmp_path / "run")
    files.directory.mkdir()
    (tmp_path / "mine").mkdir()
    files.checkpoints.symlink_to(tmp_path / "mine")
    files.remove_scaffolding()
    assert not files.checkpoints.is_symlink()
    assert (tmp_path / "mine").is_dir()


def test_a_scratch_disk_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    files = UnlearningFiles(tmp_path / "run")
    files.directory.mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="MRD_SCRATCH="):
        lend(files, tmp_path / "file" / "scratch")
    assert os.listdir(files.directory) == []  # noqa: PTH208
