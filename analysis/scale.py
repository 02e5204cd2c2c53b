"""Whether a value of MRD is large: where its set lies, and where the samples of the demo lie."""

from __future__ import annotations

from functools import cache

import pandas as pd

from analysis.difficulty import Variant
from mrd_core.demo.scale import SCALE
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import Formula, Normalisation

NOT_OF_SIGMA = {
    Formula.MEAN_ABSOLUTE: "the mean absolute variant does not grow with σ² as MRD does",
    Formula.INITIAL: "the initial metric is in nats, and MRD a relative change",
}


def in_words(mrd: pd.Series[float], sigma: float, variant: Variant) -> list[str]:
    """Say where the values of a set lie, and beside it those of the demo where they can be compared.

    MRD grows with σ², so that MRD / σ² is what sets that were scored with another σ have in common.

    Args:
        mrd: Of each sample; none where it is undefined for all.
        sigma: Standard deviation σ of the noise.
        variant: Which scores these are.

    Returns:
        A sentence or two; none for no value.
    """
    values = mrd.dropna()
    if values.empty:
        return []
    low, lower, upper, high = map(_figure, values.quantile([0.1, 0.25, 0.75, 0.9]))
    of_set = f"MRD here: a tenth below {low}, half from {lower} to {upper}, a tenth above {high}."
    reason = NOT_OF_SIGMA.get(variant.formula)
    if reason is None and variant.normalisation is Normalisation.SUM:
        reason = "a sum grows with the length of the texts"
    if reason is not None:
        return [of_set, f"The demo's samples are no scale for it: {reason}."]
    lower, upper = map(_figure, values.quantile([0.25, 0.75]) / sigma**2)
    known, unseen = (_half(samples, variant.scope) for samples in ("known", "unseen"))
    return [
        of_set,
        f"MRD / σ², half of this set: {lower} to {upper}; of what the demo's small model knows by heart: {known}; "
        f"of what it never saw: {unseen}. Another model has a scale of its own.",
    ]


def _half(samples: str, scope: Scope) -> str:
    """Return between which values half of the demo's samples lie."""
    of_demo = _of_demo()
    row = of_demo[(of_demo["samples"] == samples) & (of_demo["scope"] == str(scope))]
    return f"{_figure(row['0.25'].item())} to {_figure(row['0.75'].item())}"


@cache
def _of_demo() -> pd.DataFrame:
    return pd.read_csv(SCALE)


def _figure(value: float) -> str:
    """Return three digits of a value, without a power of ten where it is large."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"
