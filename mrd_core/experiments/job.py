"""The job behind `mrd_core run` for an experiment: unit after unit, each kept as soon as it is done."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.files import ExperimentFiles, Row
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

EXPERIMENTS = {
    "validity": "mrd_core.experiments.validity:Validity",
    "parameter-change": "mrd_core.experiments.parameter_change:ParameterChange",
    "selection": "mrd_core.experiments.selection:Selection",
    "sensitivity": "mrd_core.experiments.sensitivity:Sensitivity",
    "theorem": "mrd_core.experiments.theorem:Theorem",
}


@dataclass(frozen=True, eq=False)
class Material:
    """What an experiment works on.

    Attributes:
        forget_set: N samples.
        scores: One row for each of them, in their order: the scores of the score run with the other measures.
        retain_set: What is to be kept; None without a retain set.
        sigma: σ of the scores.
    """

    forget_set: ForgetSet
    scores: pd.DataFrame
    retain_set: ForgetSet | None
    sigma: float


# By unit.
Done = Mapping[str, Sequence[Row]]


class Experiment(Protocol):
    """What an experiment gives to the job. It is made from its configuration, `Material` and the context."""

    @property
    def units(self) -> Sequence[str]:
        """Names of the units of work, in their order; the same in every attempt."""

    def measure(self, unit: str, done: Done) -> list[Row]:
        """Do one unit of work and return its rows, of JSON values; `part` says what kind of row each is.

        Args:
            unit: One of `units`.
            done: The rows of all units before it, which may be those of an earlier attempt.
        """

    def facts(self, done: Done) -> dict[str, Any]:
        """Return what the summary says beside the rows, JSON values: `reasons` and `warnings` at least."""


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
    """Carry out an experiment and return the run's summary; units that are done are not done again.

    Raises:
        UserError: Bad settings, samples or model.
        Cancelled: The run was asked to stop; finished units stay.
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
    experiment = _experiment(config, material, context)
    files.mend()
    done: dict[str, list[Row]] = {unit: list(rows) for unit, rows in files.finished_units().items()}
    for number, unit in enumerate(experiment.units):
        context.check_cancelled()
        context.progress(number, len(experiment.units), message="Measuring")
        if unit not in done:
            done[unit] = list(experiment.measure(unit, done))
            files.append(unit, done[unit])
    context.progress(len(experiment.units), len(experiment.units), message="Measuring")
    facts = experiment.facts(done)
    for warning in facts["warnings"]:
        context.event("warning", warning)
    files.write_rows([row for unit in experiment.units for row in done[unit]])
    write_json(
        files.summary,
        {
            "experiment": config.name,
            "n_samples": len(material.forget_set),
            "units": len(experiment.units),
            "seconds": round(time.monotonic() - began, 3),
            "scored": read_json(files.scored),
            **facts,
            "reasons": {"threads": threads.stated} | facts["reasons"],
        },
    )


def _experiment(config: ExperimentConfig, material: Material, context: JobContext) -> Experiment:
    module, _, name = EXPERIMENTS[config.name].partition(":")
    made: Experiment = getattr(importlib.import_module(module), name)(config, material, context)
    return made


def _material(config: ExperimentConfig, files: ExperimentFiles, context: JobContext) -> Material:
    """Return the run's own copy of samples and scores, made now where there is none yet."""
    if not files.scored.exists():
        if config.score_run is None:
            _score(config, files, context)
        copy_scores(config, files)
    copy_retain(config, files)
    forget_set = ForgetSet.load(files.samples)
    scores = pd.read_parquet(files.scores).merge(pd.read_parquet(files.measures), on="sample_id")
    return Material(
        forget_set=forget_set,
        scores=scores.set_index("sample_id", drop=False).loc[list(forget_set.frame["sample_id"])],
        retain_set=ForgetSet.load(files.retain) if files.retain.exists() else None,
        sigma=Scored.model_validate(read_json(files.scored)).sigma,
    )


def _score(config: ExperimentConfig, files: ExperimentFiles, context: JobContext) -> None:
    scoring = ScoreConfig(forget_set=config.forget_set, model=config.model, estimator=config.estimator)
    files.scoring.mkdir(exist_ok=True)
    # Processes that share the draws read it there.
    write_config(files.scoring, scoring)
    score_job(scoring, _Scoring(context, files))
