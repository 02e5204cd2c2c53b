"""What measures predict together, against what simulated data let them know, and intervals by their coverage."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.evidence.prediction import combination, intervals, pilot_sizes, predict
from mrd_core.errors import UserError
from tests.unit.test_evidence_statistics import capped


def cheap_measures(generator: np.random.Generator, n: int, signal: float = 0.5) -> tuple[pd.DataFrame, np.ndarray]:
    """Return four positive measures, and updates that the first two predict with residual sd 0.5 of the log."""
    z = generator.normal(size=(n, 4))
    updates = np.exp(3.5 + signal * (z[:, 0] + 0.5 * z[:, 1]) + 0.5 * generator.normal(size=n))
    return pd.DataFrame(np.exp(z), columns=list("abcd")), updates


def test_a_combination_holds_out_what_its_measures_know() -> None:
    generator = np.random.default_rng(11)
    measures, updates = cheap_measures(generator, 80, signal=1.0)
    found = combination(measures, updates, np.zeros(80), 400)
    # The best that can be known is 1 and 0.5 of two measures, with residual sd 0.5.
    best = stats.spearmanr(np.log(measures["a"]) + 0.5 * np.log(measures["b"]), updates)[0]
    assert best - 0.08 < found.held_out.value <= best + 0.02
    assert found.held_out.low < found.held_out.value < found.held_out.high
    assert found.coefficients["a"] == pytest.approx(1, abs=0.2)
    assert found.coefficients["b"] == pytest.approx(0.5, abs=0.2)
    assert found.coefficients[["c", "d"]].abs().max() < 0.2
    assert np.median(np.abs(np.log(found.predictions / updates))) < 0.5


def test_a_combination_of_noise_predicts_nothing_and_is_not_pulled_below_nothing() -> None:
    found = []
    for trial in range(40):
        measures, updates = cheap_measures(np.random.default_rng(trial), 40, signal=0)
        found.append(combination(measures, updates, np.zeros(40), 200, trial).held_out)
    values = np.array([estimate.value for estimate in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert sum(not estimate.excludes_zero for estimate in found) >= stats.binom.ppf(0.001, 40, 0.95)


def test_censoring_bends_the_coefficients_of_the_cap_but_not_of_the_combination() -> None:
    measures, updates = cheap_measures(np.random.default_rng(12), 400, signal=1.0)
    cut, censored = capped(updates, np.exp(3.5))
    nothing = np.zeros(400)
    whole, naive = (combination(measures, y, nothing, 20).coefficients["a"] for y in (updates, cut))
    found = combination(measures, cut, censored, 20)
    assert naive < 0.6 * whole
    assert found.coefficients["a"] == pytest.approx(whole, abs=0.05)
    assert found.held_out.n_censored == censored.sum()
    # Samples beyond the cap are predicted beyond it.
    assert stats.spearmanr(found.predictions[censored], updates[censored])[0] > 0.4


def test_samples_that_did_not_run_and_measures_that_are_undefined_are_borne() -> None:
    measures, updates = cheap_measures(np.random.default_rng(13), 40)
    measures.loc[[1, 5], "a"] = np.nan
    measures["never"] = np.nan
    measures["zeros"] = np.arange(40) % 3
    measures["signed"] = np.linspace(-1, 1, 40)
    updates[7] = np.nan
    found = combination(measures, updates, np.zeros(40), 50)
    assert np.flatnonzero(np.isnan(found.predictions)).tolist() == [7]
    assert found.coefficients["never"] == pytest.approx(0, abs=1e-12)
    assert found.held_out.n == 39


def test_a_pilot_of_too_few_forgotten_samples_is_refused() -> None:
    measures, updates = cheap_measures(np.random.default_rng(14), 12)
    censored = np.arange(12) >= 9
    with pytest.raises(UserError, match="9 samples"):
        combination(measures, updates, censored)
    with pytest.raises(UserError, match="10 are needed"):
        predict(measures, updates, censored, measures)


@pytest.mark.parametrize("cap", [np.inf, np.exp(4.0)])
def test_nine_of_ten_samples_lie_within_their_predicted_interval(cap: float) -> None:
    covered = []
    for trial in range(40 if np.isinf(cap) else 15):
        generator = np.random.default_rng(trial)
        pilot, updates = cheap_measures(generator, 40)
        others, truth = cheap_measures(generator, 200)
        found = predict(pilot, *capped(updates, cap), others.set_index(np.arange(200) + 5), trial)
        covered.append(np.mean((found["low"] <= truth) & (truth <= found["high"])))
    assert list(found.index[[0, -1]]) == [5, 204]
    assert np.mean(covered) == pytest.approx(0.9, abs=3.5 * np.std(covered) / np.sqrt(len(covered)))


def test_an_interval_has_no_end_where_the_pilot_does_not_reach_so_far() -> None:
    # Eleven errors of which the greatest two are censored: nine tenths of twelve is the eleventh.
    measures, updates = cheap_measures(np.random.default_rng(15), 12, signal=0)
    censored = np.zeros(12, dtype=bool)
    censored[np.argsort(updates)[-2:]] = True
    found = predict(measures, np.where(censored, 1e6, updates), censored, measures)
    assert np.isinf(found["high"]).all()
    assert (found["low"] == 0).all()


def test_a_larger_pilot_predicts_better() -> None:
    measures, updates = cheap_measures(np.random.default_rng(16), 120, signal=1.0)
    found = pilot_sizes(measures, updates, np.zeros(120), (10, 30, 118))
    assert found["pilot"].tolist() == [10, 30]
    assert found["n"].tolist() == [110, 90]
    assert found["pilots"].tolist() == [100, 100]
    assert found["rho"].is_monotonic_increasing
    assert all(small < large for small, large in pairwise(found["low"]))


def test_held_out_predictions_have_the_interval_of_their_own_errors() -> None:
    generator = np.random.default_rng(17)
    updates = np.exp(3 + generator.normal(size=40))
    found = intervals(np.full(40, 20.0), updates, np.zeros(40))
    # The 37th smallest of forty errors.
    width = np.sort(np.abs(np.log1p(updates) - np.log1p(20)))[36]
    assert np.log1p(found["high"]).to_numpy() == pytest.approx(np.log(21) + width)
    assert ((found["low"] <= updates) & (updates <= found["high"])).sum() == 37
