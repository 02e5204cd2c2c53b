"""Who pays when a sample is forgotten: what its gradient has in common with those of a retain set. Loads no torch.

To first order, a step of SGD that ascends on sample i alone changes the NLL of sample r by +η g_i·g_r.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrd_core.arrays import FloatArray

NEAREST = 3


def entanglement(inner: FloatArray, cosines: FloatArray, squared: FloatArray) -> dict[str, FloatArray]:
    """Return a column for each of `measures.ENTANGLEMENT_MEASURES`, shape (N,) each.

    Args:
        inner: g_i·g_r, shape (N, M), M > 0; NaN where a sample has no answer token.
        cosines: The same of the directions, shape (N, M); NaN where a gradient vanishes.
        squared: ‖g_i‖², shape (N,).
    """
    # A gradient that vanishes has no direction, and nothing to do with any other.
    cosines = np.where(np.isnan(inner), np.nan, np.nan_to_num(cosines))
    mean = inner.mean(axis=1)
    return {
        "entanglement": mean,
        "entanglement_max": inner.max(axis=1),
        "entanglement_cosine": cosines.mean(axis=1),
        "entanglement_cosine_max": cosines.max(axis=1),
        "entanglement_price": np.divide(mean, squared, out=np.full_like(mean, np.nan), where=squared > 0),
    }


def nearest(cosines: FloatArray, retain_ids: Sequence[str]) -> list[list[str]]:
    """Return of each sample the ids of the few retain samples (of M) with the largest cosine, best first."""
    order = np.argsort(-np.nan_to_num(cosines), axis=1, kind="stable")[:, :NEAREST]
    return [[retain_ids[place] for place in row] for row in order]
