"""Every measure of difficulty, and combinations of the cheap ones, ranked by how well they predict updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from analysis.evidence.measurements import estimate_at
from analysis.evidence.prediction import Combination, combination
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.censored import gain, league, standing
from mrd_core.errors import UserError
from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import MRD_ANSWER_MEAN, MRD_ANSWER_SUM, mrd_column
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.measures import (
    ENTANGLEMENT_MEASURES,
    FORWARD,
    GRADIENT_MEASURES,
    MEASURES,
    MRD_MEASURES,
    PART_MEASURES,
    PLAIN_MEASURES,
    RETAIN_MEASURES,
    Measure,
)

LENGTH = "answer_tokens"
CHEAP, WITH_MRD = "combination", "combination_with_mrd"
# Measures of a chart, unless MRD is further down.
MOST_DRAWN = 12
COMBINED_TITLES = {CHEAP: "Cheap measures combined", WITH_MRD: "Cheap measures and MRD combined"}
# For the axes of charts, which have little room beside their marks.
_SHORT_FORMULAS = {Formula.MRD: "MRD", Formula.MEAN_ABSOLUTE: "Absolute MRD", Formula.INITIAL: "Initial MRD"}
_SHORT_SCOPES = {Scope.ANSWER: "", Scope.FULL: ", all tokens"}
SHORT_TITLES = {
    mrd_column(scope, norm, formula): f"{_SHORT_FORMULAS[formula]}{_SHORT_SCOPES[scope]} ({norm})"
    for formula, scope, norm in product(Formula, Scope, Normalisation)
} | {
    "gradient_norm": "Gradient norm (mean NLL)",
    "gradient_norm_sum": "Gradient norm (summed NLL)",
    "fisher_norm": "Gradient by retain Fisher",
    WITH_MRD: "Cheap measures and MRD",
}
# Of the variants, those of Eq. 4 over the answer: mean and sum tell all that the others of that scope do.
MRD_OF_COMBINATION = (MRD_ANSWER_MEAN, MRD_ANSWER_SUM)
_SIGNS = {"small": -1, "large": 1, "unknown": 0}


# What is cheap for everybody: few know how often a sample was trained on.
CHEAP_MEASURES = tuple(name for name in (*PLAIN_MEASURES, *GRADIENT_MEASURES) if name != "training_count")


@dataclass(frozen=True, eq=False)
class League:
    """How well each measure predicts the outcome.

    Attributes:
        table: As `analysis.statistics.censored.league` has it, with `title` and `family` (mrd, length, plain,
            gradient, imported, combination) behind `measure`; combinations take part with the ρ of
            cross-validation.
        combined: The combinations by name, CHEAP and WITH_MRD; without either where too few were forgotten.
        mrd_adds: ρ of the combination with MRD less that of the one without, of held-out predictions.
        cheap: Columns of the cheap combination.
    """

    table: pd.DataFrame
    combined: dict[str, Combination]
    mrd_adds: Estimate
    cheap: tuple[str, ...]

    def rho(self, measure: str) -> Estimate:
        """Return Spearman's ρ of a measure with the outcome; NaN for one that takes no part."""
        return self._estimate(measure, "rho")

    def partial(self, measure: str) -> Estimate:
        """Return what is left of it with length held."""
        return self._estimate(measure, "partial", "partial_")

    def gain(self, measure: str) -> Estimate:
        """Return its |ρ| less that of length."""
        return self._estimate(measure, "gain", "gain_")

    def _estimate(self, measure: str, value: str, prefix: str = "") -> Estimate:
        rows = self.table[self.table["measure"] == measure]
        return UNDEFINED if rows.empty else estimate_at(rows.iloc[0], value, prefix)


