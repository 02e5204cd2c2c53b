"""What predicts updates, against hand-worked examples, closed forms, scipy and simulated data."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.censored import (
    Relation,
    agreement,
    concordance,
    gain,
    league,
    mean_partial,
    partial,
    repeatability,
    spearman,
)
from analysis.statistics.flips import balance, flips
from analysis.statistics.regime import quadratic_regime
from analysis.statistics.slope import slope
from analysis.statistics.wording import in_figures, verdict

NONE_OF_4 = [False] * 4


def copula(generator: np.random.Generator, n: int, r: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a measure and updates whose ranks are those of normal values with correlation r."""
    x = generator.normal(size=n)
    return x, np.exp(3 + r * x + np.sqrt(1 - r**2) * generator.normal(size=n))


def capped(updates: np.ndarray, cap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the updates of runs that ended at the cap, and which were censored."""
    return np.minimum(updates, cap), updates > cap


def in_95_of_100(hits: int, trials: int) -> bool:
    """Tell whether so many hits are within chance (99.8 %) of a 95 % rate."""
    return stats.binom.ppf(0.001, trials, 0.95) <= hits <= stats.binom.ppf(0.999, trials, 0.95)


def counted_pairs(x: np.ndarray, updates: np.ndarray, censored: np.ndarray) -> tuple[float, int]:
    """Return the score and the number of comparable pairs, one by one."""
    score, comparable = 0.0, 0
    for i in range(len(x)):
        for j in range(len(x)):
            sooner = updates[i] < updates[j] or (updates[i] == updates[j] and censored[j])
            if sooner and not censored[i]:
                comparable += 1
                score += (x[j] > x[i]) + 0.5 * (x[j] == x[i])
    return score, comparable


# Rank agreement


def test_concordance_counts_only_pairs_of_known_order() -> None:
    # Comparable: (1, 2), (1, 3), (1, 4), (2, 3), (2, 4); x orders all but (1, 2) upwards. The last two were
    # censored at different caps, and nothing is known of their order.
    found = concordance([2, 1, 4, 3], [10, 20, 30, 40], [False, False, True, True], replicates=50)
    assert found.c.value == pytest.approx(4 / 5)
    assert found.somers_d.value == pytest.approx(3 / 5)
    assert (found.c.n, found.c.n_censored) == (4, 2)


def test_a_sample_censored_at_a_count_takes_more_than_one_forgotten_there() -> None:
    found = concordance([1, 2, 3, 4], [5, 10, 10, 10], [False, False, False, True], replicates=50)
    assert found.c.value == 1
    # Ties of the measure count one half: 1 and 2 of five pairs.
    tied = concordance([1, 1, 3, 3], [5, 10, 10, 10], [False, False, False, True], replicates=50)
    assert tied.c.value == pytest.approx((0.5 + 1 + 1 + 1 + 0.5) / 5)


def test_concordance_is_that_of_counting_every_pair() -> None:
    generator = np.random.default_rng(0)
    x, updates = generator.integers(0, 9, 50).astype(float), generator.integers(1, 20, 50).astype(float)
    censored = generator.random(50) < 0.3
    score, comparable = counted_pairs(x, updates, censored)
    found = concordance(x, updates, censored, replicates=20)
    assert found.c.value == pytest.approx(score / comparable)
    assert found.somers_d.low == pytest.approx(2 * found.c.low - 1)


def test_somers_d_is_scipys_where_nothing_is_censored() -> None:
    generator = np.random.default_rng(1)
    x, updates = generator.integers(0, 9, (2, 40)).astype(float)
    found = concordance(x, updates, np.zeros(40), replicates=20).somers_d
    assert found.value == pytest.approx(stats.somersd(updates, x).statistic)


def test_spearman_is_scipys_with_censored_samples_tied_on_top() -> None:
    generator = np.random.default_rng(2)
    x, updates = generator.integers(0, 20, (2, 60)).astype(float)
    assert spearman(x, updates, np.zeros(60), 20).value == pytest.approx(stats.spearmanr(x, updates)[0])
    censored = updates >= 15
    found = spearman(x, updates, censored, 20)
    assert found.value == pytest.approx(stats.spearmanr(x, np.where(censored, 99, updates))[0])
    assert (found.n, found.n_censored) == (60, censored.sum())


def test_undefined_samples_are_left_out_and_the_order_of_the_file_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    x, updates = copula(generator, 40, 0.5)
    updates, censored = capped(updates, 30)
    found = spearman(x, updates, censored, 200)
    shuffled = generator.permutation(40)
    again = spearman(
        np.append(x[shuffled], [np.nan, 1]),
        np.append(updates[shuffled], [1, np.nan]),
        np.append(censored[shuffled], [True, True]),
        200,
    )
    assert again == pytest.approx(found)


@pytest.mark.parametrize("x", [[1, 1, 1, 1], [1, np.nan, 2, 3]])
def test_a_constant_measure_or_three_samples_have_no_correlation(x: list[float]) -> None:
    assert np.isnan(spearman(x, [1, 2, 3, 4], NONE_OF_4, 20)[:3]).all()


def test_nothing_is_known_where_all_are_censored() -> None:
    everything = [True] * 6
    assert np.isnan(spearman(range(6), [9] * 6, everything, 20).value)
    assert np.isnan(concordance(range(6), [9] * 6, everything, 20).c.value)


def test_perfect_order_is_certain() -> None:
    assert spearman(range(20), range(20), np.zeros(20), 200)[:3] == pytest.approx((1, 1, 1))
    assert concordance(range(20), range(20, 0, -1), np.zeros(20), 200).somers_d[:3] == (-1, -1, -1)


def test_resamples_that_are_mostly_undefined_give_no_interval() -> None:
    # Only the first two can be compared, and 40 % of the resamples have both.
    one_pair = concordance([1, 2, 3, 4, 5], [5, 9, 4, 3, 2], [False, True, True, True, True], 500).c
    assert one_pair.value == 1
    assert np.isnan([one_pair.low, one_pair.high]).all()
    # Of the first with any other, 67 % have one.
    four_pairs = concordance([1, 2, 3, 4, 5], [5, 9, 9, 9, 9], [False, True, True, True, True], 500).c
    assert four_pairs[:3] == (1, 1, 1)


@pytest.mark.parametrize(("n", "r"), [(30, 0.0), (40, 0.7)])
def test_intervals_hold_the_truth_of_a_gaussian_copula_in_95_of_100(n: int, r: float) -> None:
    rho, d = 6 / np.pi * np.arcsin(r / 2), 2 / np.pi * np.arcsin(r)
    hits = np.zeros(2)
    for trial in range(200):
        x, updates = copula(np.random.default_rng(trial), n, r)
        found = spearman(x, updates, np.zeros(n), 300, trial)
        somers = concordance(x, updates, np.zeros(n), 300, trial).somers_d
        hits += [found.low <= rho <= found.high, somers.low <= d <= somers.high]
    assert in_95_of_100(int(hits[0]), 200)
    assert in_95_of_100(int(hits[1]), 200)


def test_intervals_hold_the_truth_of_a_third_censored() -> None:
    cap = np.exp(3 + 0.43)
    x, updates = copula(np.random.default_rng(0), 200_000, 0.7)
    truth = stats.spearmanr(x, np.where(updates > cap, np.inf, updates))[0]
    hits = 0
    for trial in range(200):
        x, updates = copula(np.random.default_rng(1 + trial), 40, 0.7)
        found = spearman(x, *capped(updates, cap), 300, trial)
        hits += found.low <= truth <= found.high
    assert in_95_of_100(hits, 200)


def test_two_thousand_samples_take_seconds() -> None:
    x, updates = copula(np.random.default_rng(4), 2000, 0.6)
    found = spearman(x, *capped(updates, 30), 300)
    assert found.low < found.value < found.high < found.low + 0.1


# Partial correlation


def test_partial_correlation_is_the_closed_form_for_one_control() -> None:
    generator = np.random.default_rng(5)
    z = generator.normal(size=50)
    x, updates = z + generator.normal(size=50), np.exp(z + generator.normal(size=50))
    xy, xz, yz = (stats.spearmanr(a, b)[0] for a, b in ((x, updates), (x, z), (updates, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial(x, updates, np.zeros(50), [z], 20).value == pytest.approx(expected)


def test_partial_correlation_is_that_of_residual_ranks_for_several_controls() -> None:
    generator = np.random.default_rng(6)
    controls = generator.normal(size=(3, 60))
    x, updates = controls.sum(axis=0) + generator.normal(size=(2, 60))
    ranks = stats.rankdata([x, updates, *controls], axis=1)
    design = np.vstack([ranks[2:], np.ones(60)]).T
    left = [values - design @ np.linalg.lstsq(design, values)[0] for values in ranks[:2]]
    found = partial(x, updates, np.zeros(60), list(controls), 20)
    assert found.value == pytest.approx(np.corrcoef(left)[0, 1])
    # A control that is given twice is held once.
    again = partial(x, updates, np.zeros(60), [*controls, controls[0]], 20)
    assert again.value == pytest.approx(found.value)


def test_a_common_cause_leaves_nothing_in_95_of_100() -> None:
    hits = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        z = generator.normal(size=40)
        x, updates = z + 0.7 * generator.normal(size=(2, 40))
        hits += not partial(x, updates, np.zeros(40), [z], 300, trial).excludes_zero
    # Ranks do not hold z wholly: 0.012 is left in truth, nothing to forty samples.
    assert in_95_of_100(hits, 200)


def test_a_measure_that_is_its_control_has_nothing_left() -> None:
    x, updates = copula(np.random.default_rng(7), 30, 0.5)
    assert np.isnan(partial(x, updates, np.zeros(30), [np.exp(x)], 20).value)


def test_over_models_it_is_the_mean_of_those_that_have_one() -> None:
    generator = np.random.default_rng(9)
    first, second = (generator.normal(size=(3, n)) for n in (30, 20))
    samples = [np.arange(30), np.arange(10, 30)]
    second[0, 4] = np.nan

    def relation(values: np.ndarray, at: np.ndarray) -> Relation:
        return Relation(at, values[0], values[1], np.zeros(len(at)), [values[2]])

    both = [relation(first, samples[0]), relation(second, samples[1])]
    singly = [partial(*values[:2], np.zeros(values.shape[1]), [values[2]], 20).value for values in (first, second)]
    # Of a constant, and of three samples, there is none.
    constant = relation(np.array([np.ones(30), *first[1:]]), samples[0])
    few = relation(second[:, :3], samples[1][:3])
    found, models = mean_partial([*both, constant, few], 200)
    assert found.value == pytest.approx(np.mean(singly))
    assert (found.n, models) == (30, 2)
    assert (found, 2) == mean_partial(both, 200)
    # One model alone is resampled as it is without the mean.
    alone = partial(*first[:2], np.zeros(30), [first[2]], 400)
    assert mean_partial([both[0]], 400)[0].value == pytest.approx(alone.value)
    assert mean_partial([constant, few], 20) == (UNDEFINED, 0)


def test_over_models_samples_count_that_have_a_value_and_a_censored_one_once() -> None:
    x, updates = np.random.default_rng(4).normal(size=(2, 40))
    censored = np.arange(40) % 4 == 0
    # A measure from elsewhere that has a value for eight of forty.
    few = np.where(np.arange(40) < 8, x, np.nan)
    relation = Relation(np.arange(40), few, updates, censored)
    found, models = mean_partial([relation, relation])
    assert (found.n, found.n_censored, models) == (8, 2, 2)
    assert (found, 1) == mean_partial([Relation(np.arange(8), x[:8], updates[:8], censored[:8])])
    assert found.value == pytest.approx(partial(x[:8], updates[:8], censored[:8], []).value)


# League table


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    generator = np.random.default_rng(8)
    n = 120
    length = np.exp(generator.normal(size=n))
    own = generator.normal(size=n)
    updates = np.exp(3 + 0.3 * np.log(length) + 0.8 * own + 0.3 * generator.normal(size=n))
    measures = pd.DataFrame(
        {"noise": generator.normal(size=n), "proxy": length * 2, "good": -own, "flat": np.ones(n)}
    )
    length = pd.Series(length, name="length")
    costs, expected = {"good": 24.0, "length": 0.0}, {"good": -1, "proxy": -1}
    return league(measures, *capped(updates, 50), length, costs, expected, replicates=400).set_index("measure")


def test_the_league_is_ordered_by_the_size_of_rho_with_the_undefined_last(table: pd.DataFrame) -> None:
    assert list(table.index[[0, -2, -1]]) == ["good", "noise", "flat"]
    assert table["rho"].abs().dropna().is_monotonic_decreasing
    assert set(table.index) == {"good", "proxy", "length", "noise", "flat"}


def test_the_league_says_what_is_as_expected_and_what_beats_length(table: pd.DataFrame) -> None:
    good = table.loc["good"]
    assert (good["verdict"], good["excludes_zero"], good["beats_length"]) == (
        "predicts updates as expected",
        True,
        True,
    )
    assert good["gain_low"] > 0
    assert good["cost"] == 24
    assert np.sign(good[["rho", "partial", "somers_d"]].astype(float)).eq(-1).all()
    assert table.loc["proxy", "verdict"] == "predicts the opposite"
    assert table.loc["length", "verdict"] == "predicts updates"
    assert table.loc["noise", "verdict"] == "cannot tell"
    assert table.loc["flat", "verdict"] == "not measured"
    assert np.isnan(table.loc["noise", "cost"])


def test_length_is_not_compared_with_itself_and_its_proxy_gains_nothing(table: pd.DataFrame) -> None:
    assert table.loc["length", ["partial", "gain"]].isna().all()
    assert np.isnan(table.loc["proxy", "partial"])
    assert table.loc["proxy", "gain":"gain_high"].tolist() == [0, 0, 0]
    assert not table.loc[["length", "proxy", "noise"], "beats_length"].any()


def test_the_league_corrects_p_for_the_measures_that_have_one(table: pd.DataFrame) -> None:
    assert np.isnan(table.loc["flat", "p_holm"])
    assert table.loc["good", "p_holm"] == pytest.approx(4 * table.loc["good", "p"])
    assert table.loc["noise", "p_holm"] == pytest.approx(table.loc["noise", "p"])


def test_the_p_of_the_league_is_scipys() -> None:
    x, updates = copula(np.random.default_rng(9), 30, 0.3)
    length = pd.Series(np.random.default_rng(10).normal(size=30), name="length")
    found = league(pd.DataFrame({"x": x}), updates, np.zeros(30), length, {}, {}, replicates=20)
    assert found.set_index("measure").loc["x", "p"] == pytest.approx(stats.spearmanr(x, updates).pvalue)


def test_of_two_equally_good_measures_neither_beats_the_other_in_95_of_100() -> None:
    hits = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        y = generator.normal(size=40)
        up, down = y + generator.normal(size=40), -y + generator.normal(size=40)
        hits += not gain(up, down, np.exp(y), np.zeros(40), 300, trial).excludes_zero
    assert in_95_of_100(hits, 200)


def test_a_signed_gain_counts_the_wrong_way_as_a_loss() -> None:
    x, updates = copula(np.random.default_rng(19), 40, 0.6)
    rho = stats.spearmanr(x, updates)[0]
    assert gain(-x, x, updates, np.zeros(40), 50).value == pytest.approx(0)
    assert gain(-x, x, updates, np.zeros(40), 50, signed=True).value == pytest.approx(-2 * rho)


# Methods against one another


def test_repeatability_is_that_of_spearman_and_brown() -> None:
    generator = np.random.default_rng(20)
    truth = generator.normal(size=60)
    runs = pd.DataFrame(truth[:, None] + generator.normal(size=(60, 3)))
    runs.loc[7, 1] = np.nan
    kept = runs.dropna()
    mean = np.mean([stats.spearmanr(kept[i], kept[j])[0] for i, j in ((0, 1), (0, 2), (1, 2))])
    found = repeatability(runs, runs.gt(99), 100)
    assert found.value == pytest.approx(3 * mean / (1 + 2 * mean))
    assert (found.n, found.low < found.value < found.high) == (59, True)
    assert np.isnan(repeatability(runs[[0]], runs[[0]].gt(99), 20).value)


def test_kendalls_w_is_worked_by_hand() -> None:
    # Rank sums 4, 5, 9, 12 of three judges: S = 41, W = 12 · 41 / (9 · 60).
    ranks = pd.DataFrame({"GA": [1, 2, 3, 4], "NPO": [2, 1, 3, 4], "GradDiff": [1, 2, 3, 4]})
    sums = ranks.sum(axis=1)
    s = float(((sums - sums.mean()) ** 2).sum())
    found = agreement(ranks, ranks.ne(ranks), 20)
    assert found.kendalls_w.value == pytest.approx(12 * s / (9 * 60))
    assert found.kendalls_w.value == pytest.approx((1 + 2 * found.pairs["rho"].mean()) / 3)
    assert found.pairs[["first", "second"]].to_numpy().tolist() == [
        ["GA", "NPO"],
        ["GA", "GradDiff"],
        ["NPO", "GradDiff"],
    ]
    assert found.pairs["rho"].tolist() == pytest.approx([0.8, 1, 0.8])


def test_what_methods_have_in_common_does_not_depend_on_the_order_of_the_file() -> None:
    generator = np.random.default_rng(21)
    updates = pd.DataFrame(generator.normal(size=(16, 1)) + generator.normal(size=(16, 3)), columns=[*"abc"])
    shuffled = updates.iloc[generator.permutation(16)]
    censored, again = updates > 1, shuffled > 1
    found, other = agreement(updates, censored, 200), agreement(shuffled, again, 200)
    pd.testing.assert_frame_equal(other.pairs, found.pairs)
    assert other.kendalls_w == found.kendalls_w
    assert repeatability(shuffled, again, 200) == repeatability(updates, censored, 200)


def test_agreement_ranks_censored_samples_on_top_of_either_method() -> None:
    updates = pd.DataFrame({"GA": [1.0, 2, 3, 9, 9, 5], "NPO": [2.0, 1, 9, 4, 9, np.nan]})
    found = agreement(updates, updates == 9, 20).pairs.iloc[0]
    expected = stats.spearmanr([1, 2, 3, 9, 9], [2, 1, 9, 4, 9])[0]
    assert found["rho"] == pytest.approx(expected)
    assert (found["n"], found["n_censored"]) == (5, 3)


def test_flips_are_counted_by_hand() -> None:
    values = pd.DataFrame({"GA": [1.0, 2, 3, 4, 5], "NPO": [2.0, 3, 2, 5, 5], "PO": [9.0, 9, 9, 9, np.nan]})
    found = flips(values)
    pair = found.pairs.iloc[0]
    assert pair[["n", "first_wins", "second_wins", "ties", "flips"]].tolist() == [5, 1, 3, 1, 1]
    # Clopper–Pearson of 1 in 5 is [0.005, 0.716]; more than half of the selections cannot be the fewer.
    assert pair[["share", "low", "high"]].tolist() == pytest.approx([0.2, 0.00505, 0.5], abs=1e-5)
    assert found.pairs["n"].tolist() == [5, 4, 4]
    assert found.pairs["share"].tolist()[1:] == [0, 0]


def test_the_spread_has_the_interval_of_normal_values() -> None:
    hits = 0
    for trial in range(200):
        values = pd.DataFrame({"GA": np.random.default_rng(trial).normal(0, 2, 5)})
        row = flips(values).spread.iloc[0]
        hits += row["sd_low"] <= 2 <= row["sd_high"]
    assert in_95_of_100(hits, 200)
    assert row["sd"] == pytest.approx(values["GA"].std())
    assert row["least"] <= row["mean"] <= row["greatest"]


def test_balanced_selections_are_held_against_random_ones() -> None:
    generator = np.random.default_rng(17)
    random = flips(pd.DataFrame(generator.normal(size=(40, 2)), columns=["GA", "NPO"]))
    steady = pd.DataFrame(generator.normal(size=(40, 2)) * 0.2 + [0, 2], columns=["GA", "NPO"])
    found = balance(random, flips(steady))
    assert (found.spread["low"] < 0.2).all()
    assert (found.spread["high"] > 0.2).all()
    assert (found.spread["high"] < 1).all()
    pair = found.pairs.iloc[0]
    flipped = int(random.pairs["flips"].iloc[0])
    assert pair["share_balanced"] == 0
    assert pair["p"] == pytest.approx(stats.fisher_exact([[flipped, 40 - flipped], [0, 40]]).pvalue)


def test_a_balance_is_worked_by_hand() -> None:
    # The second wins but for two of twelve selections, and but for three of eight.
    random, balanced = (
        flips(pd.DataFrame({"GA": [*range(n)], "NPO": [x + (1 if x >= lost else -1) for x in range(n)]}))
        for n, lost in ((12, 2), (8, 3))
    )
    found = balance(random, balanced)
    pair, spread = found.pairs.iloc[0], found.spread.iloc[0]
    assert (pair["share_random"], pair["share_balanced"]) == (2 / 12, 3 / 8)
    assert pair["p"] == pytest.approx(stats.fisher_exact([[2, 10], [3, 5]]).pvalue)
    ratio = np.std(range(8), ddof=1) / np.std(range(12), ddof=1)
    ends = ratio / np.sqrt(stats.f(7, 11).ppf([0.975, 0.025]))
    assert spread[["ratio", "low", "high"]].tolist() == pytest.approx([ratio, *ends])


def test_a_spread_that_is_nothing_by_chance_is_held_against_nothing() -> None:
    steady, varied = (flips(pd.DataFrame({"GA": values})) for values in ([30, 30, 30], [29, 30, 31]))
    assert steady.spread[["sd_low", "sd_high"]].isna().all(axis=None)
    # Rounding is no spread, and no value is no warning.
    assert flips(pd.DataFrame({"GA": [0.1] * 3})).spread["sd"].item() == 0
    assert np.isnan(flips(pd.DataFrame({"GA": [np.nan] * 3})).spread["sd"].item())
    for random, balanced in permutations([steady, varied]):
        assert balance(random, balanced).spread[["ratio", "low", "high"]].isna().all(axis=None)


def test_one_selection_has_no_spread() -> None:
    found = flips(pd.DataFrame({"GA": [1.0], "NPO": [2.0]}))
    assert found.spread[["sd", "sd_low", "sd_high"]].isna().all(axis=None)
    assert found.pairs["share"].iloc[0] == 0


# Words


@pytest.mark.parametrize(
    ("estimate", "expected", "outcome"),
    [
        (Estimate(-0.68, -0.8, -0.5, 60), -1, "predicts updates as expected"),
        (Estimate(0.68, 0.5, 0.8, 60), -1, "predicts the opposite"),
        (Estimate(0.68, 0.5, 0.8, 60), 0, "predicts updates"),
        (Estimate(-0.2, -0.4, 0.1, 60), -1, "cannot tell"),
        (Estimate(np.nan, np.nan, np.nan, 3), -1, "not measured"),
        (Estimate(0.4, np.nan, np.nan, 3), 1, "not measured"),
    ],
)
def test_a_verdict_rests_on_the_interval_and_the_sign(estimate: Estimate, expected: int, outcome: str) -> None:
    assert verdict(estimate, expected) == outcome


def test_an_estimate_is_told_in_figures() -> None:
    figures = in_figures(Estimate(-0.68, -0.8, -0.5, 60, 4))
    assert figures == "ρ = −0.68 [−0.80, −0.50], n = 60, 4 of them censored"
    assert in_figures(Estimate(np.nan, np.nan, np.nan, 2)) == "ρ cannot be told, n = 2"
    assert in_figures(Estimate(0.2, np.nan, np.nan, 5)) == "ρ = 0.20 [no interval], n = 5"


# Slope and regime


def test_slopes_are_those_of_least_squares() -> None:
    generator = np.random.default_rng(18)
    x = generator.uniform(1, 3, 40)
    y = 2 * x + 1 + 0.1 * generator.normal(size=40)
    found = slope(np.append(x, np.nan), np.append(y, 1), 400)
    line = stats.linregress(x, y)
    assert found.through_origin.value == pytest.approx(x @ y / (x @ x))
    assert found.with_intercept.value == pytest.approx(line.slope)
    assert found.intercept.value == pytest.approx(line.intercept)
    assert found.with_intercept.n == 40
    half = (found.with_intercept.high - found.with_intercept.low) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 38) * line.stderr, rel=0.3)


def test_what_varies_by_rounding_alone_has_no_slope() -> None:
    x = 1e9 / 3 + 1e-7 * np.arange(6)
    assert np.isnan(slope(x, range(6), 20).with_intercept.value)


def test_the_slope_holds_the_truth_in_95_of_100() -> None:
    hits = np.zeros(2)
    for trial in range(200):
        generator = np.random.default_rng(trial)
        x = generator.uniform(1, 3, 25)
        found = slope(x, 1.5 * x + 0.2 * generator.normal(size=25), 300, trial)
        hits += [estimate.low <= 1.5 <= estimate.high for estimate in found[:2]]
    assert in_95_of_100(int(hits[0]), 200)
    assert in_95_of_100(int(hits[1]), 200)


def test_one_point_many_times_has_no_slope_but_a_line_through_the_origin() -> None:
    found = slope([2.0] * 6, [4.0] * 6, 50)
    assert found.through_origin[:3] == (2, 2, 2)
    assert np.isnan(found.with_intercept.value)


def test_the_quadratic_regime_lies_between_the_rounding_floor_and_the_quartic() -> None:
    sigmas = np.array([1e-2, 1e-5, 1e-4, 1e-3, 3e-4, 3e-3])
    curvature = np.array([2.0, 5.0, 9.0])
    mrd = sigmas[:, None] ** 2 * curvature * (1 + 5e3 * sigmas[:, None] ** 2) + 1e-9
    found = quadratic_regime(sigmas, mrd)
    assert (found.low, found.high) == (1e-4, 3e-3)
    assert found.table["sigma"].is_monotonic_increasing
    assert found.table["inside"].tolist() == [False, True, True, True, True, False]
    assert found.table["ratio"].iloc[2] == pytest.approx(5, rel=0.01)


def test_the_limits_of_a_regime_are_inside_it() -> None:
    # Of one sample MRD/σ² doubles, which is the whole tolerance; of as many more than it allows.
    mrd = np.array([1, 4, 16])[:, None] * [[0.25, 1], [0.5, 3], [1, 9]]
    found = quadratic_regime([1, 2, 4], mrd, tolerance=1)
    assert found.table["inside"].tolist() == [False, True, True]
    assert found.table["ratio"].tolist() == [0.625, 1.75, 5]


def test_samples_without_a_score_do_not_count_against_the_regime() -> None:
    sigmas = np.array([1e-5, 1e-4, 1e-3])
    mrd = sigmas[:, None] ** 2 * np.array([2.0, 5.0, np.nan, np.nan, np.nan])
    found = quadratic_regime(sigmas, mrd)
    assert (found.low, found.high) == (1e-5, 1e-3)
    assert found.table["ratio"].tolist() == pytest.approx([3.5] * 3)


def test_a_floor_alone_has_no_quadratic_regime() -> None:
    found = quadratic_regime([1e-5, 1e-4, 1e-3], [1e-6, 1e-6, 1e-6])
    assert np.isnan([found.low, found.high]).all()
    assert not found.table["inside"].any()
