"""Effects and their intervals, against hand-worked examples, closed forms, scipy and simulated sets."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics.bootstrap import Estimate
from analysis.statistics.groups import (
    GroupComparison,
    Measured,
    compare_groups,
    compare_sets,
    correlations,
    holm,
    rank_regression,
    spearman,
)
from analysis.statistics.wording import finding
from mrd_core.scoring.draws import Units


def exact(mrd: list[float] | np.ndarray, units: int = 4) -> Measured:
    """Return samples that every draw measures alike."""
    return Measured(Units.of(np.tile(np.asarray(mrd, dtype=np.float64), (units, 1))))


def halves(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Put the first half of n samples in the high group, the rest in the low one."""
    high = np.arange(n) < n // 2
    return high, ~high


def sd(interval: Estimate) -> float:
    """Return the standard deviation of a normal distribution with this 95 % interval."""
    return (interval.high - interval.low) / (2 * stats.norm.ppf(0.975))


def in_95_of_100(hits: int, trials: int) -> bool:
    """Tell whether so many hits are within chance (99.8 %) of a 95 % rate."""
    return stats.binom.ppf(0.001, trials, 0.95) <= hits <= stats.binom.ppf(0.999, trials, 0.95)


def test_two_groups_of_three_compare_as_by_hand() -> None:
    # Of the nine pairs 3 < 4, 3 < 5 and 5 = 5; the other six are wins of the high group.
    found = compare_groups(exact([3, 5, 7, 1, 4, 5]), *halves(6))
    assert (found.n_high, found.n_low) == (3, 3)
    assert found.cliffs_delta.value == pytest.approx((6 - 2) / 9)
    assert (found.mean_high.value, found.median_high.value, found.median_low.value) == (5, 5, 4)
    assert found.mean_low.value == pytest.approx(10 / 3)
    assert found.difference.value == pytest.approx(5 / 3)
    assert found.median_difference.value == 1


def test_cliffs_delta_counts_all_pairs_and_p_is_scipys() -> None:
    generator = np.random.default_rng(0)
    mrd = generator.integers(1, 8, 60).astype(float)
    high, low = halves(60)
    found = compare_groups(exact(mrd), high, low, replicates=50)
    assert found.cliffs_delta.value == pytest.approx(np.sign(mrd[high][:, None] - mrd[low]).mean())
    assert found.p == pytest.approx(stats.mannwhitneyu(mrd[high], mrd[low]).pvalue)


def test_groups_that_do_not_overlap_differ_wholly() -> None:
    found = compare_groups(exact([5, 6, 7, 1, 2, 3]), *halves(6), replicates=50)
    assert found.cliffs_delta[:3] == (1, 1, 1)


def test_without_measurement_noise_the_spread_is_that_of_the_samples() -> None:
    n = 1500
    mrd = np.random.default_rng(1).gamma(4, size=2 * n)
    found = compare_groups(exact(mrd), *halves(2 * n))
    errors = [group.std() / np.sqrt(n) for group in (mrd[:n], mrd[n:])]
    assert sd(found.mean_high) == pytest.approx(errors[0], rel=0.1)
    assert sd(found.difference) == pytest.approx(np.hypot(*errors), rel=0.1)


@pytest.mark.parametrize("units", [3, 8, 40])
def test_of_a_single_sample_the_interval_is_students(units: int) -> None:
    values = 20 + np.random.default_rng(2).normal(size=(units, 2))
    found = compare_groups(Measured(Units.of(values)), *halves(2), replicates=4000)
    low, high = stats.t.interval(0.95, units - 1, values[:, 0].mean(), stats.sem(values[:, 0]))
    assert found.mean_high.high - found.mean_high.low == pytest.approx(high - low, rel=0.15)


def test_noise_that_all_samples_share_widens_a_mean_but_not_a_difference() -> None:
    shift = np.random.default_rng(3).normal(size=(30, 1))
    run = Measured(Units.of(np.full((30, 50), 20.0) + shift))
    found = compare_groups(run, *halves(50))
    error = stats.t.ppf(0.975, 29) / stats.norm.ppf(0.975) * shift.std(ddof=1) / np.sqrt(30)
    assert sd(found.mean_high) == pytest.approx(error, rel=0.1)
    assert sd(found.difference) == pytest.approx(0, abs=1e-9)


