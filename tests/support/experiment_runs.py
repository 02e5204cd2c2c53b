"""Experiments on a tiny model that knows its samples by heart, from scores that are already there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.experiments.config import UnlearningExperimentConfig
from mrd_core.experiments.experiment import Material
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.job import experiment_job
from mrd_core.runs import JobContext
from mrd_core.runs.files import write_json
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from tests.support.commands import PATIENCE, started
from tests.support.unlearning_runs import Scored

# What the run keeps of its score run.
SCORED = {
    "sigma": 1e-3,
    "evaluations": 8,
    "seconds": 1.0,
    "tokens": 100,
    "model_parameters": 1000,
    "title": "tiny",
}


class Quiet(JobContext):
    """A context that collects its warnings."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.warnings: list[str] = []

    def event(self, level: str, message: str) -> None:  # noqa: ARG002
        """Keep the message."""
        self.warnings.append(message)


def config(kind: type[UnlearningExperimentConfig], scored: Scored, **changes: Any) -> Any:
    """Return a configuration of this kind for the tiny model in double precision."""
    settings: dict[str, Any] = {
        "forget_set": {"source": str(scored.forget)},
        "model": {"source": str(scored.model), "device": "cpu", "dtype": "float64"},
        "retain": {"source": str(scored.retain)},
        "methods": ("ga",),
        "learning_rate": 2e-3,
        "max_updates": 30,
    }
    return kind.model_validate(settings | changes)


def material(scored: Scored, *, retain: bool = True) -> Material:
    """Return what an experiment on the tiny model works on; its difficulties are made up."""
    forget_set = read(ForgetSetConfig(source=str(scored.forget)))
    return Material(
        forget_set=forget_set,
        scores=_scores(list(forget_set.frame["sample_id"])).set_index("sample_id", drop=False),
        retain_set=read(ForgetSetConfig(source=str(scored.retain))) if retain else None,
        sigma=1e-3,
    )


def directory_of(place: Path, scored: Scored) -> ExperimentFiles:
    """Make the directory of an experiment whose forget set is scored."""
    place.mkdir()
    files = ExperimentFiles(place)
    forget_set = read(ForgetSetConfig(source=str(scored.forget)))
    forget_set.save(files.samples)
    scores = _scores(list(forget_set.frame["sample_id"]))
    scores.to_parquet(files.scores)
    scores[["sample_id"]].to_parquet(files.measures)
    write_json(files.scored, SCORED)
    return files


def run(wanted: UnlearningExperimentConfig, files: ExperimentFiles) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Carry an experiment out and return its rows and its summary."""
    summary = experiment_job(wanted, Quiet(files.directory))
    return files.read_rows(), summary


def halved(files: ExperimentFiles, to: Path) -> ExperimentFiles:
    """Copy an experiment as a kill would have left it: half of its log, the last line of it cut short."""
    shutil.copytree(files.directory, to)
    copy = ExperimentFiles(to)
    copy.rows.unlink()
    copy.summary.unlink()
    lines = copy.units.read_text().splitlines(keepends=True)
    middle = len(lines) // 2
    copy.units.write_text("".join(lines[:middle]) + lines[middle][:20])
    return copy


def units_of(files: ExperimentFiles) -> list[str]:
    """Return the units in the order in which they were done."""
    return [json.loads(line)["unit"] for line in files.units.read_text().splitlines()]


def _scores(sample_ids: Sequence[str]) -> pd.DataFrame:
    difficulty = np.random.default_rng(0).permutation(len(sample_ids)) / len(sample_ids)
    return pd.DataFrame({"sample_id": sample_ids, "mrd_answer_mean": difficulty})


def killed_after(files: ExperimentFiles, units: int, *words: object) -> None:
    """Start a command that carries an experiment out, and kill it with -9 once so many units are finished."""
    process = started(*words)
    deadline = time.monotonic() + PATIENCE
    while len(files.finished_units()) < units:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert not files.summary.exists()
