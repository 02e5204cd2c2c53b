"""What foretells which samples come back: every measure from before unlearning, and what unlearning left.

Three outcomes are held against each measure, over the samples that were forgotten when an attack began: the gain
of MA, the level of MA with what was left at the start held, since that alone says most of the level, and the step
at which a sample is first back. Gain and level are less those of the retrained reference where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.evidence.league import CHEAP_MEASURES, LENGTH, MRD_OF_COMBINATION, family, short_title
from analysis.evidence.measurements import Measurements, estimate_at
from analysis.evidence.prediction import Combination, combination
from analysis.evidence.returns import Course, beside_reference
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.censored import gain as gain_over
from analysis.statistics.censored import partial, spearman
from mrd_core.errors import UserError
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import START
from mrd_core.scoring.measures import FORWARD, MEASURES

RESIDUE = "residue"
# Of what unlearning left, and of what it did: title and forward passes.
AFTER: Mapping[str, tuple[str, float]] = {
    "accuracy_left": ("MA left", FORWARD),
    "nll_left": ("NLL left", FORWARD),
    "extraction_left": ("Extraction left", FORWARD),
    "updates": ("Updates received", 0.0),
    "draws": ("Draws", 0.0),
}
BEFORE, LEFT, BOTH = "before", "left", "both"
COMBINED = {
    BEFORE: "Cheap measures and MRD combined",
    LEFT: "All that is left combined",
    BOTH: "Both combined",
}
MEAN = "mean over models"
OUTCOMES = ("gain", "level", "step")


@dataclass(frozen=True, eq=False)
class ReturnLeague:
    """How well each measure foretells what comes back of a model in an attack.

    Attributes:
        table: A row per measure, the best first by |ρ| with the gain: measure, title, family (as in `League`, and
            residue), rho, low, high (with the gain), n, partial, … (length held), level, … (with the level, MA
            left held), step, … (with the step of the return, those that did not return tied at the end),
            step_censored, cost.
        adds: ρ of both combined less that of what is left alone, of held-out predictions of the gain.
    """

    table: pd.DataFrame
    adds: Estimate

    def estimate(self, measure: str, value: str = "rho", prefix: str = "") -> Estimate:
        """Return an estimate of a measure; undefined for one that takes no part."""
        rows = self.table[self.table["measure"] == measure]
        return UNDEFINED if rows.empty else estimate_at(rows.iloc[0], value, prefix)


def outcomes_of(course: Course, courses: Iterable[Course], measurements: Measurements) -> pd.DataFrame:
    """Return a row per sample that was forgotten at the first look: outcomes, measures from before and after.

    Columns: those of `returns.beside_reference`, sample_id, those of `AFTER` and of `Measurements.samples`.
    """
    table = beside_reference(course, courses)
    table = table[table["at_risk"]].rename_axis("sample_id").reset_index()
    start = measurements.part(START)
    left = start[start["model"] == course.model].rename(
        columns={name: f"{name}_left" for name in ("accuracy", "nll", "extraction")}
    )
    done = pd.read_parquet(
        ExperimentFiles(measurements.directory).outcomes, columns=["model", "sample_id", "updates", "draws"]
    )
    after = left[["sample_id", "accuracy_left", "nll_left", "extraction_left"]].merge(
        done[done["model"] == course.model].drop(columns="model"), on="sample_id", how="left"
    )
    return table.merge(after, on="sample_id", how="left").merge(measurements.samples, on="sample_id", how="left")


def over_models(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the outcomes of several models as one: their ranks within each model, mean over the models.

    What differs from model to model is ranked, what was known before is the same in all.
    """
    ranked = ["excess_gain", "excess_end", "start", "step", *AFTER]
    stacked = pd.concat(
        [
            table.assign(
                # Those that did not return are last, together.
                **table.assign(step=table["step"].mask(table["censored"], np.inf))[ranked].rank(pct=True)
            )
            for table in tables
        ],
        ignore_index=True,
    )
    each = stacked.groupby("sample_id", sort=False)
    others = each.first().drop(columns=ranked)
    # A mean of ranks is known, be they of censored samples or not.
    return others.join(each[ranked].mean()).assign(censored=False).reset_index()


