"""What an experiment has measured so far, running or done, as frames to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.bootstrap import Estimate
from analysis.statistics.wording import in_brackets
from mrd_core.experiments.config import OPTIMISERS, ExperimentConfig, UnlearningExperimentConfig
from mrd_core.experiments.experiment import Part
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.validity import FISHER
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import read_json
from mrd_core.scoring.columns import mrd_column
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.imported import imported
from mrd_core.scoring.measures import MEASURES, Measure
from mrd_core.unlearning.methods import METHODS

# Below so many samples an interval is too wide to say much.
FEW_SAMPLES = 30

# Median relative standard error of MRD.
NOISY = 0.1

NOTHING_YET = "Nothing has been measured yet."

_TEXTS = ("sample_id", "prompt", "answer")


@dataclass(frozen=True, eq=False)
class Measurements:
    """An experiment's directory, read.

    Attributes:
        directory: Of the run.
        config: Its configuration.
        rows: Raw rows, those so far where it runs; `part` says what kind a row is.
        samples: A row per sample: sample_id, prompt, answer, the columns of
            `mrd_core.scoring.measures.MEASURES` (NaN where not measured), relative_se (of MRD) and those of
            `imported`; empty before the forget set is scored.
        scored: What the score run was and cost, see `mrd_core.scoring.records.Scored`; empty before it is done.
        finished: Whether all rows are there.
        imported: Measures from elsewhere that joined the score run, before the experiment or after it.
        broken: Names of imported columns whose files were damaged.
    """

    directory: Path
    config: ExperimentConfig
    rows: pd.DataFrame
    samples: pd.DataFrame
    scored: Mapping[str, Any]
    finished: bool
    imported: tuple[Measure, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def draws(self) -> int:
        """Evaluations that MRD was measured with."""
        return int(self.scored.get("evaluations", 0))

    @property
    def mrd_column(self) -> str:
        """Column of MRD as it was asked for; `samples` has all other variants beside it."""
        estimator = self.config.estimator
        return mrd_column(estimator.scope, estimator.normalisation)

    def part(self, part: Part) -> pd.DataFrame:
        """Return the rows of a part with its columns; numbers are floats, None is NaN.

        Rows of a method and an optimiser have `arm` too, the name of both.
        """
        rows = self.rows[self.rows["part"] == part.name] if "part" in self.rows else self.rows
        frame = rows.reindex(columns=list(part.columns)).reset_index(drop=True)
        for name, column in part.columns.items():
            if column.type == "flag":
                frame[name] = frame[name].map(lambda flag: flag is not None and bool(flag)).astype(bool)
            elif column.type == "number":
                frame[name] = pd.to_numeric(frame[name]).astype(np.float64)
        if {"method", "optimiser"} <= part.columns.keys():
            names = [arm_name(*row) for row in zip(frame["method"], frame["optimiser"], strict=True)]
            frame["arm"] = pd.Series(names, index=frame.index, dtype=object)
        return frame


def read_measurements(directory: Path) -> Measurements:
    """Read the directory of an experiment, which may still be running or not have begun.

    Raises:
        UserError: It is no directory of an experiment.
    """
    config, files = read_config(directory, ExperimentConfig), ExperimentFiles(directory)
    samples, columns = pd.DataFrame(columns=list(_TEXTS)), [*MEASURES, "relative_se"]
    if files.samples.exists() and files.scores.exists() and files.measures.exists():
        samples = pd.read_parquet(files.samples, columns=list(_TEXTS))
        for values in map(pd.read_parquet, (files.scores, files.measures)):
            new = [name for name in values if name in columns and name not in samples]
            samples = samples.merge(values[["sample_id", *new]], on="sample_id", how="left")
    joined, broken = imported(scores_of(config, files))
    samples = samples.reindex(columns=[*_TEXTS, *columns]).astype(dict.fromkeys(columns, np.float64))
    others = {
        column.measure.name: samples["sample_id"].map(column.values).astype(np.float64)
        for column in joined.values()
    }
    rows = files.read_rows()
    of_retain = rows[rows["part"] == FISHER.name] if "part" in rows else rows
    if len(of_retain):
        norms = of_retain.set_index("sample_id")["fisher_norm"].astype(np.float64)
        samples["fisher_norm"] = samples["sample_id"].map(norms)
    return Measurements(
        directory=directory,
        config=config,
        rows=rows,
        samples=samples.assign(**others),
        scored=read_json(files.scored) if files.scored.exists() else {},
        finished=files.summary.exists(),
        imported=tuple(column.measure for column in joined.values()),
        broken=broken,
    )


def scores_of(config: ExperimentConfig, files: ExperimentFiles) -> ScoreFiles:
    """Return the files of the score run that an experiment builds on: the one it was given, or made itself."""
    return ScoreFiles(config.score_run or files.scoring)


def arm_name(method: str, optimiser: str) -> str:
    """Return what a method with an optimiser is called, such as NPO (AdamW)."""
    label = METHODS[method].label if method in METHODS else method
    return f"{label} ({dict(OPTIMISERS).get(optimiser, optimiser)})"  # type: ignore[call-overload]


def estimate_at(row: pd.Series[Any], value: str = "rho", prefix: str = "") -> Estimate:
    """Return the estimate that a row of a table holds, under the names that `Estimate.columns` gives them."""
    centre, low, high = (float(row[name]) for name in (value, f"{prefix}low", f"{prefix}high"))
    return Estimate(centre, low, high, int(row["n"]), int(row.get("n_censored", 0)))


def in_words(table: pd.DataFrame, value: str = "rho", prefix: str = "", form: str = "+.2f") -> list[str]:
    """Return the estimates of a table as `wording.in_brackets` has them, from columns as for `estimate_at`."""
    return [in_brackets(estimate_at(row, value, prefix), form) for _, row in table.iterrows()]


def stacked(frames: Mapping[str, pd.DataFrame], column: str) -> pd.DataFrame:
    """Return frames below one another, the name of each in the first column."""
    named = [frame.assign(**{column: name}) for name, frame in frames.items() if len(frame)]
    if not named:
        return pd.DataFrame(columns=pd.Index([column]))
    table = pd.concat(named, ignore_index=True)
    return table[[column, *(name for name in table if name != column)]]


def shared_caveats(measurements: Measurements) -> list[str]:
    """Return what holds for every experiment: whether it is done, and its seed."""
    unfinished = (
        [] if measurements.finished else ["The experiment has not finished: these are the measurements so far."]
    )
    return [*unfinished, f"Everything that is random was drawn from one seed, {measurements.config.seed}."]


def noise(measurements: Measurements) -> list[str]:
    """Return a caution where the MRD that others are held against is itself noisy."""
    error = measurements.samples["relative_se"].median()
    if not error > NOISY:
        return []
    return [f"MRD itself is noisy, its median relative standard error {error:.0%}: noise hides relations."]


def learning_rates(measurements: Measurements, rows: pd.DataFrame) -> list[str]:
    """Return a sentence on the learning rate of each arm, from rows with the columns arm and learning_rate."""
    rates = rows.dropna(subset=["learning_rate"]).drop_duplicates(["arm", "learning_rate"])
    if rates.empty or not isinstance(measurements.config, UnlearningExperimentConfig):
        return []
    listed = ", ".join(f"{arm} {rate:.3g}" for arm, rate in zip(rates["arm"], rates["learning_rate"], strict=True))
    origin = "found by calibration" if measurements.config.learning_rate == "auto" else "as set"
    return [f"Learning rates, {origin}: {listed}. Other rates may order the samples otherwise."]


def small_n(n: int, what: str) -> list[str]:
    """Return a caution where there are few."""
    return [f"{n} {what} only: the intervals are wide."] if 0 < n < FEW_SAMPLES else []


def ended_badly(arm: str, censored: int, diverged: int, n: int, what: str, cap: int) -> list[str]:
    """Return sentences on what was not forgotten, and on what broke."""
    sentences = []
    if censored:
        sentences.append(f"{arm}: {censored} of {n} {what} were not forgotten within {cap} updates (censored).")
    if diverged:
        sentences.append(f"{arm}: {diverged} runs diverged (the loss was no number) and count for nothing.")
    return sentences
