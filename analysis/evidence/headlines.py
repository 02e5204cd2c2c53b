"""What a validity experiment says of MRD in one line an arm: the badges of other pages. Quick to work out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.evidence.measurements import Measurements, read_measurements
from analysis.evidence.updates import Spread, per_sample, spread, with_something_to_forget
from analysis.statistics.bootstrap import LEAST_SAMPLES, UNDEFINED, Estimate
from analysis.statistics.censored import spearman
from analysis.statistics.wording import Outcome, in_figures, is_flat, verdict
from mrd_core.experiments.kinds.validity import UNLEARNING, ValidityConfig

# Hard samples have a small MRD: they are expected to take many updates.
EXPECTED_OF_MRD = -1
# For one forward pass it said most of updates by gradient ascent with AdamW on three models (docs/findings.md).
RIVAL = "median_log_odds"


@dataclass(frozen=True)
class Headline:
    """What an arm says of MRD, and of what takes one forward pass.

    Attributes:
        arm: Name of method and optimiser, such as NPO (AdamW).
        method: Of the arm.
        optimiser: Of the arm.
        measure: Column of MRD.
        estimate: Spearman's ρ with updates.
        outcome: What it shows.
        text: The same in one line.
        rival: ρ of `RIVAL` with updates; undefined where it was not measured.
    """

    arm: str
    method: str
    optimiser: str
    measure: str
    estimate: Estimate
    outcome: Outcome
    text: str
    rival: Estimate = UNDEFINED


def arm_rows(measurements: Measurements) -> dict[str, pd.DataFrame]:
    """Return the unlearnings of each arm by its name, in the order of the configuration.

    Samples with nothing to forget are left out, see `updates.with_something_to_forget`.
    """
    by_arm = measurements.part(UNLEARNING).groupby("arm", sort=False)
    return {str(arm): with_something_to_forget(rows).reset_index(drop=True) for arm, rows in by_arm}


def headlines(directory: Path) -> list[Headline]:
    """Return what a validity experiment says of MRD so far, a line per arm; none for any other experiment.

    Raises:
        UserError: It is no directory of an experiment.
    """
    measurements = read_measurements(directory)
    if not isinstance(measurements.config, ValidityConfig):
        return []
    return [headline(arm, rows, per_sample(rows), measurements) for arm, rows in arm_rows(measurements).items()]


def headline(arm: str, rows: pd.DataFrame, outcomes: pd.DataFrame, measurements: Measurements) -> Headline:
    """Return what an arm says of MRD, from its rows and what `updates.per_sample` made of them."""
    joined = outcomes.merge(measurements.samples[["sample_id", measurements.mrd_column, RIVAL]], on="sample_id")
    outcome = joined["updates"], joined["censored"].astype(bool)
    rho, rival = (spearman(joined[measure], *outcome) for measure in (measurements.mrd_column, RIVAL))
    reason, figures = unknown_because(spread(rows, outcomes), rho), in_figures(rho)
    if reason:
        text = f"Cannot tell whether MRD predicts updates: {reason}"
    elif rho.excludes_zero:
        text = f"MRD predicts {'updates' if rho.value * EXPECTED_OF_MRD > 0 else 'the opposite'}: {figures}"
    elif is_flat(rho):
        text = f"MRD does not predict updates, or weakly at most: {figures}"
    else:
        text = f"Cannot tell whether MRD predicts updates: {figures}"
    return Headline(
        arm=arm,
        method=str(rows["method"].iloc[0]),
        optimiser=str(rows["optimiser"].iloc[0]),
        measure=measurements.mrd_column,
        estimate=rho,
        outcome=verdict(rho, EXPECTED_OF_MRD),
        text=f"{text}, {arm}",
        rival=rival,
    )


def unknown_because(updates: Spread, rho: Estimate) -> str:
    """Return why nothing can be said of an arm; "" where something can."""
    if updates.n == 0:
        return "every run diverged"
    if updates.n < LEAST_SAMPLES:
        return f"{updates.n} samples are not enough"
    if updates.n_censored == updates.n:
        return f"none of {updates.n} samples was forgotten before the cap"
    if updates.distinct == 1:
        return f"all {updates.n} samples took the same number of updates"
    return "" if np.isfinite(rho.low) else f"n = {rho.n}"
