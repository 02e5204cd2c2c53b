"""The characteristics of a scored forget set: asking for them, where they lie, and reading them back.

A characteristics run reads the texts of a score run. Its directory lies in that of the score run and is named
for its settings and the pipeline that reads: with the same ones the texts are read once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis import difficulty
from analysis.characteristics.config import CharacteristicsConfig, on_scores
from analysis.characteristics.files import About, CharacteristicsFiles
from analysis.difficulty import ScoredRun, Variant
from analysis.redaction import without_texts
from analysis.statistics.groups import Measured
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import Normalisation, ScoreConfig


@dataclass(frozen=True, eq=False)
class Characterised:
    """A scored forget set with its characteristics.

    Attributes:
        table: One row per sample, hardest first: the columns of `difficulty.ranking`, and every feature.
        about: How the features came about.
        measured: The MRD of the same rows with its draws, in either normalisation.
        variant: The scores that are looked at.
    """

    table: pd.DataFrame
    about: About
    measured: dict[Normalisation, Measured]
    variant: Variant

    def without_texts(self) -> Characterised:
        """Return the same without the texts of the samples."""
        return replace(self, table=without_texts(self.table))


def characterised(score_run: Path, reading: Path, variant: Variant) -> Characterised:
    """Join the scores of a run with the features of one of its characteristics runs.

    Raises:
        UserError: A file of either is gone.
    """
    features, about = CharacteristicsFiles(reading).read_features()
    # Where it lay when it was read is of no use to a command that asks for the same again.
    config = about.config.model_copy(update={"score_run": score_run.resolve()})
    about = about.model_copy(update={"config": config})
    run = ScoredRun(score_run)
    table = difficulty.ranking(run, variant).merge(
        features.drop(columns="training_count", errors="ignore"), on="sample_id", how="left"
    )
    measured = {
        norm: difficulty.measured(run, replace(variant, normalisation=norm), table["sample_id"])
        for norm in Normalisation
    }
    return Characterised(table, about, measured, variant)


def default_config(score_run: Path) -> CharacteristicsConfig:
    """Return the reading that needs no choice; a run of the demo model brings its training corpus."""
    follows = on_scores(read_config(score_run, ScoreConfig), {})
    return CharacteristicsConfig.model_validate(follows | {"score_run": score_run.resolve()})
