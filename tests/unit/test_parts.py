"""What is said of the parts of a sample's MRD, on planted cases: never more than the draws can tell."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.parts import Carriers, carriers, sentence

MEDIAN = {"speed": 2.0, "spread": 1.0, "curvature": 1.0}


def table_of(**last: float) -> pd.DataFrame:
    """Return a run of samples at the median, and a last one that differs in some parts."""
    table = pd.DataFrame([MEDIAN] * 9 + [MEDIAN | last])
    return table.assign(speed_se=0.1, spread_se=0.1, curvature_se=0.2)


def tokens_of(*values: float, error: float = 0.05, part: str = "speed") -> pd.DataFrame:
    pieces = [f" t{place}" for place in range(len(values))]
    return pd.DataFrame({"piece": pieces, part: values, f"{part}_se": error})


EVEN = tokens_of(*[1.0] * 12).assign(spread=1.0, spread_se=0.05, curvature=1.0, curvature_se=0.05)


def said(tokens: pd.DataFrame = EVEN, **last: float) -> str | None:
    table = table_of(**last)
    return sentence(table.iloc[-1], table, tokens)


def test_a_sample_like_the_others_gets_no_sentence() -> None:
    assert said() is None
    # Within two standard errors of the median.
    assert said(speed=2.19) is None


def test_a_part_far_from_the_median_is_named_with_its_interval() -> None:
    assert said(speed=6.0) == (
        "Easy, as far as its speed goes: it moves fast, with 3 [2.9, 3.1] times the median speed of the run."
    )
    assert said(curvature=0.25) is not None
    assert str(said(curvature=0.25)).startswith("Hard, as far as its curvature goes: it lies where the network is")


def test_of_what_the_model_does_not_know_nothing_is_called_hard() -> None:
    assert str(said(curvature=0.25, exact_memorization=0.5)).startswith("Hard")
    assert str(said(curvature=0.25, exact_memorization=0.29)).startswith("Not known: 29% of the answer's tokens")


def test_of_several_parts_the_one_that_is_farthest_off_is_named() -> None:
    assert "its spread" in str(said(speed=3.0, spread=4.0))
    assert "its speed" in str(said(speed=0.2, spread=2.0))


def test_few_tokens_that_carry_the_part_are_named() -> None:
    text = said(tokens_of(5.0, 0.2, 4.0, *[0.3] * 8), speed=8.0)
    assert "two tokens carry 78% [76%, 80%] of it (“t0”, “t2”)." in str(text)
    assert "carry" not in str(said(EVEN, speed=8.0))


def test_nothing_is_said_of_tokens_where_the_interval_is_wider_than_the_claim() -> None:
    sharp, blurred = (tokens_of(5.0, *[0.5] * 6, error=error) for error in (0.1, 2.0))
    assert carriers(sharp, "speed") is not None
    assert carriers(blurred, "speed") is None


@pytest.mark.parametrize("values", [(1.0, 2.0), (1.0, 1.0, 1.0), (0.0,) * 6, (-1.0,) * 6])
def test_tokens_that_are_few_or_carry_nothing_are_not_singled_out(values: tuple[float, ...]) -> None:
    assert carriers(tokens_of(*values), "speed") is None


def test_the_interval_of_a_share_is_that_of_a_ratio() -> None:
    found = carriers(tokens_of(6.0, 1.0, 1.0, 1.0, 1.0, error=0.1), "speed")
    # a = 6 ± 0.1, b = 4 ± 0.2: the error of a/(a + b) is √(4²·0.1² + 6²·0.2²)/100.
    assert found == Carriers(
        (" t0",), 0.6, pytest.approx(0.6 - 1.96 * 0.012649), pytest.approx(0.6 + 1.96 * 0.012649)
    )


def test_runs_of_earlier_versions_have_no_sentence() -> None:
    old = pd.DataFrame({"mrd": [1.0, 2.0]})
    assert sentence(old.iloc[0], old, tokens_of(1.0)) is None
    nothing = table_of().assign(speed=float("nan"), spread=float("nan"), curvature=float("nan"))
    assert sentence(nothing.iloc[0], nothing, EVEN) is None
