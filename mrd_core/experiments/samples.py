"""The samples that MRD itself is studied on: some of the forget set, drawn at random. Loads no torch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mrd_core.samples import ForgetSet


def drawn(forget_set: ForgetSet, count: int, seed: int) -> ForgetSet:
    """Return `count` samples drawn at random without replacement, in their order; all where there are fewer."""
    order = np.random.default_rng(seed).permutation(len(forget_set))
    return forget_set.subset(pd.Series(order < count))


def drawn_reason(samples: ForgetSet, forget_set: ForgetSet, seed: int) -> str:
    """Return how many samples of how many there are, and why these."""
    why = "all of them" if len(samples) == len(forget_set) else f"drawn at random with seed {seed}"
    return f"{len(samples)} of {len(forget_set)} ({why})"


def unscored_warnings(count: int) -> list[str]:
    """Return a warning where samples have no token that could be scored."""
    if not count:
        return []
    return [f"{count} sample(s) have no answer token that could be scored, and therefore no value."]
