"""The index of semantic complexity: a worked example, its invariances, and what it leaves out."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.characteristics.complexity import complexity_index

LENGTH = pd.Series([4.0, 9.0, 6.0, 1.0])


def random_features(n: int = 50) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(5).normal(size=(n, 3)), columns=["a", "b", "c"])


def test_worked_example() -> None:
    # a: mean 2, standard deviation 1; b: mean 10, standard deviation 5.
    features = pd.DataFrame(
        {"a": [1.0, 1.0, 3.0, 3.0], "b": [5.0, 15.0, 15.0, 5.0], "unasked": [1.0, 2.0, 3.0, 9.0]}
    )
    index = complexity_index(features, ["a", "b"], LENGTH)
    assert index.values.tolist() == pytest.approx([-1, 0, 1, 0])
    assert index.parts == ("a", "b")
    assert index.left_out == {}
    # Ranks 1, 2.5, 4, 2.5 against 2, 4, 3, 1: covariance 1.5 / 4, variances 4.5 / 4 and 5 / 4.
    assert index.length_correlation == pytest.approx(1.5 / np.sqrt(4.5 * 5))


@pytest.mark.parametrize(("scale", "shift"), [(2.0, 0.0), (1e-3, 1e3), (40.0, -7.0)])
def test_an_affine_change_of_a_part_changes_nothing(scale: float, shift: float) -> None:
    features = random_features()
    changed = features.assign(b=scale * features["b"] + shift)
    length = pd.Series(np.arange(50.0))
    before, after = (complexity_index(frame, ["a", "b", "c"], length) for frame in (features, changed))
    np.testing.assert_allclose(after.values, before.values, atol=1e-9)
    assert after.length_correlation == pytest.approx(before.length_correlation)


def test_the_order_of_samples_and_parts_does_not_matter() -> None:
    features, length = random_features(), pd.Series(np.arange(50.0))
    mixed = features.sample(frac=1, random_state=1)
    straight = complexity_index(features, ["a", "b", "c"], length)
    shuffled = complexity_index(mixed, ["c", "a", "b"], length)
    pd.testing.assert_series_equal(shuffled.values.sort_index(), straight.values)
    assert shuffled.length_correlation == pytest.approx(straight.length_correlation)


def test_a_part_needs_nine_tenths_of_the_samples() -> None:
    features = random_features(10)
    features.loc[0, "a"] = np.nan
    features.loc[[0, 1], "b"] = np.nan
    index = complexity_index(features, ["a", "b", "c"], pd.Series(np.arange(10.0)))
    assert index.parts == ("a", "c")
    assert index.left_out == {"b": "defined for 80 % of the samples"}


def test_the_share_is_not_rounded_up_to_the_limit() -> None:
    features = random_features(1000)
    features.loc[:100, "a"] = np.nan  # 89.9 % are left
    index = complexity_index(features, ["a", "b"], pd.Series(np.arange(1000.0)))
    assert index.left_out == {"a": "defined for 89 % of the samples"}


def test_a_part_that_does_not_vary_is_left_out() -> None:
    features = random_features(20).assign(b=0.1)
    features.loc[3, "b"] = np.nan
    index = complexity_index(features, ["a", "b"], pd.Series(np.arange(20.0)))
    assert index.parts == ("a",)
    assert index.left_out == {"b": "the same for all 19 samples that it is defined for"}


def test_a_sample_that_lacks_a_part_averages_over_its_others() -> None:
    features = random_features(20)[["a", "b"]]
    features.loc[4, "a"] = np.nan
    features.loc[5] = [np.nan, np.nan]
    index = complexity_index(features, ["a", "b"], pd.Series(np.arange(20.0)))
    standardised = stats.zscore(features.to_numpy(), axis=0, nan_policy="omit")
    assert index.values[4] == pytest.approx(standardised[4, 1])
    assert np.isnan(index.values[5])
    assert index.values[0] == pytest.approx(standardised[0].mean())


def test_without_a_part_the_index_is_undefined() -> None:
    features = pd.DataFrame({"a": [np.nan, np.nan, 1.0, np.nan]})
    index = complexity_index(features, ["a"], LENGTH)
    assert index.values.isna().all()
    assert len(index.values) == 4
    assert index.parts == ()
    assert index.left_out == {"a": "defined for 25 % of the samples"}
    assert np.isnan(index.length_correlation)


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_length_correlation_is_undefined_for_few_samples_or_one_length(n: int) -> None:
    features = pd.DataFrame({"a": np.arange(float(n))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(complexity_index(features, ["a"], pd.Series(np.full(n, 7.0))).length_correlation)
        few = complexity_index(features, ["a"], pd.Series(np.arange(float(n))))
    assert np.isnan(few.length_correlation) == (n < 3)
