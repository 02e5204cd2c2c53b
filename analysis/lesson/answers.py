"""What unlearning is: the same questions before and after."""

from __future__ import annotations

from functools import reduce

import pandas as pd

from mrd_core.dossier.files import Dossier, Part
from mrd_core.evaluation.files import EvaluationFiles

STAGES = {
    "Before": Part.BEFORE,
    "After, drawn at random": Part.AFTER_UNIFORM,
    "After, drawn by MRD": Part.AFTER_WEIGHTED,
}
SETS = {"forget": "To be forgotten", "retain": "To be kept", "held_out": "Never seen"}
KNOWN = "exact_memorization"


def answers(dossier: Dossier) -> pd.DataFrame:
    """Return a row per question: split, sample_id, prompt, reference, and what the model wrote at each stage."""
    keys = ["split", "sample_id", "prompt", "reference"]
    tables = [
        pd.read_parquet(EvaluationFiles(dossier.run(part)).answers)[[*keys, "generated"]].rename(
            columns={"generated": stage}
        )
        for stage, part in STAGES.items()
    ]
    return reduce(lambda left, right: left.merge(right, on=keys, validate="one_to_one"), tables)


def means(dossier: Dossier, metric: str) -> pd.DataFrame:
    """Return the mean of a metric of evaluations, a row per set and a column per stage."""
    by_set = {}
    for stage, part in STAGES.items():
        values = pd.read_parquet(EvaluationFiles(dossier.run(part)).values, filters=[("metric", "==", metric)])
        by_set[stage] = values.groupby("split")["value"].mean()
    return pd.DataFrame(by_set).loc[list(SETS)]


def known(dossier: Dossier) -> pd.DataFrame:
    """Return the share of answer tokens that each model would write next, a row per set and a column per stage."""
    return means(dossier, KNOWN)


def conclusion(shares: pd.DataFrame) -> str:
    """Say what unlearning did, by the shares of `known`."""
    before, after = (shares[stage] for stage in list(STAGES)[:2])
    kept = after["retain"] >= 0.9 * before["retain"]
    unseen = after["forget"] <= before["held_out"]
    dumber = after["held_out"] < 0.9 * before["held_out"]
    return (
        f"Of the answers to be forgotten the model knew {before['forget']:.0%} of the tokens, and knows "
        f"{after['forget']:.0%} now; of those to be kept {before['retain']:.0%}, now {after['retain']:.0%}. Of "
        f"people it never heard of it guessed {before['held_out']:.0%} right, now {after['held_out']:.0%}. "
        + ("So no more is left than it would guess of strangers" if unseen else "So something is left")
        + (", and the rest was kept" if kept else ", and the rest suffered")
        + (". But it does not fall silent: it has lost some of its language, too." if dumber else ".")
    )
