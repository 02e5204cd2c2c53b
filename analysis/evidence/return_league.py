"""What foretells which samples come back: every measure from before unlearning, and what unlearning left.

Three outcomes are held against each measure, over the samples that were forgotten when an attack began: the gain
of MA, the level of MA with what was left at the start held, since that alone says most of the level, and the step
at which a sample is first back. Gain and level are less those of the retrained reference where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.evidence.league import CHEAP_MEASURES, LENGTH, MRD_OF_COMBINATION, family, short_title
from analysis.evidence.measurements import Measurements, estimate_at
from analysis.evidence.prediction import Combination, combination
from analysis.evidence.returns import Course, beside_reference
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.censored import Relation, mean_partial, partial
from analysis.statistics.censored import gain as gain_over
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
# In the mean a model counts as much as any other, and a correlation over fewer samples is mostly chance.
LEAST = 10


@dataclass(frozen=True, eq=False)
class ReturnLeague:
    """How well each measure foretells what comes back of a model in an attack.

    Attributes:
        table: A row per measure, the best first by |ρ| with the gain: measure, title, family (as in `League`, and
            residue), rho, low, high (with the gain), n, partial, … (length held), level, … (with the level, MA
            left held), step, … (with the step of the return, those that did not return tied at the end),
            step_censored, cost.
        adds: ρ of both combined less that of what is left alone, of held-out predictions of the gain.
        outcomes: A row per sample: what was foretold, every measure, and what the combinations predict.
        models: How many it speaks of.
    """

    table: pd.DataFrame
    adds: Estimate
    outcomes: pd.DataFrame
    models: int = 1

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


def return_league(outcomes: pd.DataFrame, draws: int, imported: Mapping[str, str]) -> ReturnLeague:
    """Rank all measures that vary over the samples by what they say of the gain.

    Args:
        outcomes: Of `outcomes_of`.
        draws: Evaluations of MRD, for its cost.
        imported: Titles of measures from elsewhere, by column.
    """
    combined = dict(_combined(outcomes))
    predicted = outcomes.assign(**{name: each.predictions for name, each in combined.items()})
    held_out = {name: each.held_out for name, each in combined.items()}
    table = _ranked([_row(name, predicted, held_out.get(name)) for name in _taking_part(predicted, imported)])
    adds = UNDEFINED
    if LEFT in combined and BOTH in combined:
        gained, known = outcomes["excess_gain"], _nothing(outcomes)
        adds = gain_over(predicted[BOTH], predicted[LEFT], gained, known, signed=True)
    return ReturnLeague(_described(table, draws, imported), adds, predicted)


def mean_league(leagues: Sequence[ReturnLeague], draws: int, imported: Mapping[str, str]) -> ReturnLeague:
    """Rank all measures by the mean over models of what they say of the gain, of each within its own model.

    Models that had forgotten fewer than `LEAST` samples take no part. Samples are resampled in all models at once.
    Combinations take part with their predictions for samples that they did not see, averaged over the repeats.

    Args:
        leagues: Of each model.
        draws: Evaluations of MRD, for its cost.
        imported: Titles of measures from elsewhere, by column.
    """
    leagues = [league for league in leagues if len(league.outcomes) >= LEAST]
    if not leagues:
        return ReturnLeague(_ranked([]), UNDEFINED, pd.DataFrame(), 0)
    # Sorted, so that an interval does not depend on the order of a file.
    ids = pd.Index(pd.unique(pd.concat([league.outcomes["sample_id"] for league in leagues]))).sort_values()
    names = dict.fromkeys(name for league in leagues for name in _taking_part(league.outcomes, imported))
    rows, parts = [], dict[str, str]()
    for name in names:
        tables = [league.outcomes for league in leagues if name in league.outcomes]

        def mean(
            outcome: str, control: str = "", tables: list[pd.DataFrame] = tables, name: str = name
        ) -> tuple[Estimate, int]:
            relations = [
                Relation(
                    samples=ids.get_indexer(pd.Index(table["sample_id"])),
                    x=table[name],
                    updates=table[outcome],
                    censored=table["censored"] if outcome == "step" else _nothing(table),
                    controls=[table[control]] if control else [],
                )
                for table in tables
            ]
            return mean_partial(relations)

        rho, models = mean("excess_gain")
        rows.append(_figures(name, rho, lambda *of, mean=mean: mean(*of)[0]))
        if models < len(leagues):
            parts[name] = f" ({models} of {len(leagues)} models)"
    table = _described(_ranked(rows), draws, imported)
    table["title"] += [parts.get(name, "") for name in table["measure"]]
    return ReturnLeague(table, UNDEFINED, pd.DataFrame(), len(leagues))


def _taking_part(outcomes: pd.DataFrame, imported: Mapping[str, str]) -> list[str]:
    names = (*MEASURES, *imported, *AFTER, *COMBINED)
    return [name for name in names if name in outcomes and outcomes[name].nunique() > 1]


def _row(name: str, outcomes: pd.DataFrame, held_out: Estimate | None) -> dict[str, object]:
    censored = outcomes["censored"].astype(bool)

    def relation(outcome: str, control: str = "") -> Estimate:
        ended = censored if outcome == "step" else _nothing(outcomes)
        return partial(outcomes[name], outcomes[outcome], ended, [outcomes[control]] if control else [])

    return _figures(name, held_out or relation("excess_gain"), relation)


def _figures(name: str, rho: Estimate, relation: Callable[..., Estimate]) -> dict[str, object]:
    """Return a row of the league; what is held against itself is undefined."""
    held = relation("excess_gain", LENGTH) if name != LENGTH else UNDEFINED
    level = relation("excess_end", "start") if name != "accuracy_left" else UNDEFINED
    step = relation("step")
    return {
        "measure": name,
        **rho.columns("rho"),
        "n": rho.n,
        **held.columns("partial", "partial_"),
        **level.columns("level", "level_"),
        **step.columns("step", "step_"),
        "step_censored": step.n_censored,
    }


def _ranked(rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    if table.empty:
        return pd.DataFrame(columns=["measure", "rho", "low", "high", "n"])
    order = table["rho"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    return table.loc[order].reset_index(drop=True)


def _described(table: pd.DataFrame, draws: int, imported: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows with title, family and cost."""
    titles = {name: each for name, (each, _) in AFTER.items()} | COMBINED | dict(imported)
    families = dict.fromkeys(AFTER, RESIDUE) | dict.fromkeys(COMBINED, "combination")
    table.insert(1, "title", [titles.get(name) or short_title(name) for name in table["measure"]])
    table.insert(2, "family", [families.get(name) or family(name) for name in table["measure"]])
    table["cost"] = [_cost(name, draws) for name in table["measure"]]
    return table


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
