"""Every measure of difficulty, and combinations of the cheap ones, ranked by how well they predict updates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from analysis.evidence.measurements import estimate_at
from analysis.evidence.prediction import Combination, combination
from analysis.statistics.bootstrap import REPLICATES, UNDEFINED, Estimate
from analysis.statistics.censored import concordance, gain, league, partial, verdict
from mrd_core.errors import UserError
from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import MRD_ANSWER_MEAN, MRD_ANSWER_SUM, mrd_column
from mrd_core.scoring.config import Formula, Normalisation
from mrd_core.scoring.measures import FORWARD, GRADIENT_MEASURES, MEASURES, MRD_MEASURES, PLAIN_MEASURES

LENGTH = "answer_tokens"
CHEAP, WITH_MRD = "combination", "combination_with_mrd"
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
    WITH_MRD: "Cheap measures and MRD",
}
# Of the variants, those of Eq. 4 over the answer: mean and sum tell all that the others of that scope do.
MRD_OF_COMBINATION = (MRD_ANSWER_MEAN, MRD_ANSWER_SUM)
EXPECTED = {name: {"small": -1, "large": 1, "unknown": 0}[measure.harder] for name, measure in MEASURES.items()}


# What is cheap for everybody: few know how often a sample was trained on.
CHEAP_MEASURES = tuple(name for name in (*PLAIN_MEASURES, *GRADIENT_MEASURES) if name != "training_count")


@dataclass(frozen=True, eq=False)
class League:
    """How well each measure predicts the outcome.

    Attributes:
        table: As `evidence_statistics.league` returns it, with `title` and `family` (mrd, length, plain,
            gradient, combination) behind `measure`; combinations take part with the ρ of cross-validation.
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
        return self._estimate(measure, "rho", "low", "high")

    def partial(self, measure: str) -> Estimate:
        """Return what is left of it with length held."""
        return self._estimate(measure, "partial", "partial_low", "partial_high")

    def gain(self, measure: str) -> Estimate:
        """Return its |ρ| less that of length."""
        return self._estimate(measure, "gain", "gain_low", "gain_high")

    def _estimate(self, measure: str, *columns: str) -> Estimate:
        rows = self.table[self.table["measure"] == measure]
        if rows.empty:
            return UNDEFINED
        return estimate_at(rows.iloc[0], *columns)


def league_of(measured: pd.DataFrame, draws: int) -> League:
    """Rank all measures that vary over the samples.

    Args:
        measured: A row per sample: updates, censored, and the columns of `MEASURES`.
        draws: Evaluations of MRD, for its cost.
    """
    updates, censored = measured["updates"], measured["censored"].astype(bool)
    names = [name for name in MEASURES if name in measured and name != LENGTH and measured[name].notna().any()]
    costs = {name: measure.cost(draws) for name, measure in MEASURES.items()}
    length = measured[LENGTH]
    alone = league(measured[names], updates, censored, length, costs, EXPECTED, REPLICATES)
    cheap = _varying(measured, CHEAP_MEASURES)
    sets = {CHEAP: cheap, WITH_MRD: (*cheap, *_varying(measured, MRD_OF_COMBINATION))}
    combined = {name: found for name, columns in sets.items() if (found := _combined(measured, columns))}
    rows = [_row(name, combined[name], measured, _cost(sets[name], draws)) for name in combined]
    table = pd.concat([alone, pd.DataFrame(rows, columns=alone.columns)], ignore_index=True) if rows else alone
    return League(_ordered(_described(table)), combined, _added(combined, updates, censored), cheap)


def title(measure: str) -> str:
    """Return the title of a measure, or of a combination."""
    return MEASURES[measure].title if measure in MEASURES else COMBINED_TITLES.get(measure, measure)


def short_title(measure: str) -> str:
    """Return the title of a measure for an axis; MRD is over the answer where it does not say otherwise."""
    return SHORT_TITLES.get(measure, title(measure))


def family(measure: str) -> str:
    """Return what kind of measure it is: mrd, length, plain, gradient or combination."""
    if measure in MRD_MEASURES:
        return "mrd"
    if measure in GRADIENT_MEASURES:
        return "gradient"
    if measure in COMBINED_TITLES:
        return "combination"
    return "length" if measure == LENGTH else "plain"


def _varying(measured: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in measured and measured[name].nunique() > 1)


def _combined(measured: pd.DataFrame, columns: tuple[str, ...]) -> Combination | None:
    if not columns:
        return None
    try:
        return combination(measured[list(columns)], measured["updates"], measured["censored"], REPLICATES)
    except UserError:
        # A small or a mostly censored experiment: the table is shown without it.
        return None


def _cost(columns: tuple[str, ...], draws: int) -> float:
    """Return what the columns cost together: measures of a family come from the same passes."""
    dearest = {family(name): MEASURES[name].cost(draws) for name in columns if family(name) != "length"}
    return sum(dearest.values()) or FORWARD


def _row(name: str, found: Combination, measured: pd.DataFrame, cost: float) -> dict[str, object]:
    """Return a combination's row; what is beside ρ is of its predictions averaged over the repeats."""
    updates, censored, length = measured["updates"], measured["censored"].astype(bool), measured[LENGTH]
    rho, predicted = found.held_out, found.predictions
    held = partial(predicted, updates, censored, [length], REPLICATES)
    somers = concordance(predicted, updates, censored, REPLICATES).somers_d
    # Predictions that go the wrong way are no gain, however far they go.
    ahead = gain(predicted, length, updates, censored, REPLICATES) if rho.value > 0 else UNDEFINED
    return {
        **{"measure": name, "rho": rho.value, "low": rho.low, "high": rho.high},
        **{"n": rho.n, "n_censored": rho.n_censored, "excludes_zero": rho.excludes_zero, "expected": 1},
        **{"verdict": verdict(rho, 1).outcome, "p": np.nan, "p_holm": np.nan},
        **{"partial": held.value, "partial_low": held.low, "partial_high": held.high},
        **{"somers_d": somers.value, "somers_low": somers.low, "somers_high": somers.high},
        **{"gain": ahead.value, "gain_low": ahead.low, "gain_high": ahead.high, "beats_length": ahead.low > 0},
        "cost": cost,
    }


def _added(combined: dict[str, Combination], updates: pd.Series[float], censored: pd.Series[bool]) -> Estimate:
    if not {CHEAP, WITH_MRD} <= set(combined):
        return UNDEFINED
    without, with_mrd = combined[CHEAP].predictions, combined[WITH_MRD].predictions
    return gain(with_mrd, without, updates, censored, REPLICATES, signed=True)


def _described(table: pd.DataFrame) -> pd.DataFrame:
    described = table.copy()
    described.insert(1, "title", [title(name) for name in table["measure"]])
    described.insert(2, "family", [family(name) for name in table["measure"]])
    return described


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Put the best first by |ρ|; a combination that predicts the wrong way round knows nothing."""
    merit = table["rho"].abs().mask((table["family"] == "combination") & (table["rho"] < 0), 0.0)
    order = merit.sort_values(ascending=False, kind="stable", na_position="last").index
    return table.loc[order].reset_index(drop=True)
