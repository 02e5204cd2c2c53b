"""Evaluations, as the rest of the program sees them. Loads no torch."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation.aggregating import FORGET_QUALITY
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.metrics import METRICS
from mrd_core.evaluation.records import EvaluationSummary
from mrd_core.evaluation.request import maker, prepare
from mrd_core.evaluation.soundness import DAMAGE_MARK, caution, flaws_in
from mrd_core.evaluation.suites import suites
from mrd_core.runs.files import read_json
from mrd_core.runs.kind import Description, Kind, Summary, figure


def headline(summary: Summary) -> str:
    """Return how many samples were asked."""
    return f"{EvaluationSummary.model_validate(summary).n_samples} samples"


def describe(directory: Path, summary: Summary) -> Description:
    """Return every aggregate, and how to compare them."""
    figures = EvaluationSummary.model_validate(summary)
    files = EvaluationFiles(directory)
    aggregates, cautions = [], []
    for entry in read_json(files.aggregates):
        words = ""
        if entry["metric"] == FORGET_QUALITY and entry["value"] is not None:
            words = caution(entry["value"], flaws_in(files))
            if words:
                cautions.append(f"{DAMAGE_MARK} {METRICS[FORGET_QUALITY].title} is no good sign. {words}")
        shown = figure(entry["value"], ".4g") + (f" {DAMAGE_MARK}" if words else "")
        aggregates.append((entry["split"], entry["metric"], shown, f"{entry['n']:,}"))
    tasks = [
        (task, metric, figure(value, ".4g"), "")
        for task, values in (figures.harness or {}).items()
        for metric, value in values.items()
    ]
    return Description(
        (
            f"{figures.n_samples} samples in {figures.seconds:.0f} s",
            *cautions,
            f"With intervals, or beside others: mrd-lens compare {shlex.quote(str(directory))}",
        ),
        pd.DataFrame([*aggregates, *tasks], columns=["set", "metric", "value", "samples"]),
    )


def title(config: EvaluateConfig) -> str:
    """Return what is asked of which model: `Own files on GA + MRD, seed 0`; by the id of a run that is gone."""
    if config.unlearn_run is not None:
        with suppress(UserError):
            made, _ = maker(config.unlearn_run)
            return f"{suites()[config.suite].title} on {getattr(made, 'name', made.title)}"
    return config.title


EVALUATE = Kind(
    name="evaluate",
    label="Evaluation",
    config=EvaluateConfig,
    job="mrd_core.evaluation.job:evaluate_job",
    files=EvaluationFiles,
    counted="parts",
    headline=headline,
    describe=describe,
    prepare=prepare,
    title=title,
)