def league_of(measured: pd.DataFrame, draws: int, imported: Iterable[Measure] = ()) -> League:
    """Rank all measures that vary over the samples.

    Args:
        measured: A row per sample: updates, censored, and the columns of `MEASURES` and of `imported`.
        draws: Evaluations of MRD, for its cost.
        imported: Measures from elsewhere; they take part, and are in no combination.
    """
    outcome = measured["updates"], measured["censored"].astype(bool)
    measures = {**MEASURES, **{measure.name: measure for measure in imported}}
    names = [name for name in measures if name in measured and name != LENGTH and measured[name].notna().any()]
    costs = {name: measure.cost(draws) for name, measure in measures.items()}
    expected = {name: _SIGNS[measure.harder] for name, measure in measures.items()}
    cheap, of_mrd = (
        tuple(name for name in candidates if name in measured and measured[name].nunique() > 1)
        for candidates in (CHEAP_MEASURES, MRD_OF_COMBINATION)
    )
    combined, added = {}, UNDEFINED
    for name, columns in ((CHEAP, cheap), (WITH_MRD, (*cheap, *of_mrd))):
        # A small or a mostly censored experiment is shown without.
        with suppress(UserError):
            if columns:
                combined[name] = combination(measured[list(columns)], *outcome)
    if len(combined) == 2:
        without, with_mrd = combined[CHEAP].predictions, combined[WITH_MRD].predictions
        added = gain(with_mrd, without, *outcome, signed=True)
    alone = league(measured[names], *outcome, measured[LENGTH], costs, expected)
    rows = [_row(name, together, measured, costs) for name, together in combined.items()]
    tables = [alone, pd.DataFrame(rows, columns=alone.columns)] if rows else [alone]
    return League(_ranked(pd.concat(tables, ignore_index=True)), combined, added, cheap)


def title(measure: str) -> str:
    """Return the title of a measure, or of a combination; an imported one is named by its title."""
    return MEASURES[measure].title if measure in MEASURES else COMBINED_TITLES.get(measure, measure)


def short_title(measure: str) -> str:
    """Return the title of a measure for an axis; MRD is over the answer where it does not say otherwise."""
    return SHORT_TITLES.get(measure, title(measure))


def family(measure: str) -> str:
    """Return what kind of measure it is: mrd, length, plain, gradient, imported or combination."""
    if measure in {**MRD_MEASURES, **PART_MEASURES}:
        return "mrd"
    if measure in {**GRADIENT_MEASURES, **RETAIN_MEASURES, **ENTANGLEMENT_MEASURES}:
        return "gradient"
    if measure in COMBINED_TITLES:
        return "combination"
    if measure not in PLAIN_MEASURES:
        return "imported"
    return "length" if measure == LENGTH else "plain"


def _row(
    name: str, together: Combination, measured: pd.DataFrame, costs: Mapping[str, float]
) -> dict[str, object]:
    """Return a combination's row; what is beside ρ is of its predictions averaged over the repeats."""
    rho, outcome = together.held_out, (measured["updates"], measured["censored"].astype(bool))
    # Measures of a family come from the same passes.
    families = {measure: family(measure) for measure in map(str, together.coefficients.index)}
    dearest = {kind: costs[measure] for measure, kind in families.items() if kind != "length"}
    row = standing(rho, together.predictions, measured[LENGTH], *outcome, expected=1)
    if not rho.value > 0:
        # Predictions that go the wrong way are no gain, however far they go.
        row |= UNDEFINED.columns("gain", "gain_") | {"beats_length": False}
    return row | {"measure": name, "p": np.nan, "cost": sum(dearest.values()) or FORWARD}


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with title and family, the best first by |ρ|."""
    table.insert(1, "title", table["measure"].map(title))
    table.insert(2, "family", table["measure"].map(family))
    # A combination that predicts the wrong way round knows nothing.
    merit = table["rho"].abs().mask((table["family"] == "combination") & (table["rho"] < 0), 0.0)
    order = merit.sort_values(ascending=False, kind="stable", na_position="last").index
    return table.loc[order].reset_index(drop=True)


def rows_drawn(table: pd.DataFrame, mrd: str) -> int:
    """Return how many rows of a league a chart shows: the best, and on down to MRD, which it is about."""
    measures = list(table["measure"])
    return max(MOST_DRAWN, measures.index(mrd) + 1 if mrd in measures else 0)
