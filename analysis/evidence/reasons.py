"""Why MRD predicts updates or does not: where the runs stop, and what MRD shares with length and loss."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.evidence.league import LENGTH
from analysis.evidence.measurements import Measurements
from analysis.evidence.updates import per_sample, until
from analysis.statistics.bootstrap import REPLICATES, Estimate
from analysis.statistics.censored import partial, spearman
from mrd_core.experiments.kinds.validity import ValidityConfig

# Of MA: stop conditions that a run has passed on its way.
EARLIER_STOPS = (0.9, 0.75, 0.5)
# An estimate's own, as columns.
FIGURES = ("rho", "low", "high", "n", "n_censored")


def earlier_stops(rows: pd.DataFrame, measurements: Measurements) -> pd.DataFrame:
    """Return how MRD, mean NLL and length go with updates, had the runs been stopped earlier.

    Args:
        rows: The unlearnings of an arm.
        measurements: The experiment, whose own stop condition is the last row's.

    Returns:
        A row per stop and measure: threshold (of MA), measure, rho, low, high, n, n_censored.
    """
    assert isinstance(measurements.config, ValidityConfig)
    own = measurements.config.accuracy
    stopped = {threshold: until(rows, threshold) for threshold in EARLIER_STOPS if threshold > own} | {own: rows}
    table = [
        (threshold, measure, *rho)
        for threshold, ended in stopped.items()
        for measure, rho in _three(per_sample(ended), measurements).items()
    ]
    return pd.DataFrame(table, columns=["threshold", "measure", *FIGURES])


def _three(outcomes: pd.DataFrame, measurements: Measurements) -> dict[str, Estimate]:
    measured = outcomes.merge(measurements.samples, on="sample_id")
    return {
        name: spearman(measured[name], measured["updates"], measured["censored"].astype(bool), REPLICATES)
        for name in (measurements.mrd_column, "nll", LENGTH)
    }


def relations(measured: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return what MRD shares with length and loss, and what is left of it without them; for mean and for sum.

    Args:
        measured: A row per sample: updates, censored, and the columns of `MEASURES`.
        column: That of MRD.

    Returns:
        A row per relation: measure, relation, rho, low, high, n, n_censored.
    """
    sibling = f"{column.rpartition('_')[0]}_{'sum' if column.endswith('mean') else 'mean'}"
    rows = [
        (measure, relation, *rho)
        for measure in (column, sibling)
        for relation, rho in _relations(measured, measure).items()
    ]
    return pd.DataFrame(rows, columns=["measure", "relation", *FIGURES])


def _relations(measured: pd.DataFrame, column: str) -> dict[str, Estimate]:
    mrd, length, nll = measured[column], measured[LENGTH], measured["nll"]
    outcome, nothing = (
        (measured["updates"], measured["censored"].astype(bool)),
        np.zeros(len(measured), dtype=bool),
    )
    return {
        "MRD and updates": spearman(mrd, *outcome, REPLICATES),
        "MRD and length": spearman(mrd, length, nothing, REPLICATES),
        "MRD and mean NLL": spearman(mrd, nll, nothing, REPLICATES),
        "length and updates": spearman(length, *outcome, REPLICATES),
        "mean NLL and updates": spearman(nll, *outcome, REPLICATES),
        "MRD and updates, length held": partial(mrd, *outcome, [length], REPLICATES),
        "MRD and updates, mean NLL held": partial(mrd, *outcome, [nll], REPLICATES),
        "MRD and updates, both held": partial(mrd, *outcome, [length, nll], REPLICATES),
    }
