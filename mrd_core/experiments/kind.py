"""Experiments, each a kind of run, as the rest of the program sees them. Loads no torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from mrd_core.experiments.cost import estimate
from mrd_core.experiments.experiment import Experiment
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds import experiments
from mrd_core.experiments.records import ExperimentSummary
from mrd_core.experiments.request import prepare
from mrd_core.runs.kind import Description, Kind, Summary


def headline(summary: Summary) -> str:
    """Return how many measurements were made."""
    return f"{ExperimentSummary.model_validate(summary).units} measurements"


def describe(directory: Path, summary: Summary) -> Description:
    """Return what was measured, and how to see what it shows."""
    figures = ExperimentSummary.model_validate(summary)
    return Description(
        (
            f"{figures.units} measurements in {figures.seconds:.0f} s",
            f"Rows: {ExperimentFiles(directory).rows}",
            f"What they show: mrd-lens evidence {shlex.quote(str(directory))}",
        )
    )


def kind_of(experiment: Experiment) -> Kind:
    """Return the kind of run of an experiment."""
    return Kind(
        name=experiment.name,
        label=f"Experiment {experiment.name}",
        config=experiment.config,
        job="mrd_core.experiments.job:experiment_job",
        files=ExperimentFiles,
        counted="measurements",
        headline=headline,
        describe=describe,
        cost=estimate,
        prepare=prepare,
    )


KINDS = {name: kind_of(experiment) for name, experiment in experiments().items()}
