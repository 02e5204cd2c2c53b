"""Counts, and the intervals that follow from them, against scipy's bootstrap and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from analysis.statistics.bootstrap import (
    REPLICATES,
    acceleration,
    bca_limits,
    estimate,
    in_chunks,
    left_out,
    percentile_estimate,
    picked,
    resamples,
    widening,
)
from mrd_core.arrays import FloatArray


def skewed(n: int = 25) -> np.ndarray:
    """Return values whose mean has a jackknife with an acceleration that moves its limits."""
    return np.random.default_rng(5).lognormal(sigma=1.2, size=n)


def mean_of(values: np.ndarray) -> FloatArray:
    """Return the jackknife values of a mean."""
    return (values.sum() - values) / (len(values) - 1)


def scipys_limits(values: np.ndarray, replicates: FloatArray, level: float) -> tuple[float, float]:
    """Return scipy's BCa limits of a mean from the same replicates: none is drawn beside those that are given."""
    known = stats.bootstrap((values,), np.mean, n_resamples=1, method="percentile", random_state=0)
    known.bootstrap_distribution = replicates
    ended = stats.bootstrap(
        (values,), np.mean, n_resamples=0, bootstrap_result=known, method="BCa", confidence_level=level
    )
    return tuple(ended.confidence_interval)


@pytest.mark.parametrize("sign", [1, -1])
def test_bca_limits_are_scipys_at_the_level_of_students_quantiles(sign: int) -> None:
    values = sign * skewed()
    n = len(values)
    drawn = resamples(n, 4000, 7) @ values / n
    # What scipy calls a level is that of normal quantiles; Student's of 24 degrees of freedom are wider.
    level = 2 * special.ndtr(special.stdtrit(n - 1, 0.975)) - 1
    expected = scipys_limits(values, drawn, level)
    limits = bca_limits(values.mean(), drawn, mean_of(values))
    assert limits == pytest.approx(expected, rel=1e-9)
    # The acceleration matters: without it the interval is another one.
    unaccelerated = bca_limits(values.mean(), drawn, np.linspace(-1, 1, n))
    assert unaccelerated != pytest.approx(expected, rel=1e-2)


def test_the_acceleration_is_a_sixth_of_the_skewness_of_the_influence() -> None:
    values = skewed()
    # Of a mean, a = skewness / (6 √n).
    assert acceleration(mean_of(values)) == pytest.approx(stats.skew(values) / (6 * np.sqrt(len(values))))
    assert acceleration(np.full(9, 0.3)) == 0
    assert acceleration(np.array([np.nan, 1.0, 1.0])) == 0


def test_every_case_is_drawn_once_on_average_and_what_is_picked_is_what_was_drawn() -> None:
    counts = resamples(6, 500, (1, 2))
    assert (counts.sum(axis=1) == 6).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(6), abs=0.2)
    places = picked(counts)
    assert [np.bincount(row, minlength=6).tolist() for row in places] == counts.astype(int).tolist()
    assert not np.array_equal(counts, resamples(6, 500, (1, 3)))


def test_a_statistic_is_worked_out_in_chunks_that_cover_all_rows() -> None:
    slices = list(in_chunks(5, 400_000))
    assert [(rows.start, rows.stop) for rows in slices] == [(0, 2), (2, 4), (4, 5)]
    values = skewed()
    jackknife = left_out(lambda counts: counts @ values / counts.sum(axis=1), len(values))
    assert jackknife == pytest.approx(mean_of(values))


def test_an_estimate_needs_four_samples() -> None:
    assert np.isnan(estimate(lambda counts: counts.sum(axis=1), 3, 50, 0)[:3]).all()


def test_percentiles_are_moved_to_the_value_and_widened_as_students() -> None:
    values = np.random.default_rng(3).normal(size=12)
    drawn = resamples(12, REPLICATES, 0) @ values / 12
    around = percentile_estimate(values.mean() + 0.1, drawn + 5, 12)
    margin = stats.t.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
    assert around.value - around.low == pytest.approx(margin, rel=0.1)
    assert around.high - around.value == pytest.approx(margin, rel=0.1)
    assert percentile_estimate(0.99, drawn, 12, (0, 1)).high == 1
    assert np.isnan(percentile_estimate(0.5, np.array([0.4, np.nan, np.nan]), 12).low)


@pytest.mark.parametrize("n", [2, 3, 12])
def test_limits_are_widened_to_those_of_students_t(n: int) -> None:
    values = np.arange(n, dtype=np.float64)
    exact = stats.t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / np.sqrt(n))[1] - values.mean()
    # What the bootstrap of a mean has without it: the plain standard deviation and a normal's tails.
    assert widening(n) * stats.norm.ppf(0.975) * values.std() / np.sqrt(n) == pytest.approx(exact)
