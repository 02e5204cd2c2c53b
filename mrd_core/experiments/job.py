"""The job behind `mrd_core run` for an experiment: each measurement is kept as soon as it is done."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.experiment import Material
from mrd_core.experiments.files import ExperimentFiles, Row
from mrd_core.experiments.kinds import experiments
from mrd_core.experiments.records import ExperimentSummary
from mrd_core.experiments.request import copy_retain, copy_scores
from mrd_core.model import loading as models
from mrd_core.runs import JobContext
from mrd_core.runs.directory import write_config
from mrd_core.runs.files import read_json, write_json
from mrd_core.runs.store import Level
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.job import score_job
from mrd_core.scoring.records import Scored


class _Scoring(JobContext):
    """The context of the scoring that an experiment begins with."""

    def __init__(self, context: JobContext, files: ExperimentFiles) -> None:
        super().__init__(files.scoring, context.run_id)
        self._context = context

    def event(self, level: Level, message: str) -> None:
        self._context.event(level, message)

    def check_cancelled(self) -> None:
        self._context.check_cancelled()

    def progress(self, done: int, total: int, **extra: Any) -> None:
        counted = f" ({done} of at most {total} evaluations)" if done else ""
        message = f"Scoring the forget set first: {str(extra.get('message', 'Drawing')).lower()}{counted}"
        self._context.progress(0, 1, message=message, eta_seconds=None)


def experiment_job(config: ExperimentConfig, context: JobContext) -> dict[str, Any]:
    """Carry out an experiment and return the run's summary; what is measured is not measured again.

    Raises:
        UserError: Bad settings, samples or model.
        Cancelled: The run was asked to stop; what is measured stays.
    """
    files = ExperimentFiles(context.directory)
    if not files.summary.exists():
        _carry_out(config, files, context)
    return files.read_summary()


def _carry_out(config: ExperimentConfig, files: ExperimentFiles, context: JobContext) -> None:
    material = _material(config, files, context)
    # Scoring has a time of its own.
    began = time.monotonic()
    # Scoring may have left another number: the last bits depend on it.
    threads = models.set_threads()
    context.progress(0, 1, message="Loading the model")
    study = experiments()[config.kind].study(config, material, context)
    files.mend()
    done: dict[str, list[Row]] = {name: list(rows) for name, rows in files.finished_units().items()}
    for number, (name, measure) in enumerate(study.measurements.items()):
        context.check_cancelled()
        context.progress(number, len(study.measurements), message="Measuring")
        if name not in done:
            done[name] = measure(done)
            files.append(name, done[name])
    context.progress(len(study.measurements), len(study.measurements), message="Measuring")
    facts = study.facts(done)
    for warning in facts["warnings"]:
        context.event("warning", warning)
    files.write_rows([row for name in study.measurements for row in done[name]])
    measured = {
        "experiment": config.kind,
        "n_samples": len(material.forget_set),
        "units": len(study.measurements),
        "seconds": round(time.monotonic() - began, 3),
        "scored": read_json(files.scored),
        "reasons": {"threads": threads.stated} | facts.pop("reasons"),
    }
    write_json(files.summary, ExperimentSummary.model_validate(measured | facts).as_json())


def _material(config: ExperimentConfig, files: ExperimentFiles, context: JobContext) -> Material:
    """Return the run's own copy of samples and scores, made now where there is none yet."""
    if not files.scored.exists():
        if config.score_run is None:
            scoring = ScoreConfig(forget_set=config.forget_set, model=config.model, estimator=config.estimator)
            files.scoring.mkdir(exist_ok=True)
            # Processes that share the draws read it there.
            write_config(files.scoring, scoring)
            score_job(scoring, _Scoring(context, files))
        copy_scores(config, files)
    copy_retain(config, files, files.samples)
    forget_set = ForgetSet.load(files.samples)
    scores = pd.read_parquet(files.scores).merge(pd.read_parquet(files.measures), on="sample_id")
    sigma = Scored.model_validate(read_json(files.scored)).sigma
    assert sigma is not None  # copy_scores takes no preview
    return Material(
        forget_set=forget_set,
        scores=scores.set_index("sample_id", drop=False).loc[list(forget_set.frame["sample_id"])],
        retain_set=ForgetSet.load(files.retain) if files.retain.exists() else None,
        sigma=sigma,
    )
