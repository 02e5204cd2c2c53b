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


def obstacle(accuracy: Mapping[str, pd.Series[float]]) -> tuple[str, tuple[str, ...]]:
    """Return why sets cannot be compared for what is not known, "" where they can, and what is to be minded.

    Args:
        accuracy: As of `caveat`, for each of the sets.
    """
    told = caveat(accuracy)
    if any(float(np.mean(values < KNOWN)) > FEW for values in accuracy.values() if len(values)):
        return f"No verdict: {told[0].lower()}{told[1:]} Compare those that it knows.", ()
    return "", (told,) if told else ()


def caveat(accuracy: Mapping[str, pd.Series[float]]) -> str:
    """Return how many samples are not known and what that does to MRD, in a sentence; "" where all are known.

    Args:
        accuracy: Memorization accuracy (MA) of samples, NaN where it was not measured, by what they are called,
            such as `samples of the set`.
    """
    counts = {name: int(np.sum(values < KNOWN)) for name, values in accuracy.items()}
    told = " and ".join(f"{count} of the {len(accuracy[name])} {name}" for name, count in counts.items() if count)
    return (
        f"The model does not know {told} (MA below {KNOWN:g}), and MRD is smaller for what was never learnt, as "
        "if it were harder to forget."
        if told
        else ""
    )
