"""What shows of forgotten samples without training: after rounding, in the best of many answers, once begun.

All samples that were studied count here, those that were not forgotten among them: what is asked is what the model
as it stands gives away. What the retrained reference gives away in the same way is subtracted, sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy import special

from analysis.evidence.measurements import Measurements
from analysis.statistics.bootstrap import UNDEFINED, Estimate, mean_estimate
from mrd_core.arrays import FloatArray
from mrd_core.experiments.kinds.durability import PROMPTED, REFERENCE, ROUND_TRIP, SAMPLED, START

# By sample id.
Values = pd.Series


def best_of(scores: FloatArray, k: int) -> FloatArray:
    """Return the expected best of k answers of each sample, unbiased, shape (N,).

    Σ_j s_(j) C(j−1, k−1) / C(n, k) over the n scores in ascending order: the mean over all subsets of k.

    Args:
        scores: Of n answers to each of N samples, shape (N, n).
        k: At most n.
    """
    n = scores.shape[1]
    weights = special.comb(np.arange(n), k - 1) / special.comb(n, k)
    best: FloatArray = np.sort(scores, axis=1) @ weights
    return best


def round_trips(measurements: Measurements) -> pd.DataFrame:
    """Return what rounding the weights brings back: model, bits, recovery (of MA), low, high, excess, …, nll, n.

    Recovery is MA of the rounded weights less MA of the weights; nll the same of NLL, which falls where something
    comes back.
    """
    start, rounded = measurements.part(START), measurements.part(ROUND_TRIP)
    both = rounded.merge(start, on=["model", "sample_id"], suffixes=("", "_start"))
    for name in ("accuracy", "nll"):
        both[name] -= both.pop(f"{name}_start")
    losses = both.groupby(["model", "bits"])["nll"].mean()
    table = _by(both, "bits", "recovery", lambda rows: rows.set_index("sample_id")["accuracy"])
    return table.assign(nll=[losses.get((row.model, row.bits), np.nan) for row in table.itertuples()])


def leaks(measurements: Measurements) -> pd.DataFrame:
    """Return leak@k for k = 1, 2, 4, …, n: model, k, leak (mean over samples), low, high, excess, …, n, draws."""
    by_model = {
        str(model): rows.pivot_table(index="sample_id", columns="draw", values="rouge", sort=False).dropna()
        for model, rows in measurements.part(SAMPLED).groupby("model", sort=False)
    }
    rows = []
    for model, scores in by_model.items():
        draws = scores.shape[1]
        for k in dict.fromkeys((*(1 << power for power in range(draws.bit_length())), draws)):
            values = {
                name: pd.Series(best_of(each.to_numpy(), k), each.index)
                for name, each in by_model.items()
                if name in (model, REFERENCE) and k <= each.shape[1]
            }
            rows.append({"model": model, "k": k} | _beside(values, model, "leak") | {"draws": draws})
    return pd.DataFrame(rows)


def prompted(measurements: Measurements) -> pd.DataFrame:
    """Return how much of an answer is written: model, given, rouge (mean), low, high, excess, …, n.

    `given` is how many of its tokens were given; NaN stands for a paraphrased question.
    """
    rows = measurements.part(PROMPTED)
    return _by(rows, "given", "rouge", lambda own: own.dropna(subset=["rouge"]).set_index("sample_id")["rouge"])


def _by(rows: pd.DataFrame, column: str, name: str, values: Callable[[pd.DataFrame], Values]) -> pd.DataFrame:
    """Return an estimate for each model and value of a column, beside that of the reference."""
    groups = {
        (str(model), float(level)): values(own)  # type: ignore[arg-type]
        for (model, level), own in rows.groupby(["model", column], sort=False, dropna=False)
    }
    # NaN is a level of its own, equal to none.
    of_reference = {repr(level): own for (model, level), own in groups.items() if model == REFERENCE}
    table = []
    for (model, level), own in groups.items():
        both = {model: own} | ({REFERENCE: of_reference[repr(level)]} if repr(level) in of_reference else {})
        table.append({"model": model, column: level} | _beside(both, model, name))
    return pd.DataFrame(table)


def _beside(values: Mapping[str, Values], model: str, name: str) -> dict[str, float]:
    """Return the mean of a model's values, and that of their differences from the reference's."""
    own, excess = values[model], UNDEFINED
    if model != REFERENCE and REFERENCE in values:
        excess = mean_estimate((own - values[REFERENCE].reindex(own.index)).to_numpy())
    middle: Estimate = mean_estimate(own.to_numpy())
    return middle.columns(name) | excess.columns("excess", "excess_") | {"n": middle.n}
