"""Scores, errors and reliability from stored draws, against explicit loops and known variances."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrd_core.samples.config import Scope
from mrd_core.scoring.config import EstimatorConfig, Formula, Normalisation
from mrd_core.scoring.draws import (
    SPLIT_SEED,
    SPLITS,
    Draws,
    Precision,
    Units,
    parts,
    relative_se,
    reliability,
    scores,
    spearman_brown,
    variants,
)


def random_draws(evaluations: int = 12, samples: int = 5, mode: str = "antithetic", seed: int = 0) -> Draws:
    """Return draws with a signal well above their noise."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(1, samples, 2, 3)) + 0.1 * generator.normal(size=(evaluations, samples, 2, 3))
    values[..., 2] = np.abs(values[..., 2])
    kept = generator.integers(3, 9, (samples, 2))
    return Draws(tuple(f"s{i}" for i in range(samples)), values, kept, mode)


def noisy(true_sd: float, noise_sd: float, units: int, samples: int, seed: int = 0) -> np.ndarray:
    """Return units whose means have known true and noise variances, all of one sign."""
    generator = np.random.default_rng(seed)
    return 50 + true_sd * generator.normal(size=samples) + noise_sd * generator.normal(size=(units, samples))


def brute_force_reliability(units: np.ndarray, control: np.ndarray | None = None) -> float:
    """Split, rank, correlate, one split at a time; the control is partialled out by the textbook formula."""
    generator = np.random.default_rng(SPLIT_SEED)
    half, correlations = len(units) // 2, []
    for _ in range(SPLITS):
        order = generator.permutation(len(units))
        first = np.abs(units[order[:half]].mean(axis=0))
        second = np.abs(units[order[half : 2 * half]].mean(axis=0))
        ab = stats.spearmanr(first, second).statistic
        if control is not None:
            ac, bc = (stats.spearmanr(part, control).statistic for part in (first, second))
            ab = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
        correlations.append(ab)
    return 2 * np.mean(correlations) / (1 + np.mean(correlations))


@pytest.mark.parametrize("units", [4, 7, 12])
def test_reliability_is_that_of_explicit_splits(units: int) -> None:
    values = noisy(1, 1, units, 30)
    assert reliability(Units.of(values)) == pytest.approx(brute_force_reliability(values), abs=1e-12)


def test_length_is_partialled_out_as_the_textbook_does() -> None:
    values = noisy(1, 1, 10, 30)
    length = np.round(values.mean(axis=0) + np.random.default_rng(1).normal(size=30))
    found = reliability(Units.of(values), length)
    assert found == pytest.approx(brute_force_reliability(values, length), abs=1e-12)
    assert found < reliability(Units.of(values))


def test_what_length_explains_wholly_has_no_reliability_of_its_own() -> None:
    values = noisy(5, 1e-6, 8, 20)
    assert np.isnan(reliability(Units.of(values), values.mean(axis=0)))
    assert np.isnan(reliability(Units.of(np.ones((8, 20)))))


def test_a_control_that_is_constant_changes_nothing() -> None:
    values = noisy(1, 1, 8, 30)
    assert reliability(Units.of(values), np.full(30, 7)) == pytest.approx(reliability(Units.of(values)), abs=1e-12)


@pytest.mark.parametrize("noise_sd", [0.5, 1.0, 3.0])
def test_spearman_brown_finds_the_known_reliability(noise_sd: float) -> None:
    units, samples = 16, 4000
    # Reliability of a mean of n units is true / (true + noise / n); ranks of normals correlate as 6/π asin(ρ/2).
    pearson_half = 1 / (1 + noise_sd**2 / (units / 2))
    spearman_half = 6 / np.pi * np.arcsin(pearson_half / 2)
    expected = 2 * spearman_half / (1 + spearman_half)
    assert reliability(Units.of(noisy(1, noise_sd, units, samples))) == pytest.approx(expected, abs=0.02)


def test_pure_noise_has_no_reliability() -> None:
    assert abs(reliability(Units.of(noisy(0, 1, 12, 2000)))) < 0.1


def test_halves_that_rank_the_opposite_way_have_a_reliability_of_minus_one() -> None:
    # Of every split one half has the mean m (−1, 0, 1) with m > 0 and the other with m < 0: ρ = −1, where Spearman
    # and Brown's formula has its pole.
    values = 50 + np.outer([1.0, 2.0, -4.0, 1.0], [-1.0, 0.0, 1.0])
    evaluations = np.repeat(values, 2, axis=0)[:, :, None, None] * np.ones((2, 3))
    draws = Draws(("a", "b", "c"), evaluations, np.ones((3, 2), dtype=np.int64), "antithetic")
    precision = Precision.of(draws, Scope.ANSWER)
    assert (precision.reliability_mean, precision.reliability_sum) == (-1.0, -1.0)


