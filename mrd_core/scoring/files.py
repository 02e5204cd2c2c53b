"""The files of a score run. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mrd_core.runs.files import Artifact, RunDirectory
from mrd_core.scoring.columns import SCORE_COLUMNS
from mrd_core.scoring.records import Plan, ScoreSummary


@dataclass(frozen=True)
class ScoreFiles(RunDirectory):
    """What the directory of a score run holds, by name."""

    noun: ClassVar[str] = "score run"

    samples = Artifact("samples.parquet", "The validated forget set, a row per sample.")
    # Runs of earlier versions have no such file.
    encoded = Artifact("encoded.parquet", "The samples as the tokens that are scored, unlearned and evaluated.")
    plan = Artifact("plan.json", "What was decided before the first draw; its presence tells helpers to begin.")
    baseline = Artifact("baseline.npy", "P_t(θ), unperturbed, fp64, shape (tokens,).", scaffolding=True)
    units = Artifact("units", "Folder of finished units of draws.", scaffolding=True)
    hidden_states = Artifact("hidden_states.npy", "Mean last hidden state of each sample, fp32, shape (N, width).")
    scores = Artifact("scores.parquet", "A row per sample: MRD in all variants, with errors.", SCORE_COLUMNS)
    # Runs of earlier versions have no such file.
    measures = Artifact("measures.parquet", "A row per sample: other measures of difficulty; NaN where not taken.")
    draws = Artifact("draws.parquet", "A row per evaluation and sample.")
    tokens = Artifact("tokens.parquet", "A row per scored token.")
    imported = Artifact("imported", "Columns of other people's measures, a file each; see `mrd-lens columns`.")
    readings = Artifact("characteristics", "Directories of the characteristics runs of these scores.")

    def unit(self, index: int) -> Path:
        """Return the file of one unit."""
        return self.units / f"{index:06d}.npz"

    def claim(self, index: int) -> Path:
        """Return the file that says which process draws a unit."""
        return self.units / f"{index:06d}.claim"

    def imported_column(self, name: str) -> Path:
        """Return the file of an imported column."""
        return self.imported / f"{name}.json"

    def read_plan(self) -> Plan:
        """Return the plan."""
        return Plan.model_validate_json(self.plan.read_text(encoding="utf-8"))

    def read_figures(self) -> ScoreSummary:
        """Return the summary of a finished run, typed."""
        return ScoreSummary.model_validate(self.read_summary())
