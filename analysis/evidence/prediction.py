"""The number of updates that measures of difficulty predict together, learnt from a pilot of real unlearnings.

Everything is judged on samples that the model did not see. Censored samples are treated as in
`analysis.statistics.censored`, and so are intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.statistics.bootstrap import (
    LEAST_SAMPLES,
    REPLICATES,
    ROUNDING,
    SEED,
    Estimate,
    bca_limits,
    left_out,
    resamples,
)
from analysis.statistics.censored import correlation_of, ranked_outcome
from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.errors import UserError

Form = Literal["log", "rank"]

# Cross-validation, ridge penalties per sample, and steps of EM where some samples are censored.
FOLDS = 5
REPEATS = 10
PILOT_REPEATS = 100
LEAST_PILOT = 10
COVERAGE = 0.9
FORMS: tuple[Form, ...] = ("log", "rank")
_PENALTIES = np.logspace(-3, 3, 13)
_EM_STEPS = 20
# Of a standardised feature: what lies further out says no more than this.
_FARTHEST = 3.0


@dataclass(frozen=True, eq=False)
class Combination:
    """What several cheap measures predict together.

    Attributes:
        held_out: Spearman correlation with updates of predictions for samples that the model did not see.
        predictions: Predicted updates, one per sample, each by models that did not see it, shape (N,).
        coefficients: By measure, change of log(1 + updates) with one standard deviation, all samples.
        form: Whether the measures entered as logarithms or as normal scores of their ranks.
        penalty: Ridge penalty of the model of all samples.
    """

    held_out: Estimate
    predictions: FloatArray
    coefficients: pd.Series
    form: Form
    penalty: float


@dataclass(frozen=True, eq=False)
class _Ridge:
    """A fitted model of log(1 + updates); `train` is what new samples are standardised by, shape (n, k)."""

    form: Form
    train: FloatArray
    coefficients: FloatArray
    intercept: float
    penalty: float
    error: float

    def __call__(self, measures: FloatArray) -> FloatArray:
        """Return predicted log(1 + updates), shape (m,), of measures of shape (m, k)."""
        predicted: FloatArray = standardised(self.form, self.train, measures) @ self.coefficients + self.intercept
        return predicted


def combination(
    measures: pd.DataFrame,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Combination:
    """Return what the measures predict together, tested on samples that the model did not see.

    The model is ridge regression of log(1 + updates) on the standardised measures, either their logarithms (where
    they are positive) or the normal scores of their ranks. A censored sample enters with the number expected of
    it above its cap under normal residuals, found by EM (Schmee and Hahn, 1979; Aitkin, 1981). In 10 repeats
    of 5-fold cross-validation, form and penalty are chosen inside each training part, by the leave-one-out error
    of its uncensored samples. Folds are balanced in updates, since the mean of a training part is else low where
    that of the rest is high, which pulls ρ down. ρ is the mean over repeats; a replicate resamples samples and
    takes one repeat. It does not refit: that the training samples are chance too is not in the interval.

    Args:
        measures: N rows, a numeric column per measure; NaN counts as average.
        updates: Number of updates, or the cap of a censored run, shape (N,).
        censored: Which runs ended without forgetting, shape (N,).
        replicates: Bootstrap replicates.
        seed: Seed of the folds and the bootstrap.

    Raises:
        UserError: Fewer than 10 samples were forgotten.
    """
    pilot, ran = _pilot(measures, updates, censored)
    _require_enough(pilot)
    generator = np.random.default_rng(seed)
    repeats = np.stack([_out_of_fold(pilot, generator) for _ in range(REPEATS)])
    predictions = np.full(len(measures), np.nan)
    predictions[ran] = np.expm1(repeats.mean(axis=0))
    model = _fit(pilot)
    return Combination(
        held_out=_held_out(repeats, pilot.outcome, int(pilot.censored.sum()), replicates, seed),
        predictions=predictions,
        coefficients=pd.Series(model.coefficients, index=measures.columns),
        form=model.form,
        penalty=float(model.penalty),
    )


def predict(
    pilot: pd.DataFrame, updates: npt.ArrayLike, censored: npt.ArrayLike, others: pd.DataFrame, seed: int = SEED
) -> pd.DataFrame:
    """Return the updates that the model of `combination` predicts for samples outside the pilot.

    The interval is conformal: as wide, on the log scale, as the errors of cross-validation in the pilot, of
    which it takes the ⌈0.9 (n + 1)⌉-th smallest. An error at a censored sample is known from below only, so
    their distribution is that of Kaplan and Meier; where it does not reach so far the interval has no end.

    Args:
        pilot: Measures of the n samples of the pilot, a numeric column each.
        updates: Their updates, or the cap, shape (n,).
        censored: Which of them ended without forgetting, shape (n,).
        others: Measures of the samples to predict, the same columns.
        seed: Seed of the folds.

    Returns:
        Columns updates, low, high (90 %), with the index of `others`.

    Raises:
        UserError: Fewer than 10 samples of the pilot were forgotten.
    """
    unlearned, _ = _pilot(pilot, updates, censored)
    _require_enough(unlearned)
    errors = unlearned.y - _out_of_fold(unlearned, np.random.default_rng(seed))
    predicted = _fit(unlearned)(_numbers(others[pilot.columns]))
    return _within(_conformal_width(errors, unlearned.censored), predicted).set_index(others.index)


def intervals(predictions: npt.ArrayLike, updates: npt.ArrayLike, censored: npt.ArrayLike) -> pd.DataFrame:
    """Return the 90 % interval, conformal as that of `predict`, about predictions of `combination` for its pilot.

    Args:
        predictions: Updates predicted of each sample by models that did not see it, shape (N,).
        updates: Number of updates, or the cap of a censored run, shape (N,).
        censored: Which runs ended without forgetting, shape (N,).

    Returns:
        Columns low, high; N rows.
    """
    predicted = np.log1p(np.asarray(predictions, dtype=np.float64))
    errors = np.log1p(np.asarray(updates, dtype=np.float64)) - predicted
    defined = np.isfinite(errors)
    width = _conformal_width(errors[defined], np.asarray(censored, dtype=bool)[defined])
    return _within(width, predicted)[["low", "high"]]


def pilot_sizes(
    measures: pd.DataFrame,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    sizes: Sequence[int] = (10, 20, 30),
    seed: int = SEED,
) -> pd.DataFrame:
    """Return how well a pilot of each size predicts the order of all other samples.

    Args:
        measures: N rows, a numeric column per measure.
        updates: Number of updates, or the cap of a censored run, shape (N,).
        censored: Which runs ended without forgetting, shape (N,).
        sizes: Forgotten and censored samples in a pilot; those that leave fewer than 4 others are left out.
        seed: Seed of the pilots.

    Returns:
        Columns pilot, rho (median over random pilots), low, high (central 95 % of them), n (others), pilots.
        A pilot of which fewer than half were forgotten is not counted.
    """
    everyone, _ = _pilot(measures, updates, censored)
    generator = np.random.default_rng(seed)
    rows = []
    for size in sizes:
        if size + LEAST_SAMPLES > len(everyone.y):
            continue
        orders = [generator.permutation(len(everyone.y)) for _ in range(PILOT_REPEATS)]
        defined = [rho for order in orders if np.isfinite(rho := _of_pilot(everyone, order, size))]
        low, rho, high = np.quantile(defined, [0.025, 0.5, 0.975]) if defined else (np.nan,) * 3
        rows.append((size, rho, low, high, len(everyone.y) - size, len(defined)))
    return pd.DataFrame(rows, columns=["pilot", "rho", "low", "high", "n", "pilots"])


@dataclass(frozen=True, eq=False)
class _Pilot:
    """Samples that were unlearned: measures (n, k), log(1 + updates) (n,), and which are censored (n,)."""

    measures: FloatArray
    y: FloatArray
    censored: BoolArray

    @property
    def outcome(self) -> FloatArray:
        return ranked_outcome(self.y, self.censored)

    def __getitem__(self, chosen: npt.NDArray[np.intp] | BoolArray) -> _Pilot:
        return _Pilot(self.measures[chosen], self.y[chosen], self.censored[chosen])


def _pilot(measures: pd.DataFrame, updates: npt.ArrayLike, censored: npt.ArrayLike) -> tuple[_Pilot, BoolArray]:
    """Return the samples that ran, and which those are; a sample may need no update at all, hence 1 + updates."""
    counted = np.asarray(updates, dtype=np.float64)
    ran = np.isfinite(counted)
    everyone = _Pilot(_numbers(measures), np.log1p(counted), np.asarray(censored, dtype=bool))
    return everyone[ran], ran


def _numbers(measures: pd.DataFrame) -> FloatArray:
    return measures.to_numpy(np.float64, na_value=np.nan)


def _require_enough(pilot: _Pilot) -> None:
    forgotten = int((~pilot.censored).sum())
    if forgotten < LEAST_PILOT:
        raise UserError(
            what="The prediction of updates",
            why=f"{forgotten} samples of the pilot were forgotten, {LEAST_PILOT} are needed to calibrate it",
            fix="Unlearn more samples, or raise the cap so that more of them are forgotten.",
        )


def standardised(form: Form, train: FloatArray, measures: FloatArray) -> FloatArray:
    """Return measures, shape (m, k), standardised by those of the training samples, shape (n, k).

    What is undefined is average; what lies far outside the training samples is drawn in.
    """
    if form == "log":
        # Those that are never negative in training, with 0 half the smallest other value.
        smallest = np.where(train > 0, train, np.inf).min(axis=0)
        positive = ~(train < 0).any(axis=0) & np.isfinite(smallest)
        floor = np.where(positive, smallest / 2, 1)
        base, new = (np.where(positive, np.log(np.maximum(each, floor)), each) for each in (train, measures))
    else:
        base, new = (_normal_scores(train, each) for each in (train, measures))
    defined = np.isfinite(base)
    count = np.maximum(defined.sum(axis=0), 1)
    centre = np.where(defined, base, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(defined, (base - centre) ** 2, 0).sum(axis=0) / count)
    scaled = np.divide(new - centre, spread, out=np.zeros_like(new), where=spread > 0)
    bounded: FloatArray = np.clip(np.where(np.isfinite(scaled), scaled, 0), -_FARTHEST, _FARTHEST)
    return bounded


def _normal_scores(train: FloatArray, measures: FloatArray) -> FloatArray:
    """Return the normal quantile of the share of training samples below each value, ties counting half."""
    scores = []
    for old, new in zip(train.T, measures.T, strict=True):
        ascending = np.sort(old[np.isfinite(old)])
        n = max(ascending.size, 1)
        below = (np.searchsorted(ascending, new) + np.searchsorted(ascending, new, side="right")) / 2
        quantiles = special.ndtri(np.clip(below / n, 0.5 / n, 1 - 0.5 / n))
        scores.append(np.where(np.isfinite(new), quantiles, np.nan))
    return np.stack(scores, axis=1)


def _within(width: float, predicted: FloatArray) -> pd.DataFrame:
    """Return updates, low and high of predicted log(1 + updates) with an interval of this half-width."""
    limits = {"updates": predicted, "low": predicted - width, "high": predicted + width}
    return pd.DataFrame({name: np.maximum(np.expm1(y), 0) for name, y in limits.items()})


def _fit(pilot: _Pilot) -> _Ridge:
    """Return the ridge regression whose form and penalty have the smallest leave-one-out error."""
    models = []
    for form in FORMS:
        features = standardised(form, pilot.measures, pilot.measures)
        centre, n = features.mean(axis=0), len(features)
        u, s, vt = np.linalg.svd(features - centre, full_matrices=False)
        shrink = s**2 / (s**2 + n * _PENALTIES[:, None])
        leverage = 1 / n + shrink @ (u**2).T
        y, unknown = pilot.y.copy(), 0.0
        for _ in range(_EM_STEPS if pilot.censored.any() else 1):
            scores, intercept = (y - y.mean()) @ u, y.mean()
            fitted = intercept + (shrink * scores) @ u.T
            errors = (((y - fitted) / (1 - leverage))[:, ~pilot.censored] ** 2).mean(axis=1)
            best = int(errors.argmin())
            squares = ((y - fitted[best]) ** 2).sum() + unknown
            spread = max(np.sqrt(squares / max(n - leverage[best].sum(), 1)), ROUNDING)
            # Censored samples are repeated with what is expected of a normal value that exceeds its cap.
            mean = fitted[best, pilot.censored]
            above = (pilot.y[pilot.censored] - mean) / spread
            hazard = np.exp(-(above**2) / 2 - special.log_ndtr(-above)) / np.sqrt(2 * np.pi)
            y[pilot.censored] = mean + spread * hazard
            unknown = float(spread**2 * (1 - hazard * (hazard - above)).sum())
        coefficients = vt.T @ (shrink[best] / np.where(s > 0, s, np.inf) * scores)
        constant, penalty = intercept - centre @ coefficients, n * _PENALTIES[best]
        models.append(_Ridge(form, pilot.measures, coefficients, constant, penalty, errors[best]))
    return min(models, key=lambda model: model.error)


def _out_of_fold(pilot: _Pilot, generator: np.random.Generator) -> FloatArray:
    """Return predicted log(1 + updates) of each sample by a model that was fitted without its fold.

    Every five samples that follow one another in updates are in five folds.
    """
    outcome = pilot.outcome
    order = np.lexsort((generator.random(outcome.size), outcome))
    blocks = np.tile(np.arange(FOLDS), (-(-outcome.size // FOLDS), 1))
    fold = np.empty(outcome.size, dtype=np.intp)
    fold[order] = generator.permuted(blocks, axis=1).ravel()[: outcome.size]
    predicted = np.empty(outcome.size)
    for number in range(FOLDS):
        held_out = fold == number
        predicted[held_out] = _fit(pilot[~held_out])(pilot.measures[held_out])
    return predicted


def _held_out(repeats: FloatArray, outcome: FloatArray, n_censored: int, replicates: int, seed: int) -> Estimate:
    """Return the mean over repeats of ρ of their predictions, shape (R, n), with the outcome."""
    n, each = outcome.size, [correlation_of(np.stack([predicted, outcome])) for predicted in repeats]
    counts = np.array_split(resamples(n, -(-replicates // len(each)) * len(each), seed), len(each))
    drawn = np.concatenate([rho(own) for rho, own in zip(each, counts, strict=True)])
    jackknife = np.mean([left_out(rho, n) for rho in each], axis=0)
    value = float(np.mean([rho(np.ones((1, n)))[0] for rho in each]))
    return Estimate(value, *bca_limits(value, drawn, jackknife), n, n_censored)


def _conformal_width(errors: FloatArray, censored: BoolArray) -> float:
    """Return the Kaplan–Meier quantile of |error| at the conformal level, infinite where it is not reached."""
    n = errors.size
    size = np.where(censored, np.maximum(errors, 0), np.abs(errors))
    order = np.lexsort((censored, size))
    survival = np.cumprod(1 - ~censored[order] / np.arange(n, 0, -1))
    level = np.ceil(COVERAGE * (n + 1)) / n
    reached = np.flatnonzero(1 - survival >= level - ROUNDING)
    return float(size[order][reached[0]]) if reached.size else np.inf


def _of_pilot(everyone: _Pilot, order: npt.NDArray[np.intp], size: int) -> float:
    """Return ρ over the others of a model fitted to the first so many in the order; NaN for a useless pilot."""
    pilot, others = everyone[order[:size]], everyone[order[size:]]
    if 2 * pilot.censored.sum() > size:
        return np.nan
    predicted = _fit(pilot)(others.measures)
    return float(correlation_of(np.stack([predicted, others.outcome]))(np.ones((1, predicted.size)))[0])