def test_no_ranking_has_a_reliability_below_minus_one() -> None:
    generator = np.random.default_rng(3)
    for samples in (3, 4, 5):
        found = [reliability(Units.of(generator.normal(size=(4, samples)))) for _ in range(200)]
        held = [reliability(Units.of(generator.normal(size=(4, samples))), range(samples)) for _ in range(200)]
        assert np.nanmin(found) >= -1
        assert all(np.isnan(held)) if samples == 3 else np.nanmin(held) >= -1


def test_a_reliability_is_negative_where_the_halves_are_somewhat_opposed() -> None:
    # ρ = −0.107 of the halves: 2 · −0.107 / 0.893.
    assert spearman_brown(-0.107) == pytest.approx(-0.2396, abs=1e-4)
    assert [spearman_brown(halves) for halves in (-1 / 3, -0.5, -1.0)] == [-1.0] * 3
    assert np.isnan(spearman_brown(float("nan")))


def test_what_length_leaves_of_three_samples_has_no_reliability() -> None:
    # Each residual is one number times one vector: any two correlate as ±1.
    assert np.isnan(reliability(Units.of(noisy(1, 1, 8, 3)), [3.0, 1.0, 2.0]))


def test_samples_without_a_score_are_left_out_of_the_reliability() -> None:
    values = noisy(1, 1, 8, 30)
    with_gap = np.insert(values, 4, np.nan, axis=1)
    length = np.arange(31.0)
    assert reliability(Units.of(with_gap)) == reliability(Units.of(values))
    assert reliability(Units.of(with_gap), length) == pytest.approx(
        reliability(Units.of(values), np.delete(length, 4)), abs=1e-12
    )


@pytest.mark.parametrize(("units", "samples"), [(3, 10), (8, 2), (8, 1), (1, 1)])
def test_too_few_units_or_samples_have_no_reliability(units: int, samples: int) -> None:
    assert np.isnan(reliability(Units.of(noisy(1, 1, units, samples))))


@pytest.mark.parametrize(("probes", "is_defined"), [(1, False), (2, True), (3, True)])
def test_halves_need_two_probes(probes: int, is_defined: bool) -> None:
    units = Units.of(noisy(1, 1, 4, 10), noisy(1, 1, probes, 10))
    assert np.isfinite(reliability(units)) == is_defined


def test_scores_are_mean_standard_error_and_t_interval() -> None:
    draws = random_draws()
    frame = scores(draws, Scope.FULL, Normalisation.MEAN)
    for i in range(5):
        pairs = [draws.values[k : k + 2, i, 1, 1].mean() / draws.kept[i, 1] for k in range(0, 12, 2)]
        found = frame.iloc[i]
        interval = stats.t.interval(0.95, 5, loc=np.mean(pairs), scale=stats.sem(pairs))
        assert found["mrd_signed"] == pytest.approx(np.mean(pairs))
        assert found["mrd"] == pytest.approx(abs(np.mean(pairs)))
        assert found["mrd_se"] == pytest.approx(stats.sem(pairs))
        assert found["relative_se"] == pytest.approx(stats.sem(pairs) / abs(np.mean(pairs)))
        assert [found["mrd_low"], found["mrd_high"]] == pytest.approx(sorted(np.abs(interval)))


def test_an_interval_that_spans_zero_begins_at_zero() -> None:
    values = np.zeros((4, 3, 2, 3))
    values[:, :, 1, 1] = np.array([[-1, 3, -9.0], [1, 4, -8], [-1, 3, -9], [2, 4, -8]])
    frame = scores(
        Draws(("a", "b", "c"), values, np.ones((3, 2), dtype=np.int64), "plain"), Scope.FULL, Normalisation.SUM
    )
    assert frame["mrd_low"][0] == 0
    assert frame["mrd_high"][0] > frame["mrd"][0]
    assert (frame["mrd_low"][1:] > 0).all()
    assert frame["mrd_signed"][2] < 0 < frame["mrd_low"][2] < frame["mrd"][2] < frame["mrd_high"][2]


