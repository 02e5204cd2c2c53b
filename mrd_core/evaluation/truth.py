"""TOFU's metrics of truth (Maini et al. 2024): truth ratio and forget quality.

A log-likelihood here is *length-normalised*: the mean of log p over the tokens of an answer [nats per token], so
that its exponential is the answer's probability as the field reports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from mrd_core.arrays import FloatArray, defined
from mrd_core.evaluation.aggregates import can_differ


class ForgetQuality(NamedTuple):
    """Two-sample Kolmogorov–Smirnov test of truth ratios against those of a retrained model.

    Attributes:
        p_value: The forget quality; NaN where so few samples could not differ significantly, whatever they are:
            a p-value that counts as success where nothing is rejected needs a test that can reject.
        statistic: D, the largest distance between the two distribution functions; NaN where a side has no sample.
        samples: Samples with a truth ratio.
        reference_samples: The same of the retrained model.
    """

    p_value: float
    statistic: float
    samples: int
    reference_samples: int


def truth_ratio(correct: float, wrong: Sequence[float]) -> float:
    """Return r = p_wrong / p_correct of one sample.

    p_wrong is the geometric mean over the perturbed answers, as in the code of TOFU and OpenUnlearning.

    Args:
        correct: Log-likelihood of the paraphrased answer [nats per token].
        wrong: Those of the perturbed answers.

    Returns:
        From 0 up, infinite where the paraphrased answer is impossible; NaN where a log-likelihood is missing (NaN)
        or there is no perturbed answer.
    """
    if not len(wrong):
        return float("nan")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.exp(np.mean(wrong) - correct))


def probability_among(correct: float, wrong: Sequence[float]) -> float:
    """Return p_correct / (p_correct + Σ p_wrong) of one sample, TOFU's probability where answers are given.

    Args:
        correct: Log-likelihood of the answer [nats per token].
        wrong: Those of the perturbed answers.

    Returns:
        From 0 to 1; NaN where a log-likelihood is missing (NaN) or there is no perturbed answer.
    """
    if not len(wrong):
        return float("nan")
    with np.errstate(invalid="ignore"):
        return float(np.exp(correct - np.logaddexp.reduce([correct, *wrong])))


def closer_to_one_better(ratios: ArrayLike) -> FloatArray:
    """Return min(r, 1/r) of each truth ratio, the forget set's value: 1 where right and wrong are alike."""
    r: FloatArray = np.asarray(ratios, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.minimum(r, 1 / r)


def true_better(ratios: ArrayLike) -> FloatArray:
    """Return max(0, 1 − r) of each truth ratio, every other set's value: 1 where the wrong ones are impossible."""
    return np.maximum(0.0, 1 - np.asarray(ratios, dtype=np.float64))


def forget_quality(ratios: ArrayLike, reference_ratios: ArrayLike) -> ForgetQuality:
    """Test whether truth ratios are distributed as those of a model that never saw the forget set.

    The test looks at order alone, so r and 1/r, which OpenUnlearning takes, give the same.

    Args:
        ratios: r of the forget samples, shape (N,); NaN is left out.
        reference_ratios: r of a model trained without them, shape (M,); NaN is left out.
    """
    own, retrained = defined(ratios), defined(reference_ratios)
    if not own.size or not retrained.size:
        return ForgetQuality(float("nan"), float("nan"), own.size, retrained.size)
    test = stats.ks_2samp(own, retrained)
    p_value = float(test.pvalue) if can_differ(own.size, retrained.size) else float("nan")
    return ForgetQuality(p_value, float(test.statistic), own.size, retrained.size)
