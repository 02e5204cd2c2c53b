"""What makes a sample hard: characteristics of the demo's samples against their MRD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from analysis.characteristics.files import CharacteristicsFiles
from analysis.difficulty import ScoredRun, Variant, measured, tie
from analysis.statistics.bootstrap import Estimate
from mrd_core.dossier.files import Dossier, Part
from mrd_core.errors import UserError


class Characteristic(NamedTuple):
    """What is guessed about.

    Attributes:
        title: Of the figure.
        column: Of the reading or of the scores.
        low: What samples are called that have little of it.
        high: What those are called that have much of it.
    """

    title: str
    column: str
    low: str
    high: str


CHARACTERISTICS = (
    Characteristic("Length of the answer", "n_tokens", "Short answers", "Long answers"),
    Characteristic("Training count", "training_count", "Answers seen seldom", "Answers seen often"),
    Characteristic("Rare words", "rare_words", "Answers in everyday words", "Answers with rare words"),
    Characteristic("Clauses a sentence", "clauses_per_sentence", "Plain sentences", "Nested sentences"),
)
NOTHING = "None of these"
GUESSES = (*(guess for each in CHARACTERISTICS for guess in (each.low, each.high)), NOTHING)
Ties = Mapping[Characteristic, Estimate]


def ties(dossier: Dossier) -> Ties:
    """Return Spearman's ρ of each characteristic with MRD over the demo's samples; where it grows, much is easy.

    Raises:
        UserError: The reading is gone.
    """
    run = ScoredRun(dossier.run(Part.SCORE))
    readings = sorted(run.files.readings.glob("*/features.parquet"))
    if not readings:
        raise UserError("The reading of the demo", "is gone.", "Install the program anew.")
    features, _ = CharacteristicsFiles(readings[0].parent).read_features()
    table = run.scores[["sample_id", "n_tokens"]].merge(features, on="sample_id", validate="one_to_one")
    of_mrd = measured(run, Variant(), table["sample_id"])
    return {each: tie(table, each.column, of_mrd) for each in CHARACTERISTICS}


def hard(each: Characteristic, rho: Estimate) -> str:
    """Return what the samples are called whose MRD is small by this characteristic; "" where that is not clear."""
    if not rho.excludes_zero:
        return ""
    return each.low if rho.value > 0 else each.high


def hardest(of_demo: Ties) -> str:
    """Return the guess that is right: what goes most with a small MRD; `NOTHING` where nothing clearly does."""
    clear = {each: abs(rho.value) for each, rho in of_demo.items() if rho.excludes_zero}
    most = max(clear, key=lambda each: clear[each], default=None)
    return hard(most, of_demo[most]) if most else NOTHING


def table_of(of_demo: Ties) -> pd.DataFrame:
    """Return the correlations as a table: characteristic, rho, low, high."""
    return pd.DataFrame([{"characteristic": each.title, **rho.columns("rho")} for each, rho in of_demo.items()])


def conclusion(of_demo: Ties) -> str:
    """Say what goes with a small MRD on the demo, and what cannot be told."""
    clear = {name: rho for each, rho in of_demo.items() if (name := hard(each, rho))}
    unclear = [each.title.lower() for each, rho in of_demo.items() if not rho.excludes_zero]
    order = sorted(clear, key=lambda name: -abs(clear[name].value))
    hardest_first = ", then ".join(f"{name.lower()} (|ρ| = {abs(clear[name].value):.2f})" for name in order)
    parts = [f"Small MRD here: {hardest_first}." if clear else "Nothing of this goes clearly with a small MRD."]
    if unclear:
        parts.append(f"Cannot tell: {', '.join(unclear)}.")
    return " ".join(
        [
            *parts,
            "This is a measurement of one small model, and no law about texts: the paper expects "
            "that what was seen often is hard.",
        ]
    )
