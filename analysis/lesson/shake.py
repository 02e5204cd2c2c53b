"""What MRD measures: how far tokens move under noise, under its opposite, and in the mean of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.difficulty import ScoredRun
from mrd_core.dossier.files import Dossier, Part

HALVES = ("plus", "minus")


class Quiet(NamedTuple):
    """How much the value of a sample differs from seed to seed, at one σ.

    Attributes:
        half: Standard deviation over the seeds of what one half of a pair gives.
        pair: Of what the mean of both halves gives.
        value: Mean over the seeds of what pairs give, without its sign: MRD.
    """

    half: float
    pair: float
    value: float


def shaken(dossier: Dossier) -> pd.DataFrame:
    """Return the stored draws, with what MRD is made of: the relative changes (P_t(θ) − P_t(θ ± δ)) / P_t(θ).

    Columns: those of `mrd_core.dossier.files.SHAKEN`, and relative_plus, relative_minus and their mean, relative.
    """
    draws = pd.read_parquet(dossier.shaken)
    for half in HALVES:
        draws[f"relative_{half}"] = (draws["log_prob"] - draws[half]) / draws["log_prob"]
    return draws.assign(relative=(draws["relative_plus"] + draws["relative_minus"]) / 2)


def samples(dossier: Dossier, draws: pd.DataFrame) -> pd.DataFrame:
    """Return the samples that were shaken, hardest first: sample_id, prompt, answer, mrd, rank, of (samples)."""
    run = ScoredRun(dossier.run(Part.SCORE))
    scores = run.scores[["sample_id", "mrd"]].assign(rank=run.scores["mrd"].rank().astype(int), of=len(run.scores))
    table = scores.merge(run.samples[["sample_id", "prompt", "answer"]], on="sample_id")
    return table[table["sample_id"].isin(draws["sample_id"])].sort_values("rank", ignore_index=True)


def quiet(draws: pd.DataFrame) -> Quiet:
    """Return how much quieter pairs are than halves.

    Args:
        draws: Of one sample at one σ.
    """
    by_seed = draws.groupby("seed")[["relative_plus", "relative"]].mean()
    deviations = by_seed.std()
    return Quiet(deviations["relative_plus"], deviations["relative"], abs(float(by_seed["relative"].mean())))


def conclusion(of_sample: Quiet, sigma: float, seeds: int) -> str:
    """Say what the noise of a half and of a pair is, beside what is measured."""
    times = of_sample.half / of_sample.pair
    swamped = of_sample.half > of_sample.value
    return (
        f"At σ = {sigma:g} MRD is {of_sample.value:.2g}. From one seed to another a single half differs by "
        f"{of_sample.half:.2g}, "
        + ("more than what is to be measured" if swamped else "less than what is to be measured")
        + f"; the mean of a pair differs by {of_sample.pair:.2g}, {times:.0f} times less ({seeds} seeds). What "
        "both halves do alike is what MRD measures; what they do oppositely cancels. A token's move is divided by "
        "how improbable the token was at the start, |P|, so that a token that was certain counts most."
    )


def ends(draws: pd.DataFrame) -> list[float]:
    """Return from where to where the relative changes of a sample go at one σ, whatever the seed."""
    most = float(np.abs(draws[["relative_plus", "relative_minus"]].to_numpy()).max())
    return [-1.1 * most, 1.1 * most]
