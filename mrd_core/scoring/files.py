"""The files of a score run. Loads no torch."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from mrd_core.errors import UserError
from mrd_core.runs.files import Artifact, RunDirectory, read_json, write_json
from mrd_core.scoring.columns import SCORE_COLUMNS
from mrd_core.scoring.records import Plan, ScoreSummary
from mrd_core.scoring.schedule import UnitKey, Wanted


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
    draws = Artifact(
        "draws.parquet", "A row per evaluation and sample; the parts of a pair stand in both of its rows."
    )
    # Runs of earlier versions, and runs of pairs alone, have no such file.
    probes = Artifact(
        "probes.parquet",
        "A row per sign probe and sample: an estimate of the speed, in a preview of the spread, too.",
    )
    tokens = Artifact("tokens.parquet", "A row per scored token.")
    imported = Artifact("imported", "Columns of other people's measures, a file each; see `mrd-lens columns`.")
    notes = Artifact("notes.json", "What people noted on samples, and which they bookmarked, by sample id.")
    strata = Artifact("strata", "Selections of samples that were sent to unlearning, a file each.")
    readings = Artifact("characteristics", "Directories of the characteristics runs of these scores.")
    exact = Artifact("exact", "Directories of the runs that took samples apart token by token.")

    @classmethod
    def with_mrd(cls, directory: Path) -> Self:
        """Return the files of a finished run that measured MRD.

        Raises:
            UserError: One of its results is missing, or it is a preview.
        """
        files = cls.finished(directory)
        require_mrd(files.read_figures(), directory)
        return files

    def unit(self, key: UnitKey) -> Path:
        """Return the file of one unit."""
        return self.units / f"{key.stem}.npz"

    def claim(self, key: UnitKey, generation: int = 0) -> Path:
        """Return the file that says who draws a unit: the first who claimed it, or one who inherited the claim."""
        return self.units / f"{key.stem}.{generation}.claim"

    @property
    def leader(self) -> Path:
        """The file that says which process leads the run."""
        return self.units / "leader.lease"

    @property
    def schedule(self) -> Path:
        """What the leading process wants drawn."""
        return self.units / "schedule.json"

    def read_schedule(self) -> Wanted | None:
        """Return what the leading process wants drawn; None before it has said so."""
        try:
            content = read_json(self.schedule)
        except FileNotFoundError:
            return None
        # Of an earlier version, whose run is being taken up again.
        if "ahead" not in content:
            return None
        units = tuple(UnitKey(**key) for key in content["units"])
        return Wanted(units, content["ahead"], content["is_all"])

    def write_schedule(self, wanted: Wanted) -> None:
        """Say what is wanted."""
        write_json(self.schedule, asdict(wanted))

    def imported_column(self, name: str) -> Path:
        """Return the file of an imported column."""
        return self.imported / f"{name}.json"

    def exact_parts(self, sample_id: str) -> Path:
        """Return the directory of the run that takes a sample apart token by token."""
        return self.exact / hashlib.sha256(sample_id.encode()).hexdigest()[:12]

    def read_plan(self) -> Plan:
        """Return the plan."""
        return Plan.model_validate_json(self.plan.read_text(encoding="utf-8"))

    def read_figures(self) -> ScoreSummary:
        """Return the summary of a finished run, typed."""
        return ScoreSummary.model_validate(self.read_summary())


def require_mrd(figures: ScoreSummary, directory: Path) -> None:
    """Refuse a score run that is a preview.

    Raises:
        UserError: It is one.
    """
    if figures.preview:
        raise UserError(
            f"The score run in {directory}",
            "is a preview: speed + spread, not MRD.",
            "Score the forget set in full, without --preview.",
        )
