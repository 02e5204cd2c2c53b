"""Why MRD predicts updates or does not: where the runs stop, and what MRD shares with length and loss."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.evidence.league import LENGTH
from analysis.evidence.measurements import Measurements
from analysis.evidence.updates import per_sample, until, with_something_to_forget
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
    stopped = {
        threshold: with_something_to_forget(until(rows, threshold))
        for threshold in EARLIER_STOPS
        if threshold > own
    } | {own: rows}
    table = []
    for threshold, ended in stopped.items():
        measured = per_sample(ended).merge(measurements.samples, on="sample_id")
        outcome = measured["updates"], measured["censored"].astype(bool)
        measures = (measurements.mrd_column, "nll", LENGTH)
        table += [(threshold, measure, *spearman(measured[measure], *outcome)) for measure in measures]
    return pd.DataFrame(table, columns=["threshold", "measure", *FIGURES])


def relations(measured: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return what MRD shares with length and loss, and what is left of it without them; for mean and for sum.

    Args:
        measured: A row per sample: updates, censored, and the columns of `MEASURES`.
        column: That of MRD.

    Returns:
        A row per relation: measure, relation, rho, low, high, n, n_censored.
    """
    sibling = f"{column.rpartition('_')[0]}_{'sum' if column.endswith('mean') else 'mean'}"
    length, nll = measured[LENGTH], measured["nll"]
    outcome = measured["updates"], measured["censored"].astype(bool)
    nothing = np.zeros(len(measured), dtype=bool)
    rows = []
    for measure in (column, sibling):
        mrd = measured[measure]
        rhos = {
            "MRD and updates": spearman(mrd, *outcome),
            "MRD and length": spearman(mrd, length, nothing),
            "MRD and mean NLL": spearman(mrd, nll, nothing),
            "length and updates": spearman(length, *outcome),
            "mean NLL and updates": spearman(nll, *outcome),
            "MRD and updates, length held": partial(mrd, *outcome, [length]),
            "MRD and updates, mean NLL held": partial(mrd, *outcome, [nll]),
            "MRD and updates, both held": partial(mrd, *outcome, [length, nll]),
        }
        rows += [(measure, relation, *rho) for relation, rho in rhos.items()]
    return pd.DataFrame(rows, columns=["measure", "relation", *FIGURES])