def test_a_sample_without_kept_tokens_is_undefined_everywhere() -> None:
    draws = random_draws()
    draws.kept[2] = 0
    draws.values[:, 2] = 0
    for normalisation in Normalisation:
        frame = scores(draws, Scope.ANSWER, normalisation)
        undefined = frame.drop(columns=["sample_id", "n_tokens"]).isna()
        assert undefined.iloc[2].all()
        assert not undefined.drop(index=2).any().any()
    assert variants(draws).iloc[2].isna().all()
    assert np.isfinite(Precision.of(draws, Scope.ANSWER).median_relative_se)


def test_every_variant_is_a_column() -> None:
    draws = random_draws()
    frame = variants(draws)
    assert len(frame.columns) == 12
    for formula in Formula:
        for scope in Scope:
            for normalisation in Normalisation:
                expected = scores(draws, scope, normalisation, formula)["mrd"]
                np.testing.assert_array_equal(frame[f"{formula}_{scope}_{normalisation}"], expected)


def test_one_unit_has_a_score_and_no_error() -> None:
    frame = scores(random_draws(evaluations=2), Scope.ANSWER, Normalisation.MEAN)
    assert frame["mrd"].notna().all()
    assert frame[["mrd_se", "mrd_low", "mrd_high", "relative_se"]].isna().all().all()


def test_one_sample_alone_has_a_precision() -> None:
    reached = Precision.of(random_draws(samples=1), Scope.ANSWER)
    assert reached.evaluations == 12
    assert reached.median_relative_se == reached.p90_relative_se > 0
    assert np.isnan(reached.reliability_mean)


@pytest.mark.filterwarnings("error")
def test_a_score_of_zero_has_no_relative_error() -> None:
    assert np.isnan(relative_se(Units.of(np.array([[1.0, 2.0], [-1.0, 2.5]])))[0])


@pytest.mark.parametrize("mode", ["antithetic", "plain"])
def test_draws_come_back_from_their_file(tmp_path: Path, mode: str) -> None:
    draws = random_draws(mode=mode)
    path = tmp_path / "draws.parquet"
    with path.open("wb") as stream:
        draws.save(stream)
    again = Draws.load(path)
    assert (again.sample_ids, again.mode, again.evaluations) == (draws.sample_ids, draws.mode, 12)
    np.testing.assert_array_equal(again.values, draws.values)
    np.testing.assert_array_equal(again.kept, draws.kept)