def test_two_runs_have_draws_of_their_own() -> None:
    shift = np.random.default_rng(4).normal(size=(2, 30, 1))
    runs = [Measured(Units.of(np.full((30, 50), 20.0) + one)) for one in shift]
    found = compare_sets(*runs)
    error = np.hypot(*(one.std(ddof=1) for one in shift)) / np.sqrt(30)
    assert sd(found.difference) == pytest.approx(error, rel=0.15)
    assert (found.n_high, found.n_low) == (50, 50)


def test_a_samples_own_noise_is_counted_three_times() -> None:
    generator = np.random.default_rng(5)
    n, draws = 400, 60
    values = 50 + generator.normal(size=2 * n) + 8 * generator.normal(size=(draws, 2 * n))
    run = Measured(Units.of(values))
    noise = values.var(axis=0, ddof=1).mean() / draws
    spread = sum(run.mrd[group].var() for group in halves(2 * n))
    found = compare_groups(run, *halves(2 * n))
    assert sd(found.difference) == pytest.approx(np.sqrt((spread + 2 * 2 * noise) / n), rel=0.1)
    assert sd(found.difference) > 1.1 * sd(compare_groups(exact(run.mrd), *halves(2 * n)).difference)


def test_of_pure_noise_the_intervals_still_hold_the_values() -> None:
    generator = np.random.default_rng(6)
    noise = generator.normal(size=(200, 2000)) * np.repeat([3.0, 1.0], 1000)
    run = Measured(Units.of(noise))
    found = compare_groups(run, *halves(2000), replicates=200)
    intervals = [value for value in astuple(found) if isinstance(value, tuple)]
    intervals.append(spearman(np.repeat([3.0, 1.0], 1000), run, replicates=200))
    assert len(intervals) == 8
    assert all(low < value < high for value, low, high, *_ in intervals)


def test_the_interval_covers_a_planted_difference() -> None:
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        truth = generator.gamma(4, size=120) + np.where(halves(120)[0], 1.0, 0.0)
        run = Measured(Units.of(truth + generator.normal(size=(16, 120)) + generator.normal(size=(16, 1))))
        found = compare_groups(run, *halves(120), replicates=250)
        hits += found.difference.low <= 1 <= found.difference.high
    assert in_95_of_100(hits, 200)


def test_noise_that_a_draw_brings_to_one_group_is_not_taken_for_an_effect() -> None:
    generator = np.random.default_rng(16)
    hits, rejected = 0, 0
    for _ in range(200):
        tilt = 2 * generator.normal(size=(16, 1)) * np.where(halves(120)[0], 1, -1)
        run = Measured(Units.of(10 + 0.3 * generator.normal(size=120) + tilt))
        found = compare_groups(run, *halves(120), replicates=250)
        hits += found.difference.low <= 0 <= found.difference.high
        rejected += found.p < 0.05
    assert in_95_of_100(hits, 200)
    assert rejected > 100  # what a test that knows only the samples makes of it


def test_samples_without_an_mrd_are_left_out() -> None:
    generator = np.random.default_rng(8)
    values = 5 + generator.normal(size=(8, 40))
    high, low = halves(40)
    more = np.insert(values, [3, 30], np.nan, axis=1)
    added = [np.insert(group, [3, 30], [True, True]) for group in (high, low)]
    assert compare_groups(Measured(Units.of(more)), *added, replicates=50) == compare_groups(
        Measured(Units.of(values)), high, low, replicates=50
    )
    with pytest.raises(ValueError, match="without a measured sample"):
        compare_groups(Measured(Units.of(np.full((8, 40), np.nan))), high, low)


def figures(found: GroupComparison) -> np.ndarray:
    """Return all figures of a comparison in one row."""
    return np.hstack([np.ravel(value) for value in astuple(found)])


