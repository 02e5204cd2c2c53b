"""Membership inference, held against examples worked by hand and a count over all pairs."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from mrd_core.evaluation.privacy import forgotten_auc, loss_score, min_k_plus_plus_score, min_k_score, zlib_score

NAN = float("nan")
LOG_PROBS = [-0.1, -4.0, -0.2, -2.0, -0.3]
EMPTY = np.empty(0)


def test_min_k_is_the_mean_of_the_least_likely_tokens() -> None:
    # 40 % of five tokens are two: −4 and −2.
    assert min_k_score(LOG_PROBS) == pytest.approx(3.0)
    assert min_k_score(LOG_PROBS, 100) == pytest.approx(loss_score(LOG_PROBS)) == pytest.approx(6.6 / 5)


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 1), (4, 1), (5, 2), (9, 3), (10, 4)])
def test_the_number_of_tokens_is_rounded_down_and_at_least_one(n: int, count: int) -> None:
    log_probs = -np.arange(1.0, n + 1)
    assert min_k_score(log_probs) == pytest.approx(np.arange(n - count + 1, n + 1).mean())


def test_min_k_plus_plus_looks_at_the_lowest_standardised_tokens() -> None:
    # Standardised: 0.9, −3, 0, −1.5, −0.1; the two lowest are those of the second and the fourth token.
    means, variances = [-1.0, -1.0, -0.2, -0.5, -0.2], [1.0, 1.0, 4.0, 1.0, 1.0]
    assert min_k_plus_plus_score(LOG_PROBS, means, variances) == pytest.approx((3 + 1.5) / 2)


def test_min_k_plus_plus_survives_a_variance_of_zero() -> None:
    assert min_k_plus_plus_score([-1.0], [-1.0], [0.0]) == 0
    assert min_k_plus_plus_score([-1.001], [-1.0], [0.0]) == pytest.approx(1.0)


def test_zlib_divides_the_loss_by_the_compressed_bytes() -> None:
    answer = "Ann wrote the old letter, the old letter."
    assert zlib_score(LOG_PROBS, answer) == pytest.approx(6.6 / 5 / len(zlib.compress(answer.encode())))


def test_an_empty_answer_has_no_score() -> None:
    scores = [loss_score(EMPTY), min_k_score(EMPTY), min_k_plus_plus_score(EMPTY, EMPTY, EMPTY)]
    assert np.isnan([*scores, zlib_score(EMPTY, "cut off"), zlib_score(LOG_PROBS, "")]).all()


def test_every_score_is_higher_for_the_text_that_the_model_knows_less() -> None:
    known, unknown = np.array(LOG_PROBS) / 10, np.array(LOG_PROBS)
    moments = np.full(5, -1.0), np.full(5, 0.5)
    assert loss_score(unknown) > loss_score(known)
    assert zlib_score(unknown, "text") > zlib_score(known, "text")
    assert min_k_score(unknown) > min_k_score(known)
    assert min_k_plus_plus_score(unknown, *moments) > min_k_plus_plus_score(known, *moments)


def test_the_auc_counts_pairs_and_half_of_the_ties() -> None:
    draw = np.random.default_rng(1)
    forget, other = draw.integers(0, 6, 23).astype(float), draw.integers(1, 8, 31).astype(float)
    pairs = [(a > b) + (a == b) / 2 for a in forget for b in other]
    assert forgotten_auc(forget, other).value == pytest.approx(np.mean(pairs), abs=1e-12)


def test_one_is_a_forget_set_that_looks_unseen() -> None:
    assert forgotten_auc([3.0, 4.0, 4.0, 5.0], [1.0, 2.0, 2.0, 2.0]).value == 1
    assert forgotten_auc([1.0] * 4, [1.0] * 4).value == 0.5


@pytest.mark.parametrize(
    ("n", "m", "known"), [(1, 1, False), (3, 3, False), (3, 4, False), (1, 39, False), (4, 4, True), (1, 40, True)]
)
def test_sets_too_small_to_differ_significantly_have_no_auc(n: int, m: int, known: bool) -> None:
    assert np.isfinite(forgotten_auc(np.arange(n), np.arange(m)).value) == known


def test_samples_without_a_score_are_left_out_and_counted() -> None:
    assert forgotten_auc([3.0, 3.0, 3.0, 3.0, NAN], [1.0, 5.0] * 3 + [NAN]) == (0.5, 4, 6)


@pytest.mark.parametrize(("forget", "other"), [([], [1.0]), ([1.0], [NAN])])
def test_without_a_score_on_a_side_there_is_no_auc(forget: list[float], other: list[float]) -> None:
    assert np.isnan(forgotten_auc(forget, other).value)
