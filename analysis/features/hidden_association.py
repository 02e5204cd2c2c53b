"""How close a sample lies to others of the forget set in the model's hidden states."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.features.feature import Computed, Feature, Material

NEAREST = 5

_FEWEST = 3
# Samples at a time: with 20,000 samples the cosines of a chunk take 80 MB.
_CHUNK = 1_000

StateArray = npt.NDArray[np.float32]


def hidden_association(material: Material) -> Computed | None:
    """Average the cosine of centred hidden states over the five nearest other samples of the forget set.

    The mean over the samples is subtracted first: hidden states share a large common direction, which would
    make all cosines nearly one. Undefined for a sample whose state is not finite or is that mean. None where
    fewer than three states are defined: two centred states are always opposite.
    """
    if material.hidden_states is None:
        return None
    directions = _directions(material.hidden_states)
    defined = np.isfinite(directions).all(axis=1)
    if defined.sum() < _FEWEST:
        return None
    values = np.full(len(directions), np.nan)
    # Picking rows copies, and the states may be the largest thing in memory.
    states = directions if defined.all() else directions[defined]
    nearest = min(NEAREST, len(states) - 1)
    means = []
    for start in range(0, len(states), _CHUNK):
        cosines = states[start : start + _CHUNK] @ states.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        means.append(np.partition(cosines, -nearest, axis=1)[:, -nearest:].mean(axis=1))
    values[defined] = np.concatenate(means).astype(np.float64)
    return Computed(values)


def _directions(states: StateArray) -> StateArray:
    """Return the centred states at length one, shape (N, width); rows without a direction are NaN."""
    finite = np.asarray(np.isfinite(states).all(axis=1))
    if not finite.any():
        return np.full_like(states, np.nan)
    mean = states.mean(axis=0, dtype=np.float64, where=finite[:, None]).astype(np.float32)
    centred: StateArray = states - mean
    # np.linalg.norm would make another array of this size.
    lengths: StateArray = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    # What is left of a state that equals the mean is the rounding of the mean.
    lengths[~finite | (lengths <= 4 * np.finfo(np.float32).eps * np.linalg.norm(mean))] = np.nan
    centred /= lengths[:, None]
    return centred


FEATURES = (
    Feature(
        name="hidden_association",
        title="Association in hidden states",
        unit="",
        bins="quantiles",
        direction="more associated",
        help="Mean cosine of its hidden state with those of the five nearest other samples, the mean state "
        "subtracted.",
        group="association",
        over=hidden_association,
    ),
)
