"""Score runs, as the rest of the program sees them. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from mrd_core.runs.kind import Description, Kind, Summary, figure
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.cost import estimate
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.records import ScoreSummary


def headline(summary: Summary) -> str:
    """Return how many samples were scored, and how precisely."""
    figures = ScoreSummary.model_validate(summary)
    of_what = "preview, speed + spread, " if figures.preview else ""
    return f"{figures.n_samples} samples, {of_what}relative SE {figure(figures.median_relative_se, '.1%')}"


def describe(directory: Path, summary: Summary) -> Description:
    """Return what scoring took, how reliable the ranking is, and where the scores lie."""
    figures = ScoreSummary.model_validate(summary)
    probes = f" and {figures.probes} sign probes" if figures.probes else ""
    drawn = f"{figures.evaluations} evaluations{probes}"
    if figures.preview:
        drawn = f"preview by {figures.probes} sign probes of speed and of spread"
    rank = "small speed_and_spread: probably hard" if figures.preview else "small MRD: hard"
    return Description(
        (
            f"{figures.n_samples} samples, {drawn} in {figures.seconds:.0f} s; "
            f"median relative SE {figure(figures.median_relative_se, '.1%')}; reliability "
            f"{figure(figures.reliability_sum, '.3f')} (sum), {figure(figures.reliability_mean, '.3f')} (mean).",
            *_worth_of_a_preview(figures),
            f"Scores: {ScoreFiles(directory).scores}  ({rank} to unlearn)",
        )
    )


def _worth_of_a_preview(figures: ScoreSummary) -> list[str]:
    if figures.preview_rho is None:
        return []
    return [f"Speed + spread alone, which a preview has, ranks like MRD with ρ = {figures.preview_rho:.2f}."]


SCORE = Kind(
    name="score",
    label="Score run",
    config=ScoreConfig,
    job="mrd_core.scoring.job:score_job",
    files=ScoreFiles,
    counted="passes",
    headline=headline,
    describe=describe,
    cost=estimate,
    follow_up="mrd_core.experiments.short_check:after",
    is_shared=True,
)