def return_league(outcomes: pd.DataFrame, draws: int, imported: Mapping[str, str]) -> ReturnLeague:
    """Rank all measures that vary over the samples by what they say of the gain.

    Args:
        outcomes: Of `outcomes_of`, or of several models.
        draws: Evaluations of MRD, for its cost.
        imported: Titles of measures from elsewhere, by column.
    """
    rows = [
        _row(name, outcomes[name], outcomes)
        for name in (*MEASURES, *imported, *AFTER)
        if name in outcomes and outcomes[name].nunique() > 1
    ]
    combined = dict(_combined(outcomes))
    rows += [_row(name, pd.Series(each.predictions), outcomes, each) for name, each in combined.items()]
    table = pd.DataFrame(rows)
    if table.empty:
        return ReturnLeague(pd.DataFrame(columns=["measure", "rho", "low", "high", "n"]), UNDEFINED)
    titles = {name: each for name, (each, _) in AFTER.items()} | COMBINED | dict(imported)
    families = dict.fromkeys(AFTER, RESIDUE) | dict.fromkeys(COMBINED, "combination")
    table.insert(1, "title", [titles.get(name) or short_title(name) for name in table["measure"]])
    table.insert(2, "family", [families.get(name) or family(name) for name in table["measure"]])
    table["cost"] = [_cost(name, draws) for name in table["measure"]]
    order = table["rho"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    adds = UNDEFINED
    if LEFT in combined and BOTH in combined:
        adds = gain_over(
            combined[BOTH].predictions,
            combined[LEFT].predictions,
            outcomes["excess_gain"],
            _nothing(outcomes),
            signed=True,
        )
    return ReturnLeague(table.loc[order].reset_index(drop=True), adds)


def _row(
    name: str, values: pd.Series[float], outcomes: pd.DataFrame, together: Combination | None = None
) -> dict[str, object]:
    known, censored = _nothing(outcomes), outcomes["censored"].astype(bool)
    rho = together.held_out if together else spearman(values, outcomes["excess_gain"], known)
    step = spearman(values, outcomes["step"], censored)
    held = UNDEFINED
    if name != LENGTH:
        held = partial(values, outcomes["excess_gain"], known, [outcomes[LENGTH]])
    level = UNDEFINED
    if name != "accuracy_left":
        level = partial(values, outcomes["excess_end"], known, [outcomes["start"]])
    return {
        "measure": name,
        **rho.columns("rho"),
        "n": rho.n,
        **held.columns("partial", "partial_"),
        **level.columns("level", "level_"),
        **step.columns("step", "step_"),
        "step_censored": step.n_censored,
    }


def _combined(outcomes: pd.DataFrame) -> Iterable[tuple[str, Combination]]:
    before, left = (
        [name for name in names if name in outcomes and outcomes[name].nunique() > 1]
        for names in ((*CHEAP_MEASURES, *MRD_OF_COMBINATION), AFTER)
    )
    for name, columns in ((BEFORE, before), (LEFT, left), (BOTH, [*before, *left])):
        # A small experiment is shown without. The model is of log(1 + y): of the gain itself, so made.
        with suppress(UserError):
            if columns:
                yield name, combination(outcomes[columns], np.expm1(outcomes["excess_gain"]), _nothing(outcomes))


def _nothing(outcomes: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return that nothing is censored: gains and levels are known of all samples."""
    return np.zeros(len(outcomes), dtype=bool)


def _cost(name: str, draws: int) -> float:
    if name in AFTER:
        return AFTER[name][1]
    return MEASURES[name].cost(draws) if name in MEASURES else np.nan
