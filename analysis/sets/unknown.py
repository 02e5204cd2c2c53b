"""Samples that the model does not know, in comparisons of difficulty: there is nothing to forget in them.

MRD is smaller for them, as if they were harder (docs/findings.md), so a set that holds many of them looks hard.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mrd_core.scoring.measures import KNOWN

ACCURACY = "exact_memorization"
# Up to this share of a side a comparison stands, with a caveat.
FEW = 0.05


def is_much(accuracy: Mapping[str, pd.Series[float]]) -> bool:
    """Tell whether so much of a side is not known that its MRD says nothing beside another's; as `caveat`."""
    return any(_unknown(values) > FEW * values.count() for values in accuracy.values())


def caveat(accuracy: Mapping[str, pd.Series[float]]) -> str:
    """Return how many samples are not known and what that does to MRD, in a sentence; "" where all are known.

    Args:
        accuracy: Memorization accuracy (MA) of samples, NaN where it was not measured, by what they are called,
            such as `samples of the set`.
    """
    told = " and ".join(
        f"{_unknown(values)} of the {values.count()} {name}"
        for name, values in accuracy.items()
        if _unknown(values)
    )
    smaller = "and MRD is smaller for what was never learnt, as if it were harder to forget."
    if told:
        return f"The model does not know {told} (MA below {KNOWN:g}), {smaller}"
    unmeasured = " and ".join(name for name, values in accuracy.items() if len(values) and not values.count())
    return f"Whether the model knows the {unmeasured} was not measured, {smaller}" if unmeasured else ""


def no_verdict(told: str) -> str:
    """Return why sets are not compared, from their `caveat`."""
    return f"No verdict: {told[0].lower()}{told[1:]} Compare those that it knows."


def accuracy_in(table: pd.DataFrame) -> pd.Series[float]:
    """Return MA of the samples of a table, a row each; NaN where it was not measured."""
    return table[ACCURACY] if ACCURACY in table else pd.Series(np.nan, table.index)


def _unknown(accuracy: pd.Series[float]) -> int:
    return int((accuracy < KNOWN).sum())
