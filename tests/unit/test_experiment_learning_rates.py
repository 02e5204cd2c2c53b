"""The search for learning rates, on update counts that are a known function of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from mrd_core.experiments.config import Arm, UnlearningExperimentConfig
from mrd_core.experiments.learning_rates import (
    MOST_TRIES,
    Case,
    LearningRates,
    Try,
    Window,
    best,
    next_rate,
    starting_rate,
)
from mrd_core.experiments.unlearner import UnlearningResult

CAP = 200
ARM = Arm("ga", "sgd")
CASE = Case(ARM)
WINDOW = Window(20, 30, 60)
# Of five samples, the hardest takes four times the updates of the easiest.
HARDNESS = (0.5, 0.8, 1.0, 1.3, 2.0)

Count = Callable[[float], float]


def ended(updates: float) -> UnlearningResult:
    """Return what came of an unlearning that takes so many updates; NaN where it diverges."""
    if math.isnan(updates):
        return UnlearningResult(1, forgotten=False, diverged=True, accuracy=None, nll=None, trace=[1.0])
    forgotten = updates <= CAP
    return UnlearningResult(int(min(max(updates, 0), CAP)), forgotten, False, 0.4, 1.0, [])


def rates(count: Count, wished: Any = "auto", hardness: tuple[float, ...] = HARDNESS) -> LearningRates:
    def unlearn(_case: Case, rate: float) -> list[tuple[dict[str, Any], UnlearningResult]]:
        return [({"sample_id": f"s{number}"}, ended(count(rate) * hard)) for number, hard in enumerate(hardness)]

    config = UnlearningExperimentConfig(
        kind="validity", forget_set={"source": "demo"}, learning_rate=wished, max_updates=CAP
    )
    return LearningRates(config, [CASE], 1000, unlearn, others=lambda _case: f"{len(hardness)} other samples")


def search(found: LearningRates, done: dict[str, Any] | None = None) -> dict[str, Any]:
    done = {} if done is None else done
    for unit, measure in found.measurements.items():
        if unit not in done:
            done[unit] = measure(done)
    return done


def tried(done: dict[str, Any]) -> list[float]:
    return [rows[0]["learning_rate"] for rows in done.values() if rows]


@pytest.mark.parametrize("scale", [1e-2, 0.1, 1.0, 3.0, 20.0])
def test_the_search_ends_in_the_window_when_updates_fall_with_the_rate(scale: float) -> None:
    found = rates(lambda rate: scale / rate)
    done = search(found)
    assert WINDOW.least <= scale / found.rate(CASE, done) <= WINDOW.most
    assert found.warnings(done) == []
    assert len(done) == MOST_TRIES
    assert done[list(done)[-1]] == []


def test_once_both_sides_are_known_the_next_rate_lies_between() -> None:
    # Too many updates up to the edge, divergence beyond it.
    found = rates(lambda rate: 100 if rate < 0.05 else math.nan)
    rows = tried(search(found))
    assert len(rows) == MOST_TRIES
    assert rows[1] == pytest.approx(3 * rows[0])
    small, large = rows[0], rows[1]
    for rate in rows[2:]:
        assert rate == pytest.approx(math.sqrt(small * large))
        small, large = (rate, large) if rate < 0.05 else (small, rate)
    # 100 updates are the median; one in five is censored, which is better than divergence.
    assert rows[0] <= found.rate(CASE, search(found)) < 0.05


def test_a_rate_at_which_anything_diverges_is_too_large() -> None:
    one = Try(1.0, (30.0, 31.0, 32.0), diverged=1)
    assert one.verdict(WINDOW) == "too large"
    assert next_rate(1.0, [one], WINDOW) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("updates", "verdict"),
    [
        ((19.0,), "too large"),
        ((20.0,), "good"),
        ((60.0,), "good"),
        ((61.0,), "too small"),
        ((30.0, math.inf), "too small"),
    ],
)
def test_the_window_judges_the_median_with_censored_counts_infinite(
    updates: tuple[float, ...], verdict: str
) -> None:
    assert Try(1.0, updates, diverged=0).verdict(WINDOW) == verdict


def test_the_nearest_to_the_aim_is_best_unless_something_diverged() -> None:
    near = Try(1.0, (30.0, 30.0, math.inf), diverged=0)
    low, fast = Try(2.0, (20.0, 20.0, 20.0), diverged=0), Try(3.0, (2.0, 2.0, 2.0), diverged=0)
    spoilt = Try(4.0, (30.0, 30.0), diverged=1)
    never = Try(5.0, (30.0, math.inf, math.inf), diverged=0)
    assert best([low, near, fast, spoilt, never], WINDOW) == near
    assert best([fast, never], WINDOW) == fast
    assert best([spoilt, never], WINDOW) == never


def test_a_method_that_never_forgets_is_said_to() -> None:
    found = rates(lambda _rate: 10 * CAP)
    done = search(found)
    assert len(tried(done)) == MOST_TRIES
    (warning,) = found.warnings(done)
    assert "saturation" in warning
    (listed,) = found.listed(done)
    assert [one["censored"] for one in listed["tries"]] == [3] * MOST_TRIES
    assert {one["median_updates"] for one in listed["tries"]} == {None}


def test_a_rate_that_misses_the_window_is_said_to() -> None:
    # Gone in two updates, or not at all, like NPO where its first steps decide.
    found = rates(lambda rate: 2 if rate > 0.02 else 10 * CAP, hardness=(0.5, 1.0, 1.0))
    done = search(found)
    assert found.rate(CASE, done) > 0.02
    (warning,) = found.warnings(done)
    assert "20 to 60 updates" in warning
    assert warning.endswith("it is 2.")


def test_divergence_everywhere_is_said() -> None:
    found = rates(lambda _rate: math.nan)
    done = search(found)
    assert "diverges" in found.warnings(done)[0]


def test_counts_without_spread_are_said() -> None:
    found = rates(lambda rate: 1 / rate, hardness=(1.0,) * 5)
    (warning,) = found.warnings(search(found))
    assert "same number" in warning


def test_a_search_goes_on_from_what_is_done() -> None:
    found = rates(lambda rate: 1e-3 / rate)
    whole = search(found)
    for kept in range(MOST_TRIES):
        begun = dict(list(whole.items())[:kept])
        assert search(rates(lambda rate: 1e-3 / rate), begun) == whole


def test_the_reason_names_the_tries() -> None:
    found = rates(lambda rate: 0.3 / rate)
    done = search(found)
    reasons = found.reasons(done)
    assert reasons == {
        "learning rate of GA with SGD": "0.01 (median of 5 other samples: 30 updates; tried 0.03: 10 updates)"
    }
    row = done["calibration ga sgd 1"][0]
    assert {
        "part",
        "method",
        "optimiser",
        "learning_rate",
        "sample_id",
        "updates",
        "forgotten",
        "diverged",
    } == set(row)


def test_a_rate_that_was_asked_for_is_taken_without_a_try() -> None:
    found = rates(lambda _rate: 1, wished=0.25)
    assert not found.units
    assert found.rate(CASE, {}) == 0.25
    assert found.reasons({}) == {"learning rate of GA with SGD": "0.25 (as asked)"}
    assert found.listed({}) == [{"method": "ga", "optimiser": "sgd", "learning_rate": 0.25, "tries": []}]


@pytest.mark.parametrize(
    ("optimiser", "adapter", "rate"),
    [("adamw", False, 3e-6), ("adamw", True, 3e-5), ("sign-sgd", True, 3e-5), ("sgd", True, 3e-3)],
)
def test_the_search_for_an_adapter_begins_higher_where_a_step_has_the_size_of_the_rate(
    optimiser: Any, adapter: bool, rate: float
) -> None:
    assert starting_rate(optimiser, 10**9, adapter=adapter) == pytest.approx(rate)


def test_a_low_cap_asks_for_fewer_updates() -> None:
    assert Window.of(200) == WINDOW
    assert Window.of(20) == Window(4, 6, 12)
