"""Is one scored forget set easier to unlearn than another?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import difficulty
from analysis.characteristics.strata import SMALLEST_GROUP
from analysis.difficulty import Variant
from analysis.statistics.groups import SIGNIFICANCE, GroupComparison, Measured, compare_sets
from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.draws import Draws
from mrd_core.scoring.files import RunFiles


@dataclass(frozen=True, eq=False)
class Difference:
    """Two scored sets, compared.

    Attributes:
        first: Samples of the first set with their MRD.
        second: Those of the second.
        comparison: The first as the high group.
        sentence: What the comparison says.
        caveats: What makes the two hard to compare; empty where nothing does.
    """

    first: pd.DataFrame
    second: pd.DataFrame
    comparison: GroupComparison
    sentence: str
    caveats: tuple[str, ...]


def compared(first: Path, second: Path, variant: Variant) -> Difference:
    """Compare the MRD of two score runs, the intervals holding the noise of either's own draws.

    Raises:
        UserError: A file of either run is gone.
    """
    tables = [difficulty.ranking(directory, variant) for directory in (first, second)]
    comparison = compare_sets(_measured(first, variant), _measured(second, variant))
    return Difference(tables[0], tables[1], comparison, _sentence(comparison), _caveats(first, second))


def _measured(directory: Path, variant: Variant) -> Measured:
    draws = Draws.load(RunFiles(directory).draws)
    return Measured(draws.units(variant.scope, variant.normalisation, variant.formula))


def _sentence(comparison: GroupComparison) -> str:
    difference, delta = comparison.difference, comparison.cliffs_delta
    figures = (
        f"difference of the mean MRD {difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}], "
        f"Cliff's δ {delta.value:+.2f} [{delta.low:+.2f}, {delta.high:+.2f}], p = {comparison.p:.2g} "
        f"({comparison.n_high} and {comparison.n_low} samples)"
    )
    if min(comparison.n_high, comparison.n_low) < SMALLEST_GROUP:
        return f"Cannot tell: a verdict needs {SMALLEST_GROUP} samples in either set; {figures}."
    if not (difference.excludes_zero and comparison.p < SIGNIFICANCE and difference.value * delta.value > 0):
        return f"Cannot tell which one is easier: {figures}."
    return f"This set is {'easier' if difference.value > 0 else 'harder'} to unlearn than the other: {figures}."


def _caveats(first: Path, second: Path) -> tuple[str, ...]:
    settings = zip(_settings(first).items(), _settings(second).values(), strict=True)
    return tuple(
        f"The runs differ in their {what} ({one} and {other}), so MRD may differ for that reason alone."
        for (what, one), other in settings
        if one != other
    )


def _settings(directory: Path) -> dict[str, str]:
    """Return, in words, what two runs must share for their MRD to be comparable."""
    model = read_config(directory, ScoreConfig).model
    files = RunFiles(directory)
    if not files.plan.exists():
        raise UserError(
            f"The run in {directory}",
            f"has lost {files.plan.name}: somebody removed it by hand.",
            "Delete the run and score again.",
        )
    plan = files.read_plan()
    return {
        "model": model.source,
        "adapter": model.adapter or "none",
        "σ of the noise": f"{plan.sigma:g}",
        "precision": plan.dtype,
        "template": plan.template,
    }