def with_probes(draws: Draws, probes: int = 4, seed: int = 1) -> Draws:
    """Return the same draws, looked at for their parts, with sign probes of the answer."""
    generator = np.random.default_rng(seed)
    n = len(draws.sample_ids)
    parts = generator.uniform(1, 2, (draws.evaluations // 2, n, 2, 2))
    parts[2:, :, :, 1] = np.nan
    estimates = generator.uniform(1, 2, (probes, n, 2))
    estimates[:, :, 1] = np.nan
    return replace(draws, sigma=0.5, parts=parts, probes=estimates)


def test_parts_and_probes_come_back_from_their_files(tmp_path: Path) -> None:
    draws = with_probes(random_draws())
    with (tmp_path / "draws").open("wb") as stream, (tmp_path / "probes").open("wb") as other:
        draws.save(stream)
        draws.save_probes(other)
    again = Draws.load(tmp_path / "draws", tmp_path / "probes")
    assert again.sigma == 0.5
    np.testing.assert_array_equal(again.parts, draws.parts)
    np.testing.assert_array_equal(again.probes, draws.probes)
    assert Draws.load(tmp_path / "draws", tmp_path / "none").probes is None


@pytest.mark.parametrize("normalisation", Normalisation)
@pytest.mark.parametrize("scope", Scope)
def test_what_pairs_say_of_the_speed_is_replaced_by_what_probes_say(
    scope: Scope, normalisation: Normalisation
) -> None:
    draws = with_probes(random_draws())
    at = list(Scope).index(scope)
    tokens = draws.kept[:, at] if normalisation is Normalisation.MEAN else np.ones(5)
    relative = draws.values[:, :, at, 1]
    # Only the answer was probed, and its speed is what is replaced in both scopes.
    residual = [(relative[2 * k] + relative[2 * k + 1]) / 2 + 0.125 * draws.parts[k, :, 0, 0] for k in range(6)]
    expected = (np.mean(residual, axis=0) - 0.125 * draws.probes[:, :, 0].mean(axis=0)) / tokens
    error = np.sqrt(
        np.var(residual, axis=0, ddof=1) / 6 + 0.125**2 * draws.probes[:, :, 0].var(axis=0, ddof=1) / 4
    )
    frame = scores(draws, scope, normalisation)
    np.testing.assert_allclose(frame["mrd_signed"], expected)
    np.testing.assert_allclose(frame["mrd_se"], error / tokens)
    # The other formulas are of the pairs alone.
    other = scores(draws, scope, normalisation, Formula.MEAN_ABSOLUTE)
    pd.testing.assert_frame_equal(other, scores(random_draws(), scope, normalisation, Formula.MEAN_ABSOLUTE))


def test_the_parts_add_up_to_the_whole() -> None:
    draws = with_probes(random_draws(evaluations=4), probes=2)
    # A speed that probes and pairs agree on.
    parts_of_pairs = draws.parts.copy()
    parts_of_pairs[:, :, :, 0] = 1.5
    draws = replace(draws, parts=parts_of_pairs, probes=np.full((2, 5, 2), 1.5))
    for scope, normalisation in product(Scope, Normalisation):
        found = parts(draws, scope, normalisation)
        whole = found["speed"] + found["spread"] + found["curvature"]
        np.testing.assert_allclose(scores(draws, scope, normalisation)["mrd_signed"], -0.125 * whole)
    assert parts(random_draws(), Scope.ANSWER, Normalisation.SUM).isna().all(axis=None)


def test_an_error_of_two_parts_has_as_many_degrees_of_freedom_as_satterthwaite_says() -> None:
    generator = np.random.default_rng(0)
    units = Units.of(generator.normal(size=(9, 4)), 3 * generator.normal(size=(4, 4)))
    first, second = (part.var(axis=0, ddof=1) / len(part) for part in units.parts)
    np.testing.assert_allclose(units.error, np.sqrt(first + second))
    np.testing.assert_allclose(units.freedom, (first + second) ** 2 / (first**2 / 8 + second**2 / 3))
    np.testing.assert_allclose(Units.of(units.parts[0]).freedom, 8)


def test_the_interval_of_pairs_and_probes_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    pairs, probes = 10 + generator.normal(size=(6, 20_000)), 0.3 * generator.normal(size=(4, 20_000))
    units = Units.of(pairs, probes)
    half = stats.t.ppf(0.975, units.freedom) * units.error
    assert np.mean(np.abs(units.mean - 10) < half) == pytest.approx(0.95, abs=0.01)


def test_halves_share_out_pairs_and_probes_alike() -> None:
    units = Units.of(noisy(1, 1, 6, 40), noisy(1, 1, 4, 40, seed=1))
    first, second = units.halves(np.random.default_rng(0))
    for half in (first, second):
        np.testing.assert_allclose([half[:6].sum(), half[6:].sum()], 1)
        assert (np.count_nonzero(half[:6]), np.count_nonzero(half[6:])) == (3, 2)
    assert not (first * second).any()
    assert np.isnan(reliability(Units.of(units.parts[0], units.parts[1][:1])))


def reached(
    median: float = 0.02, p90: float = 0.05, by_sum: float = 0.95, by_mean: float = 0.8, samples: int = 40
) -> Precision:
    """Return a precision with these figures."""
    return Precision(samples, 16, median, p90, by_sum, by_mean)


def test_the_precision_rule_wants_both_quantiles() -> None:
    target = EstimatorConfig(stop="precision", median_relative_se=0.03, p90_relative_se=0.06)
    assert reached().reaches(target)
    assert not reached(median=0.031).reaches(target)
    assert not reached(p90=0.061).reaches(target)
    assert not reached(median=float("nan")).reaches(target)


def test_the_reliability_rule_looks_at_the_chosen_normalisation() -> None:
    by_sum = EstimatorConfig(stop="reliability", reliability=0.9, normalisation=Normalisation.SUM)
    by_mean = EstimatorConfig(stop="reliability", reliability=0.9, normalisation=Normalisation.MEAN)
    assert reached().reaches(by_sum)
    assert not reached().reaches(by_mean)
    assert reached(by_mean=0.9).reaches(by_mean)
    assert not reached(by_mean=float("nan")).reaches(by_mean)


def test_left_to_itself_a_run_stops_when_it_ranks_reliably_or_its_errors_are_half_of_what_they_may_be() -> None:
    target = EstimatorConfig(normalisation=Normalisation.SUM)
    assert target.stop == "auto"
    assert reached(by_sum=0.95).reaches(target)
    assert not reached(by_sum=0.94).reaches(target)
    assert reached(median=0.015, p90=0.03, by_sum=0).reaches(target)
    # Few samples rank by chance.
    assert not reached(median=0.04, samples=19).reaches(target)
    assert reached(by_sum=0, samples=19).reaches(target)


def test_never_never_stops() -> None:
    assert not reached(0, 0, 1, 1).reaches(EstimatorConfig(stop="never"))
