"""Where runs start that are launched in the browser."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mrd_core.runs.launchers import watch
from mrd_core.runs.launchers.config import read_launch
from tests.app.conftest import Home, sound, texts
from tests.unit.test_launchers import Programs

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -r requirements-slurm.txt")
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(watch, "_watches", {})
    return Programs(folder)


def test_without_a_scheduler_there_is_nothing_to_choose(
    app: Open, finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    test = app(finished.path, "unlearning", run=finished.run.id)
    assert not [box for box in test.selectbox if box.label == "Runs start on"]


def test_slurm_is_given_a_run_with_what_was_chosen(app: Open, own: Home, slurm: Programs) -> None:
    slurm.answer("sbatch", "Submitted batch job 17\n")
    slurm.answer("squeue", "17|PENDING|Resources|\n")
    test = app(own.path, "unlearning", run=own.run.id)
    next(box for box in test.selectbox if box.label == "Runs start on").select("slurm").run()
    next(box for box in test.text_input if box.label == "Partition").input("gpu").run()
    next(box for box in test.number_input if box.label == "GPUs").set_value(2).run()
    further = next(box for box in test.text_input if box.label == "Further options of sbatch")
    further.input("constraint=h100, qos=long").run()
    assert "--launcher slurm --gpus 2 --partition gpu --sbatch constraint=h100,qos=long" in " ".join(
        code.value for code in test.code
    )
    next(each for each in test.button if each.label in ("Launch", "Unlearn", "Run")).click().run()
    sound(test)
    (run,) = own.store.list(kinds=("unlearn",))
    assert (run.launcher, run.job) == ("slurm", "17")
    assert (read_launch(run.directory).gpus, read_launch(run.directory).partition) == (2, "gpu")
    assert "sbatch" in slurm.asked("sbatch")[0]


@pytest.mark.usefixtures("slurm")
def test_a_refusal_of_slurm_is_a_card_and_leaves_no_run(app: Open, own: Home) -> None:
    test = app(own.path, "unlearning", run=own.run.id)
    next(box for box in test.selectbox if box.label == "Runs start on").select("slurm").run()
    next(each for each in test.button if each.label in ("Launch", "Unlearn", "Run")).click().run()
    sound(test)
    assert "Slurm refused the job" in texts(test)
    assert own.store.list(kinds=("unlearn",)) == []
