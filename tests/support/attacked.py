"""A durability experiment on an unlearning run, as if it had been carried out: what came back is planted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import COURSE, KEPT, START, DurabilityConfig, base, prepare
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.files import write_json
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.request import scored_by


def write_attacked(
    directory: Path, run: Path, ends: Mapping[str, Mapping[str, tuple[float, float]]], reference: str | None = None
) -> Path:
    """Write a finished durability experiment with two looks.

    Args:
        directory: A new one.
        run: The unlearning run.
        ends: By attack, MA of each sample before and after.
        reference: A model, whose rows are left out.
    """
    directory.mkdir(parents=True)
    files, score_run = ExperimentFiles(directory), read_config(run, UnlearnConfig).score_run
    scores = ScoreFiles(score_run)
    for source, copy in (
        (scores.samples, files.samples),
        (scores.scores, files.scores),
        (scores.measures, files.measures),
    ):
        shutil.copyfile(source, copy)
    write_json(files.scored, scored_by(score_run).model_dump())
    config = DurabilityConfig.model_validate(
        base({"runs": [run]})
        | {"runs": [run], "steps": 1, "seeds": 1, "reference": reference, "attacks": list(ends)}
    )
    write_config(directory, config)
    prepare(config, files)
    rows = [row for attack, samples in ends.items() for row in _rows(run.name, attack, samples)]
    files.append("all", [*_starts(run.name, next(iter(ends.values()))), *rows])
    files.write_rows([row for unit in files.finished_units().values() for row in unit])
    write_json(
        files.summary, {"experiment": "durability", "units": 1, "n_samples": len(pd.read_parquet(files.samples))}
    )
    return directory


def _starts(model: str, samples: Mapping[str, tuple[float, float]]) -> Sequence[object]:
    return [
        START.row(model=model, sample_id=name, accuracy=ends[0], nll=1.0, extraction=0.0, rouge=0.0)
        for name, ends in samples.items()
    ]


def _rows(model: str, attack: str, samples: Mapping[str, tuple[float, float]]) -> Sequence[object]:
    course = [
        COURSE.row(
            model=model,
            attack=attack,
            seed=0,
            sample_id=name,
            trained=False,
            accuracy_course=list(ends),
            nll_course=[1.0, 0.5],
            extraction_course=[0.0, 0.1],
            rouge_course=[0.0, 0.1],
        )
        for name, ends in samples.items()
    ]
    return [KEPT.row(model=model, attack=attack, seed=0, retain_accuracy=[0.9, 0.9], loss=0.1), *course]