def test_the_order_of_the_samples_does_not_matter() -> None:
    generator = np.random.default_rng(9)
    values, x = 5 + generator.normal(size=(8, 60)), generator.integers(0, 5, 60).astype(float)
    high = x > 2
    order = generator.permutation(60)
    run, shuffled = Measured(Units.of(values)), Measured(Units.of(values[:, order]))
    one = compare_groups(run, high, ~high, replicates=100)
    other = compare_groups(shuffled, high[order], ~high[order], replicates=100)
    assert figures(other) == pytest.approx(figures(one), rel=1e-9)
    assert spearman(x[order], shuffled, 100) == pytest.approx(spearman(x, run, 100), rel=1e-9)


def test_ranks_do_not_feel_a_rescaling_of_mrd() -> None:
    generator = np.random.default_rng(10)
    values, x = generator.normal(size=(8, 60)), generator.normal(size=60)
    one, other = (
        compare_groups(Measured(Units.of(c * values)), x > 0, x <= 0, replicates=100) for c in (1.0, 1024.0)
    )
    assert (other.cliffs_delta, other.p) == (one.cliffs_delta, one.p)
    assert other.difference[:3] == pytest.approx(1024 * np.array(one.difference[:3]))
    assert spearman(x, Measured(Units.of(1024 * values)), 100) == spearman(x, Measured(Units.of(values)), 100)


def test_holm_corrects_as_by_hand() -> None:
    # Sorted: .005 × 4, .01 × 3, .03 × 2, .04 × 1, none smaller than the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, np.nan, 0.6, 0.7]) == pytest.approx([0.06, np.nan, 1, 1], nan_ok=True)
    assert holm([]) == []


def test_spearman_is_scipys_over_the_defined_samples() -> None:
    generator = np.random.default_rng(11)
    values, x = generator.normal(size=(8, 50)), generator.integers(0, 6, 50).astype(float)
    x[:4] = np.nan
    values[:, 45:] = np.nan
    mrd = np.abs(values.mean(axis=0))
    expected = stats.spearmanr(x[4:45], mrd[4:45]).statistic
    assert spearman(x, Measured(Units.of(values)), 50).value == pytest.approx(expected)


@pytest.mark.parametrize("x", [[1.0, 1, 1, 1], [1.0, 2, np.nan, np.nan]])
def test_spearman_of_too_little_is_undefined(x: list[float]) -> None:
    assert np.isnan(spearman(np.array(x), exact([1, 2, 3, 4]), 50)[:3]).all()


@pytest.mark.parametrize("pearson", [0.0, 0.7])
def test_spearmans_interval_covers_the_planted_correlation(pearson: float) -> None:
    generator = np.random.default_rng(12)
    truth = 6 / np.pi * np.arcsin(pearson / 2)
    hits = 0
    for _ in range(200):
        x, own = generator.normal(size=(2, 80))
        mrd = np.exp(pearson * x + np.sqrt(1 - pearson**2) * own)
        found = spearman(x, exact(mrd), replicates=200)
        hits += found.low <= truth <= found.high
    assert in_95_of_100(hits, 200)


def test_correlations_are_scipys_pair_by_pair() -> None:
    generator = np.random.default_rng(13)
    table = pd.DataFrame(generator.normal(size=(30, 3)), columns=list("abc")).assign(d=1.0)
    table.loc[:9, "b"] = np.nan
    found = correlations(table)
    expected = stats.spearmanr(table["a"][10:], table["b"][10:]).statistic
    assert found.loc["a", "b"] == pytest.approx(expected)
    assert found.loc["a", "c"] == pytest.approx(stats.spearmanr(table["a"], table["c"]).statistic)
    assert found["d"].isna().all()


def planted(n: int = 300, seed: int = 14) -> tuple[pd.DataFrame, pd.Series, Measured]:
    """Return a feature that follows length, one with an effect of its own, and the MRD that length makes."""
    generator = np.random.default_rng(seed)
    length = pd.Series(generator.gamma(5, size=n), name="length")
    features = pd.DataFrame(
        {"follows": length + generator.normal(size=n)}
        | {name: generator.normal(size=n) for name in ("own", "null")}
    )
    truth = 20 + length + features["own"] + generator.normal(size=n)
    return features, length, Measured(Units.of(truth.to_numpy() + generator.normal(size=(16, n))))


