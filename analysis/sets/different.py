"""Is one scored forget set easier to unlearn than another?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import difficulty
from analysis.characteristics.strata import SMALLEST_GROUP
from analysis.difficulty import ScoredRun, Variant
from analysis.sets import unknown
from analysis.statistics.groups import SIGNIFICANCE, GroupComparison, compare_sets
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles

# What is checked before a run, so that it moves MRD by little.
PRECISION = "precision"


@dataclass(frozen=True, eq=False)
class Difference:
    """Two scored sets, compared.

    Attributes:
        first: Samples of the first set with their MRD.
        second: Those of the second.
        comparison: The first as the high group.
        obstacle: Why there is no verdict, in a sentence; "" where there can be one.
        caveats: What else makes the two hard to compare; empty where nothing does.
    """

    first: pd.DataFrame
    second: pd.DataFrame
    comparison: GroupComparison
    obstacle: str
    caveats: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What the comparison says of A, the first, and B, the second."""
        if self.obstacle:
            return self.obstacle
        compared = self.comparison
        difference, delta = compared.difference, compared.cliffs_delta
        figures = (
            f"difference of the mean MRD {difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}], "
            f"Cliff's δ {delta.value:+.2f} [{delta.low:+.2f}, {delta.high:+.2f}], p = {compared.p:.2g} "
            f"({compared.n_high} and {compared.n_low} samples)"
        )
        if min(compared.n_high, compared.n_low) < SMALLEST_GROUP:
            return f"Cannot tell: a verdict needs {SMALLEST_GROUP} samples in either set; {figures}."
        if not (difference.excludes_zero and compared.p < SIGNIFICANCE and difference.value * delta.value > 0):
            return f"Cannot tell which one is easier: {figures}."
        return f"A is {'easier' if difference.value > 0 else 'harder'} to unlearn than B: {figures}."


def compared(first: Path, second: Path, variant: Variant) -> Difference:
    """Compare the MRD of two score runs, the intervals holding the noise of either's own draws.

    Raises:
        UserError: A file of either run is gone, or either is a preview.
    """
    runs = tuple(ScoredRun(ScoreFiles.with_mrd(directory).directory) for directory in (first, second))
    tables = [difficulty.ranking(run, variant) for run in runs]
    comparison = compare_sets(difficulty.measured(runs[0], variant), difficulty.measured(runs[1], variant))
    unlike, caveats = obstacle(*runs)
    accuracy = {
        f"samples of {name}": unknown.accuracy_in(run.samples if run.measures is None else run.measures)
        for name, run in zip("AB", runs, strict=True)
    }
    told = unknown.caveat(accuracy)
    if not unlike and unknown.is_much(accuracy):
        return Difference(tables[0], tables[1], comparison, unknown.no_verdict(told), caveats)
    return Difference(tables[0], tables[1], comparison, unlike, (*caveats, *filter(None, [told])))


def obstacle(first: ScoredRun, second: ScoredRun) -> tuple[str, tuple[str, ...]]:
    """Return in what two runs differ so that there is no verdict, and what else is to be minded."""
    differing = differences(first, second)
    precision = differing.pop(PRECISION, None)
    caveat = f"The runs differ in their {precision}, so MRD may differ for that reason alone."
    unlike = (
        f"No verdict: the runs differ in their {'; '.join(differing.values())}, and MRD depends on that. "
        "Score one of the sets anew with the settings of the other."
    )
    return unlike if differing else "", (caveat,) if precision else ()


def differences(first: ScoredRun, second: ScoredRun) -> dict[str, str]:
    """Return in what MRD depends on two runs differ: by its name, in words with both values."""
    settings = zip(_settings(first).items(), _settings(second).values(), strict=True)
    found = {name: f"{name} ({value} and {other})" for (name, value), other in settings if value != other}
    plans = first.plan, second.plan
    # A checksum of the weights as they were drawn on; earlier versions took none.
    weights = {plan.weights for plan in plans}
    if "model" not in found and PRECISION not in found and "" not in weights and len(weights) > 1:
        found["weights"] = "weights, though their model lies in one place"
    return found


def _settings(run: ScoredRun) -> dict[str, str]:
    model = read_config(run.directory, ScoreConfig).model
    return {
        "model": model.source,
        "adapter": ", ".join(model.adapter) or "none",
        "σ of the noise": f"{run.plan.sigma:g}",
        PRECISION: run.plan.dtype,
        "template": run.plan.template,
        "system line": "the template's own" if model.system is None else model.system,
        "end of a plain text": "scored" if model.closes_texts else "not scored",
    }
