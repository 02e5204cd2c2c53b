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
    return f"{figures.n_samples} samples, relative SE {figure(figures.median_relative_se, '.1%')}"


def describe(directory: Path, summary: Summary) -> Description:
    """Return what scoring took, how reliable the ranking is, and where the scores lie."""
    figures = ScoreSummary.model_validate(summary)
    probes = f" and {figures.probes} sign probes" if figures.probes else ""
    return Description(
        (
            f"{figures.n_samples} samples, {figures.evaluations} evaluations{probes} in {figures.seconds:.0f} s; "
            f"median relative SE {figure(figures.median_relative_se, '.1%')}; reliability "
            f"{figure(figures.reliability_sum, '.3f')} (sum), {figure(figures.reliability_mean, '.3f')} (mean).",
            f"Scores: {ScoreFiles(directory).scores}  (small MRD: hard to unlearn)",
        )
    )


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
)