def test_rank_regression_is_least_squares_on_ranks() -> None:
    features, length, run = planted()
    found = rank_regression(features, length, run, replicates=20)
    ranks = stats.zscore(stats.rankdata(features.assign(length=length)[[t.name for t in found.terms]], axis=0))
    response = stats.zscore(stats.rankdata(run.mrd))
    expected, (residue,), *_ = np.linalg.lstsq(ranks, response)
    assert [term.name for term in found.terms] == ["length", "follows", "own", "null"]
    assert [term.coefficient.value for term in found.terms] == pytest.approx(expected)
    assert found.r2 == pytest.approx(1 - residue / len(response))
    assert [term.vif for term in found.terms] == pytest.approx(np.diag(np.linalg.inv(np.corrcoef(ranks.T))))
    for at, term in enumerate(found.terms):
        assert term.alone.value == pytest.approx(stats.spearmanr(ranks[:, at], response).statistic)


def test_what_only_follows_length_has_nothing_left_beside_it() -> None:
    found = {term.name: term for term in rank_regression(*planted()).terms}
    assert found["follows"].alone.low > 0.3
    assert found["follows"].coefficient.low < 0 < found["follows"].coefficient.high
    assert found["own"].coefficient.low > 0
    assert found["null"].coefficient.low < 0 < found["null"].coefficient.high


def test_the_regressions_interval_covers_nothing_where_nothing_is() -> None:
    hits = 0
    for seed in range(120):
        terms = {term.name: term for term in rank_regression(*planted(80, seed), replicates=200).terms}
        hits += terms["null"].coefficient.low <= 0 <= terms["null"].coefficient.high
    assert in_95_of_100(hits, 120)


def test_terms_that_say_nothing_of_their_own_are_dropped_with_the_reason() -> None:
    features, length, run = planted()
    features["flat"] = 1
    features["double"] = 2 * length
    # Half a percent of its variance is its own: too little, and not nothing.
    features["nearly"] = features["own"] + np.random.default_rng(1).normal(0, 0.02, 300)
    features["gaps"] = features["own"].where(np.arange(300) >= 60)
    features["few gaps"] = np.random.default_rng(0).permutation(300)
    features.loc[:9, "few gaps"] = np.nan
    found = rank_regression(features, length, run, replicates=20)
    assert found.dropped == {
        "gaps": "defined for 80% of the samples; 90% are needed",
        "flat": "constant",
        "double": "100.0% of its variance follows from the terms before it",
        "nearly": found.dropped["nearly"],
    }
    assert found.dropped["nearly"].endswith("of its variance follows from the terms before it")
    assert 99 < float(found.dropped["nearly"].split("%")[0]) < 100
    assert found.n == 290


def test_more_terms_than_the_samples_suffice_for_are_dropped() -> None:
    features, length, run = planted(14)
    found = rank_regression(features, length, run, replicates=20)
    assert [term.name for term in found.terms] == ["length", "follows"]
    assert found.dropped["own"] == "14 samples suffice for 2 terms, 5 for each"
    nothing = rank_regression(features, length, Measured(Units.of(np.full((4, 14), np.nan))))
    assert (nothing.terms, nothing.n) == ((), 0)
    assert np.isnan(nothing.r2)


def test_noisy_draws_widen_a_coefficient() -> None:
    features, length, run = planted()
    noisy = Measured(
        Units.of(
            run.units.values + 30 * np.random.default_rng(15).normal(size=(1, 300)) * np.array([[1], [-1]] * 8)
        )
    )
    widths = [
        np.ptp(rank_regression(features, length, measured).terms[2].coefficient[1:3]) for measured in (run, noisy)
    ]
    assert widths[1] > 1.3 * widths[0]


@pytest.mark.parametrize(
    ("value", "low", "high", "title"),
    [
        (0.5, 0.2, 0.7, "Updates grow with MRD"),
        (-0.5, -0.7, -0.2, "Updates fall with MRD"),
        (0.05, -0.2, 0.29, "Updates hardly go with MRD"),
        (0.05, -0.31, 0.2, "Updates against MRD: cannot tell"),
        (np.nan, np.nan, np.nan, "Updates against MRD"),
    ],
)
def test_the_title_of_a_chart_is_what_its_interval_allows(
    value: float, low: float, high: float, title: str
) -> None:
    assert finding(Estimate(value, low, high, 40), "Updates", "MRD") == title
