"""Which samples are expected back: a probability for each, by models that did not see it, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.evidence.league import LENGTH
from analysis.evidence.measurements import Measurements
from analysis.evidence.prediction import standardised
from analysis.evidence.returns import Course
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.censored import concordance
from analysis.statistics.logistic import Calibration, calibration, calibration_table, fit, held_out
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import COURSE

# What is left after unlearning and what was known before, of each sample of the run: few, for few samples.
AFTER = ("accuracy_after", "nll_after", "updates")
BEFORE = ("median_log_odds", LENGTH)
# With fewer that came back, or that did not, nothing is learnt.
LEAST = 10

COLUMNS = ["sample_id", "probability", "back", "left"]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Which samples of a model are expected back after an attack.

    Attributes:
        model: The unlearning run, by its id.
        attack: That they are expected back after.
        refusal: Why there is none; "" where there is one.
        samples: A row per sample that was forgotten when the attack began, the likeliest first: sample_id,
            probability (of samples that were attacked by models that did not see them), back (1, 0; NaN: not
            attacked), left (MA after unlearning).
        bins: Of the samples that were attacked, see `calibration_table`.
        figures: How good the probabilities are; None without any.
        auc_of_left: AUC of MA left alone: a sample at 0.49 lacks little to be back, whatever else is known of it.
    """

    model: str
    attack: str
    refusal: str
    samples: pd.DataFrame
    bins: pd.DataFrame
    figures: Calibration | None
    auc_of_left: Estimate = UNDEFINED


def forecast(course: Course, measurements: Measurements) -> Forecast:
    """Return which samples of a model are expected back after an attack, those of the run that it left out too."""
    table = course.table[course.at_risk]
    back = int(table["back"].sum())
    if min(back, len(table) - back) < LEAST:
        refusal = (
            f"{back} of {len(table)} forgotten samples came back: at least {LEAST} that did and {LEAST} that did "
            "not are needed to foretell it of others"
        )
        return Forecast(course.model, course.attack, refusal, pd.DataFrame(columns=COLUMNS), pd.DataFrame(), None)
    known = _known(course, measurements)
    names = [*AFTER, measurements.mrd_column, *BEFORE]
    # Folds follow the order of the samples, and that of a file is nobody's choice.
    attacked = table.join(known, how="inner").sort_index()
    uncensored = np.zeros(len(attacked), dtype=bool)
    happened, measures = attacked["back"].to_numpy(dtype=bool), attacked[names].to_numpy(np.float64)
    scaled = partial(standardised, "rank")
    probabilities = held_out(measures, happened, scaled)
    # Those that the attack trained on are no forecast either.
    met = measurements.part(COURSE)
    is_own = (met["model"] == course.model) & (met["attack"] == course.attack)
    others = known[~known.index.isin(met.loc[is_own, "sample_id"]) & (known["accuracy_after"] < course.threshold)]
    model = fit(scaled(measures, measures), happened)
    tables = [pd.DataFrame({"probability": probabilities, "back": happened.astype(float)}, index=attacked.index)]
    if len(others):
        expected = model(scaled(measures, others[names].to_numpy(np.float64)))
        tables.append(pd.DataFrame({"probability": expected, "back": np.nan}, index=others.index))
    samples = pd.concat(tables).sort_values("probability", ascending=False, kind="stable")
    samples = samples.assign(left=known["accuracy_after"].reindex(samples.index))
    return Forecast(
        model=course.model,
        attack=course.attack,
        refusal="",
        samples=samples.rename_axis("sample_id").reset_index()[COLUMNS],
        bins=calibration_table(probabilities, happened),
        figures=calibration(probabilities, happened),
        auc_of_left=concordance(attacked["start"], happened.astype(np.float64), uncensored).c,
    )


def _known(course: Course, measurements: Measurements) -> pd.DataFrame:
    """Return what is known of each sample of the run, attacked or not, under its id."""
    outcomes = pd.read_parquet(ExperimentFiles(measurements.directory).outcomes)
    own = outcomes[outcomes["model"] == course.model].set_index("sample_id")
    return own[list(AFTER)].join(measurements.samples.set_index("sample_id")[[measurements.mrd_column, *BEFORE]])
