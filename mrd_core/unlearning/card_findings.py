"""What a model card says beyond the run's own summary: how hard forgetting was, and what evaluations found.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.metrics import METRICS
from mrd_core.evaluation.suites import suites
from mrd_core.runs import RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json
from mrd_core.scoring.columns import MRD_ANSWER_MEAN
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.records import Scored, ScoreSummary
from mrd_core.unlearning.files import UnlearningFiles

THIRDS = ("hard", "middle", "easy")


class Measurement(NamedTuple):
    """The value of a metric on one set of an evaluation, None where it is undefined, from `n` samples."""

    split: str
    set_title: str
    metric: str
    title: str
    value: float | None
    n: int


@dataclass(frozen=True)
class Measured:
    """What an evaluation of the model found.

    Attributes:
        title: Of the suite.
        data: Where its sets are from; None where they are the run's own.
        measurements: A value for each set and metric.
        notes: What a reader must know of them, in sentences.
    """

    title: str
    data: str | None
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known besides the figures of the run.

    Attributes:
        scored: What the score run was: title, σ.
        reliability: Of its ranking by the mean over tokens, and with length held; None where it is not known.
        thirds: Columns third, samples, low, high (MRD), updates (mean), before, after (mean MA), forgotten, a row
            for each third of the samples that have MRD, hardest first; no row without MRD.
        evaluations: Of the model.
    """

    scored: Scored
    reliability: tuple[float | None, float | None]
    thirds: pd.DataFrame
    evaluations: tuple[Measured, ...] = ()


def findings(files: UnlearningFiles, score_run: Path, evaluations: Iterable[Path] = ()) -> Findings:
    """Read what a card says of a finished run.

    Args:
        files: Of the run.
        score_run: Directory of its score run, which may be gone.
        evaluations: Directories of evaluations of its model.

    Raises:
        UserError: One of them is no finished evaluation, or is of another model.
    """
    summary = ScoreFiles(score_run).summary
    known = ScoreSummary.model_validate(read_json(summary)) if summary.exists() else None
    return Findings(
        scored=Scored.model_validate(read_json(files.scored)),
        reliability=(known.reliability_mean, known.reliability_mean_length_partialled) if known else (None, None),
        thirds=_thirds(pd.read_parquet(files.outcome), pd.read_parquet(files.curriculum)),
        evaluations=tuple(_measured(evaluation, files) for evaluation in evaluations),
    )


def evaluations_of(store: RunStore, directory: Path) -> list[Path]:
    """Return the directories of a store's evaluations of the model of an unlearning run, oldest first."""
    directories = []
    for run in reversed(store.list(kinds=("evaluate",), states=[RunState.SUCCEEDED])):
        # One that was removed by hand says nothing.
        with suppress(UserError):
            if _is_of(read_config(run.directory, EvaluateConfig), UnlearningFiles(directory)):
                directories.append(EvaluationFiles.finished(run.directory).directory)
    return directories


def _thirds(outcome: pd.DataFrame, curriculum: pd.DataFrame) -> pd.DataFrame:
    ranked = outcome.merge(curriculum[["sample_id", MRD_ANSWER_MEAN]], on="sample_id").dropna(
        subset=MRD_ANSWER_MEAN
    )
    ranked = ranked.sort_values(MRD_ANSWER_MEAN, kind="stable")
    ranked["third"] = [THIRDS[3 * rank // len(ranked)] for rank in range(len(ranked))]
    return (
        ranked.groupby("third", sort=False)
        .agg(
            samples=("sample_id", "size"),
            low=(MRD_ANSWER_MEAN, "min"),
            high=(MRD_ANSWER_MEAN, "max"),
            updates=("updates", "mean"),
            before=("accuracy_before", "mean"),
            after=("accuracy_after", "mean"),
            forgotten=("forgotten_at_end", "sum"),
        )
        .reset_index()
    )


def _is_of(config: EvaluateConfig, unlearned: UnlearningFiles) -> bool:
    """Tell whether an evaluation is of the model of an unlearning run, named by its run or by its folder."""
    if config.unlearn_run is not None:
        return config.unlearn_run.resolve() == unlearned.directory.resolve()
    # With an adapter on it, it is another.
    return not config.model.adapter and Path(config.model.source).resolve() == unlearned.model.resolve()


def _measured(directory: Path, unlearned: UnlearningFiles) -> Measured:
    config, files = read_config(directory, EvaluateConfig), EvaluationFiles.finished(directory)
    if not _is_of(config, unlearned):
        raise UserError(
            f"The evaluation in {directory}",
            f"is of another model: {config.subject}.",
            f"Name one that was made with --unlearned {unlearned.directory}, or none.",
        )
    titles = {each["name"]: each["title"] for each in read_json(files.catalogue)["sets"]}
    measurements = (
        Measurement(
            split=row["split"],
            set_title=titles.get(row["split"], row["split"]),
            metric=row["metric"],
            title=METRICS[row["metric"]].title if row["metric"] in METRICS else row["metric"],
            value=row["value"],
            n=row["n"],
        )
        for row in read_json(files.aggregates)
    )
    summary = files.read_summary()
    notes = dict.fromkeys((*summary["notes"], *summary["warnings"]))
    return Measured(suites()[config.suite].title, config.data, tuple(measurements), tuple(notes))
