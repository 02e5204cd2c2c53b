"""Membership inference: how well scores tell samples that a model has seen from others.

Every score is *higher the less the model seems to know the sample*, so that forgetting raises it. Scores are taken
over the answer with its EOS; OpenUnlearning leaves the EOS out. A score is NaN where the answer has no token
within the context of the model.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mrd_core.arrays import FloatArray, defined
from mrd_core.evaluation.aggregates import auc
from mrd_core.evaluation.config import K_PERCENT

# OpenUnlearning's: where the model is certain, or undecided between all tokens, the variance vanishes.
LEAST_VARIANCE = 1e-6


class Auc(NamedTuple):
    """Area under the ROC curve of one set against another.

    Attributes:
        value: P(score of the first > score of the second) + half of P(equal); NaN where the scores are
            too few to differ significantly, see `aggregates.can_differ`.
        first: Samples of the first set with a score.
        second: The same of the second.
    """

    value: float
    first: int
    second: int


def loss_score(log_probs: ArrayLike) -> float:
    """Return the mean NLL [nats per token] (Yeom et al. 2018).

    Args:
        log_probs: log p of each answer token [nats], shape (n,).
    """
    log_probs = np.asarray(log_probs, dtype=np.float64)
    return float(-log_probs.mean()) if log_probs.size else float("nan")


def zlib_score(log_probs: ArrayLike, answer: str) -> float:
    """Return the mean NLL over the bytes of the answer when zlib has compressed it (Carlini et al. 2021).

    Args:
        log_probs: log p of each answer token [nats], shape (n,).
        answer: Its text; NaN where it is empty, because there is nothing to compress.
    """
    return loss_score(log_probs) / len(zlib.compress(answer.encode())) if answer else float("nan")


def min_k_score(log_probs: ArrayLike, k_percent: float = K_PERCENT) -> float:
    """Return minus the mean log p of the k % least likely tokens, at least one (Shi et al. 2024).

    Args:
        log_probs: log p of each answer token [nats], shape (n,).
        k_percent: From 0 to 100; the number of tokens is rounded down.
    """
    return -_mean_of_lowest(np.asarray(log_probs, dtype=np.float64), k_percent)


def min_k_plus_plus_score(
    log_probs: ArrayLike, means: ArrayLike, variances: ArrayLike, k_percent: float = K_PERCENT
) -> float:
    """Return minus the mean standardised log p of the k % lowest tokens, at least one (Zhang et al. 2024).

    Args:
        log_probs: log p of each answer token [nats], shape (n,).
        means: Mean of log p(v) over the vocabulary under p at each position [nats], shape (n,).
        variances: Its variance [nats²], shape (n,); taken as `LEAST_VARIANCE` where it is below.
        k_percent: As in `min_k_score`.
    """
    deviations = np.sqrt(np.maximum(variances, LEAST_VARIANCE))
    standardised = (np.asarray(log_probs, dtype=np.float64) - np.asarray(means, dtype=np.float64)) / deviations
    return -_mean_of_lowest(standardised, k_percent)


def forgotten_auc(forget: ArrayLike, other: ArrayLike) -> Auc:
    """Return how well a score tells the forget set, as the positive class, from another set.

    Against retain: 0.5 before unlearning, 1 where the model seems to have seen only the retain set. Against unseen
    samples: near 0 where the model knows the forget set, 0.5 where it treats both alike.

    Args:
        forget: Scores of the forget set, shape (N,); NaN is left out.
        other: Those of retain or unseen samples, shape (M,); NaN is left out.
    """
    first, second = defined(forget), defined(other)
    value = auc(first, np.ones((1, first.size)), second, np.ones((1, second.size)))
    return Auc(float(value[0]), first.size, second.size)


def _mean_of_lowest(values: FloatArray, k_percent: float) -> float:
    if not values.size:
        return float("nan")
    count = max(1, int(values.size * k_percent / 100))
    return float(np.sort(values)[:count].mean())
