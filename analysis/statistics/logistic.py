"""Probabilities of a yes or no from a few features: logistic regression with a ridge, judged out of sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special

from analysis.statistics.bootstrap import REPLICATES, SEED, Estimate, estimate
from analysis.statistics.censored import concordance
from analysis.statistics.shares import share
from mrd_core.arrays import BoolArray, FloatArray, ratio

FOLDS, REPEATS = 5, 20
# Of features with standard deviation 1: that of a prior N(0, 1) on each coefficient.
PENALTY = 1.0
# Bins of the calibration table: so many samples at least in each, where there are as many.
BINS, LEAST_IN_BIN = 5, 5

# Makes features of training samples, shape (n, k), and of others, shape (m, k): theirs, shape (m, k).
Standardised = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Logistic:
    """A fitted model: log-odds = intercept + features · coefficients."""

    coefficients: FloatArray
    intercept: float

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return probabilities, shape (m,), of features of shape (m, k)."""
        probabilities: FloatArray = special.expit(features @ self.coefficients + self.intercept)
        return probabilities


@dataclass(frozen=True)
class Calibration:
    """How good probabilities of samples that the model did not see are.

    Attributes:
        brier: Mean squared distance of the probability from what happened.
        brier_of_rate: The same of the share in which it happened, of the samples that were trained on.
        skill: 1 − brier / brier_of_rate: above 0 where the probabilities say more than that share.
        auc: Probability that of two samples that to which it happened has the higher one, beside the share.
    """

    brier: Estimate
    brier_of_rate: Estimate
    skill: Estimate
    auc: Estimate


def fit(features: FloatArray, happened: BoolArray, penalty: float = PENALTY) -> Logistic:
    """Return what minimises −log likelihood + penalty/2 · |coefficients|².

    Args:
        features: Of n samples, shape (n, k).
        happened: To which of them it happened, shape (n,).
        penalty: Of the coefficients; the intercept has none.
    """
    signs = np.where(happened, 1.0, -1.0)
    design = np.column_stack([features, np.ones(len(features))])
    weights = np.append(np.full(features.shape[1], penalty), 0.0)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        margins = signs * (design @ parameters)
        slope = -(signs * special.expit(-margins)) @ design + weights * parameters
        return float(np.logaddexp(0, -margins).sum() + weights @ parameters**2 / 2), slope

    found = optimize.minimize(loss, np.zeros(len(weights)), jac=True, method="L-BFGS-B", tol=1e-9).x
    return Logistic(found[:-1], float(found[-1]))


def held_out(
    measures: FloatArray, happened: BoolArray, standardised: Standardised, seed: int = SEED
) -> FloatArray:
    """Return the probability of each sample by models that did not see it, shape (n,), the mean over the repeats.

    Each repeat divides the samples into five folds, what happened spread evenly over them.
    """
    probabilities = np.zeros(happened.size)
    for out in _folds(happened, seed):
        train = measures[~out]
        model = fit(standardised(train, train), happened[~out])
        probabilities[out] += model(standardised(train, measures[out]))
    return probabilities / REPEATS


def held_out_share(happened: BoolArray, seed: int = SEED) -> FloatArray:
    """Return what `held_out` would say of each sample if it knew no feature: the share of what was trained on."""
    shares = np.zeros(happened.size)
    for out in _folds(happened, seed):
        shares[out] += happened[~out].mean()
    return shares / REPEATS


def _folds(happened: BoolArray, seed: int) -> Iterator[BoolArray]:
    """Yield which samples are left out, fold by fold, of all repeats."""
    generator = np.random.default_rng(seed)
    for _ in range(REPEATS):
        fold = np.empty(happened.size, dtype=np.intp)
        order = np.lexsort((generator.random(happened.size), happened))
        fold[order] = np.arange(happened.size) % FOLDS
        yield from (fold == number for number in range(FOLDS))


def calibration(probabilities: FloatArray, happened: BoolArray) -> Calibration:
    """Return how good probabilities of samples that the model did not see are, each figure with its interval."""
    n, outcome = happened.size, happened.astype(np.float64)
    errors = (probabilities - outcome) ** 2
    # Held out alike: neither the share of all, which knows the sample itself, nor that of all others, which is on
    # the other side of it.
    shares = held_out_share(happened)
    plain = (shares - outcome) ** 2

    def skill(counts: FloatArray) -> FloatArray:
        gained: FloatArray = 1 - ratio(counts @ errors, counts @ plain)
        return gained

    of_errors, of_rate = (
        estimate(lambda counts, each=each: ratio(counts @ each, counts.sum(axis=1)), n, REPLICATES, SEED)  # type: ignore[misc]
        for each in (errors, plain)
    )
    return Calibration(
        brier=of_errors,
        brier_of_rate=of_rate,
        skill=estimate(skill, n, REPLICATES, SEED),
        # Of an outcome of 0 or 1 Harrell's C is the area under the curve. Where one that came back was left out
        # the share of the rest is smaller: beside it, or what knows nothing would seem to know the contrary.
        auc=concordance(special.logit(probabilities) - special.logit(shares), outcome, np.zeros(n, dtype=bool)).c,
    )


def calibration_table(probabilities: FloatArray, happened: BoolArray) -> pd.DataFrame:
    """Return bins of equally many samples: predicted (mean probability), observed (share), low, high, n."""
    bins = max(1, min(BINS, happened.size // LEAST_IN_BIN))
    order = np.argsort(probabilities, kind="stable")
    rows = []
    for places in np.array_split(order, bins):
        observed = share(int(happened[places].sum()), len(places))
        rows.append(
            {"predicted": float(probabilities[places].mean()), **observed.columns("observed"), "n": observed.n}
        )
    return pd.DataFrame(rows)
