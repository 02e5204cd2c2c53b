"""The ends of a ranking, on a planted one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.contrast import AT_AN_END, cliffs_delta, contrast, words_of

N = 60


@pytest.fixture
def table() -> pd.DataFrame:
    """A ranking whose hard samples are likely and short, while their entropy is that of the others."""
    rank = np.arange(1, N + 1)
    return pd.DataFrame(
        {
            "rank": rank,
            "sample_id": [f"s{number:02d}" for number in rank],
            "mrd": rank / 100,
            "nll": rank * 0.1,
            "n_tokens": np.where(rank <= N // 2, 5, 20),
            "entropy": np.tile([1.0, 2.0], N // 2),
            "speed": rank * 1.0,
            "prompt": "Who?",
            "answer": ["An old letter" if number <= N // 2 else "A cold house" for number in rank],
        }
    )


def test_the_ends_and_what_tells_them_apart(table: pd.DataFrame) -> None:
    ends = contrast(table.sample(frac=1, random_state=0))
    assert ends is not None
    assert list(ends.hardest["rank"]) == list(range(1, AT_AN_END + 1))
    assert list(ends.easiest["rank"]) == list(range(N, N - AT_AN_END, -1))
    by_measure = ends.measures.set_index("measure")
    # What is alike at both ends, and what MRD is made of, is not among them.
    assert list(by_measure["delta"]) == [-1.0, -1.0]
    assert by_measure.loc["Tokens", ["hardest", "easiest"]].tolist() == [5, 20]
    assert ends.words == {"hardest": ["letter", "old"], "easiest": ["cold", "house"]}


@pytest.mark.parametrize(("samples", "each"), [(3, None), (4, 1), (39, 9), (40, 10), (41, 10)])
def test_small_sets_have_small_ends_or_none(table: pd.DataFrame, samples: int, each: int | None) -> None:
    ends = contrast(table.head(samples))
    assert (ends and len(ends.hardest)) == each


def test_samples_without_mrd_are_at_no_end(table: pd.DataFrame) -> None:
    table.loc[table["rank"] > 50, "mrd"] = np.nan
    ends = contrast(table)
    assert ends is not None
    assert ends.easiest["rank"].max() == 50


def test_cliffs_delta_counts_pairs() -> None:
    first, second = pd.Series([1.0, 3.0, np.nan]), pd.Series([2.0, 2.0, 3.0])
    # Of six pairs two are above, three below and one is equal.
    assert cliffs_delta(first, second) == pytest.approx((2 - 3) / 6)
    assert np.isnan(cliffs_delta(first, pd.Series([np.nan])))


def test_a_word_is_of_an_end_that_mostly_has_it_where_the_other_hardly_does() -> None:
    others = ["the house", "the house", "a dog", "a cat", "an ox"]
    assert words_of(["the old letter", "an old house", "an old barn"], others) == ["old"]
    # One of five is a fifth, two are more.
    assert words_of(["a dog", "a house"], others) == ["dog"]
