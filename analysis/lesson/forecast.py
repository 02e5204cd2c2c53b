"""Does it predict: MRD and log-odds of the demo's samples against how many updates each took to forget alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.difficulty import ScoredRun
from analysis.evidence.updates import per_sample
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.censored import spearman
from analysis.statistics.wording import is_flat, with_ends
from mrd_core.dossier.files import Dossier, Part
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.validity import UNLEARNING

# Whether small or large values were to take many updates is left to the figures.
PREDICTORS = {
    "mrd": "MRD",
    "speed": "Speed of the log-odds, a part of MRD",
    "curvature": "Curvature, a part of MRD",
    "median_log_odds": "Median log-odds",
    "n_tokens": "Length",
}
FIVE = 5


@dataclass(frozen=True, eq=False)
class Forecast:
    """What was measured.

    Attributes:
        table: A row per sample that was unlearned alone: sample_id, prompt, answer, updates, and `PREDICTORS`.
        rho: Spearman's ρ of each of `PREDICTORS` with updates.
    """

    table: pd.DataFrame
    rho: dict[str, Estimate]

    @property
    def correlations(self) -> pd.DataFrame:
        """The correlations as a table: measure, rho, low, high."""
        rows = [{"measure": PREDICTORS[name], **each.columns("rho")} for name, each in self.rho.items()]
        return pd.DataFrame(rows)

    @property
    def five(self) -> pd.DataFrame:
        """Five samples with short answers, evenly along the updates that they took, in the order of their ids."""
        short = self.table[self.table["n_tokens"] <= self.table["n_tokens"].median()]
        ranked = short.sort_values(["updates", "sample_id"], ignore_index=True)
        return ranked.iloc[np.linspace(0, len(ranked) - 1, FIVE).round().astype(int)].sort_values("sample_id")


def forecast(dossier: Dossier) -> Forecast:
    """Return the demo's samples that were unlearned alone, and what foretold their updates."""
    run = ScoredRun(dossier.run(Part.SCORE))
    rows = ExperimentFiles(dossier.run(Part.VALIDITY)).read_rows()
    outcomes = per_sample(rows[rows["part"] == UNLEARNING.name])
    scores = run.scores[["sample_id", "mrd", "speed", "curvature", "n_tokens"]]
    assert run.measures is not None  # this version wrote them
    measures = run.measures[["sample_id", "median_log_odds"]]
    table = outcomes.merge(scores, on="sample_id").merge(measures, on="sample_id")
    table = table.merge(run.samples[["sample_id", "prompt", "answer"]], on="sample_id")
    rho = {name: spearman(table[name], table["updates"], table["censored"]) for name in PREDICTORS}
    return Forecast(table, rho)


def by_hand(five: pd.DataFrame, order: Sequence[str]) -> str:
    """Say how an order by hand, most updates first, goes with the updates of five samples, beside the measures."""
    rows = five.set_index("sample_id").loc[list(order)]
    orders = pd.DataFrame(
        {
            "your order": -np.arange(len(rows)),
            "MRD, small first": -rows["mrd"],
            "log-odds, large first": rows["median_log_odds"],
        },
        rows.index,
    )
    rho = orders.corrwith(rows["updates"], method="spearman")
    figures = [f"{name} {value:+.1f}".replace(" -", " −") for name, value in rho.items()]
    return f"Rank correlation with the updates of these five: {', '.join(figures)}."


def conclusion(of_demo: Forecast) -> str:
    """Say what foretells updates on the demo, whichever way it is."""
    mrd, odds = of_demo.rho["mrd"], of_demo.rho["median_log_odds"]
    n = len(of_demo.table)
    if mrd.excludes_zero:
        answer = "Yes, as the paper says" if mrd.value < 0 else "The other way round"
    else:
        answer = "No, or weakly at most" if is_flat(mrd) else "It cannot be told"
    return " ".join(
        [
            f"Does MRD foretell updates on the demo? {answer}: {with_ends(mrd)} over {n} samples.",
            _parts(of_demo),
            "What updates have to overcome is how sure the model is: the median log-odds of the answer's tokens, "
            f"which one forward pass shows, has {with_ends(odds)}.",
        ]
    )


def _parts(of_demo: Forecast) -> str:
    """Say whether the parts of MRD contradict each other."""
    speed, curvature = of_demo.rho["speed"], of_demo.rho["curvature"]
    figures = f"the speed has {with_ends(speed)}, the curvature {with_ends(curvature)}"
    if speed.value * curvature.value < 0:
        return f"MRD adds up parts that contradict each other here: {figures}."
    return f"Its parts say the same: {figures}."
