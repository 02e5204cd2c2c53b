"""Thresholds of forgetting, the schedule of checks, and the order of the reasons to stop."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from mrd_core.errors import UserError
from mrd_core.unlearning.stopping import Checks, Limits, Progress, StopReason, Thresholds, stop_reason


class Extraction:
    """EL values, and a record of the samples that they were asked of."""

    def __init__(self, *values: float) -> None:
        self.values = np.array(values)
        self.asked: list[list[int]] = []

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        self.asked.append(samples.tolist())
        return self.values[samples]


def test_a_sample_is_forgotten_when_both_measures_are_below() -> None:
    extraction = Extraction(0.1, 0.1, 0.9, 0.9, 0.5)
    verdict = Thresholds.absolute(0.6, 0.5).verdict(np.array([0.2, 0.8, 0.2, 0.8, 0.2]), extraction)
    assert verdict.forgotten.tolist() == [True, False, False, False, False]


def test_a_measure_at_its_threshold_is_not_below_it() -> None:
    assert not Thresholds.absolute(0.6, None).verdict(np.array([0.6]), Extraction()).forgotten.any()
    assert not Thresholds.absolute(0.6, 0.5).verdict(np.array([0.2]), Extraction(0.5)).forgotten.any()


def test_extraction_is_measured_only_where_the_accuracy_passes() -> None:
    extraction = Extraction(0.1, 0.2, 0.3, 0.4)
    verdict = Thresholds.absolute(0.5, 0.25).verdict(np.array([0.9, 0.1, 0.7, 0.4]), extraction)
    assert extraction.asked == [[1, 3]]
    np.testing.assert_array_equal(verdict.extraction, [np.nan, 0.2, np.nan, 0.4])
    assert verdict.forgotten.tolist() == [False, True, False, False]


def test_extraction_is_not_measured_where_no_accuracy_passes() -> None:
    extraction = Extraction(0.1, 0.1)
    Thresholds.absolute(0.5, 0.5).verdict(np.array([0.9, np.nan]), extraction)
    assert extraction.asked == []


def test_accuracy_alone_decides_where_no_extraction_threshold_is_set() -> None:
    extraction = Extraction(0.9, 0.9)
    thresholds = Thresholds.absolute(0.5, None)
    assert thresholds.verdict(np.array([0.4, 0.6]), extraction).forgotten.tolist() == [True, False]
    assert extraction.asked == []


def test_accuracy_alone_decides_where_extraction_is_not_defined() -> None:
    verdict = Thresholds.absolute(0.5, 0.5).verdict(np.array([0.4, 0.6]), Extraction(np.nan, np.nan))
    assert verdict.forgotten.tolist() == [True, False]


def test_a_sample_without_accuracy_is_never_forgotten() -> None:
    assert not Thresholds.absolute(1.0, 1.0).verdict(np.array([np.nan]), Extraction(0.0)).forgotten.any()


def test_averages_leave_undefined_values_out() -> None:
    thresholds = Thresholds.average(np.array([0.5, 1.0, np.nan]), np.array([np.nan, 0.25, 0.5]), "reference")
    assert thresholds == Thresholds(0.75, 0.375, "reference")
    assert Thresholds.average(np.array([0.5]), None, "held-out").extraction is None


@pytest.mark.parametrize(
    ("accuracy", "extraction", "named"),
    [
        ([0.0, 0.0], [0.5], "0 of the memorization accuracy"),
        ([np.nan], [0.5], "nan of the memorization accuracy"),
        ([], [0.5], "nan of the memorization accuracy"),
        ([0.5], [0.0], "0 of the extraction likelihood"),
        ([1.5], None, "1.5 of the memorization accuracy"),
    ],
)
def test_thresholds_that_no_sample_can_fall_below_are_refused(
    accuracy: list[float], extraction: list[float] | None, named: str
) -> None:
    with pytest.raises(UserError, match=named):
        Thresholds.average(
            np.array(accuracy), None if extraction is None else np.array(extraction), "initial-average"
        )


@pytest.mark.parametrize("overshoot", [0.0, 0.05, 0.1, 0.3, 1.0])
def test_geometric_checks_overshoot_no_forgetting_by_more_than_their_share(overshoot: float) -> None:
    schedule = np.array(Checks(overshoot=overshoot).schedule(25_000))
    forgotten = np.arange(1, 10_001)
    late = schedule[np.searchsorted(schedule, forgotten)] - forgotten
    assert all(
        Fraction(int(extra), int(count)) <= Fraction(str(overshoot))
        for extra, count in zip(late, forgotten, strict=True)
    )


def test_no_check_could_come_later() -> None:
    schedule = [0, *Checks().schedule(10_000)]
    # One later, and a sample forgotten right after the check before would be overshot by more than a tenth.
    assert all(10 * (now + 1 - (before + 1)) > before + 1 for before, now in pairwise(schedule))


def test_geometric_checks_grow_with_the_logarithm() -> None:
    assert Checks().schedule(13) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13]
    assert len(Checks().schedule(10_000)) < 10 + math.log(1000) / math.log(1.1)


def test_fixed_checks_come_at_their_interval() -> None:
    assert Checks(spacing="fixed", interval=4).schedule(13) == [4, 8, 12]


@pytest.mark.parametrize("checks", [Checks(), Checks(spacing="fixed", interval=7)])
def test_samples_are_due_on_their_own_clocks(checks: Checks) -> None:
    checked, visits = np.zeros(3, dtype=np.int64), [[], [], []]
    for step in range(1, 301):
        updates = np.array([step, step // 3, 0])
        due = checks.due(updates, checked)
        checked[due] = updates[due]
        for sample in np.flatnonzero(due):
            visits[sample].append(int(updates[sample]))
    assert visits == [checks.schedule(300), checks.schedule(100), []]


def test_the_cost_counts_every_sample_at_every_check() -> None:
    assert Checks().cost(13, samples=40) == 11 * 40
    assert Checks(spacing="fixed", interval=5).cost(13, samples=40, prefixes=900) == 2 * 40 + 900


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"overshoot": -0.1}, {"interval": 0}, {"spacing": "linear"}):
        with pytest.raises(ValidationError):
            Checks(**wrong)
    with pytest.raises(ValidationError):
        Limits(max_steps=0)


RUNNING = Progress(
    steps=10,
    epochs=2.5,
    seconds=60.0,
    forgotten=3,
    samples=4,
    loss=-1.0,
    retain_loss=0.5,
    initial_retain_loss=0.1,
    retain_accuracy=0.8,
)
# Each reason alone: what has happened, and the limit that it meets.
REASONS = {
    StopReason.LOSS_NOT_FINITE: ({"loss": math.nan}, {}),
    StopReason.RETAIN_LOSS: ({"retain_loss": 0.75}, {"max_retain_loss_rise": 0.5}),
    StopReason.RETAIN_ACCURACY: ({"retain_accuracy": 0.69}, {"min_retain_accuracy": 0.7}),
    StopReason.ALL_FORGOTTEN: ({"forgotten": 4}, {}),
    StopReason.MAX_STEPS: ({"steps": 100}, {"max_steps": 100}),
    StopReason.MAX_EPOCHS: ({"epochs": 25.0}, {"max_epochs": 25.0}),
    StopReason.MAX_SECONDS: ({"seconds": 601.0}, {"max_seconds": 600.0}),
}
GENEROUS = Limits(
    max_steps=100, max_epochs=25.0, max_seconds=600.0, max_retain_loss_rise=0.5, min_retain_accuracy=0.7
)


def test_a_run_within_its_limits_goes_on() -> None:
    assert stop_reason(RUNNING, Limits()) is None
    assert stop_reason(RUNNING, GENEROUS) is None


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_alone_stops_a_run(reason: StopReason) -> None:
    happened, limits = REASONS[reason]
    assert stop_reason(replace(RUNNING, **happened), Limits(**limits)) is reason


@pytest.mark.parametrize("reason", [reason for reason in REASONS if REASONS[reason][1]])
def test_a_limit_that_is_not_set_stops_nothing(reason: StopReason) -> None:
    assert stop_reason(replace(RUNNING, **REASONS[reason][0]), Limits()) is None


def test_of_two_reasons_the_earlier_in_the_order_is_given() -> None:
    order = list(REASONS)
    for first, second in pairwise(order):
        happened = REASONS[second][0] | REASONS[first][0]
        assert stop_reason(replace(RUNNING, **happened), GENEROUS) is first
    # That nothing is left to draw is for the curriculum to say.
    assert [*order, StopReason.EXHAUSTED] == list(StopReason)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_failures(loss: float) -> None:
    for broken in (replace(RUNNING, loss=loss), replace(RUNNING, retain_loss=loss)):
        assert stop_reason(broken, Limits()) is StopReason.LOSS_NOT_FINITE
    assert [reason for reason in StopReason if reason.is_failure] == [StopReason.LOSS_NOT_FINITE]


def test_a_utility_that_is_not_measured_guards_nothing() -> None:
    unmeasured = replace(RUNNING, retain_loss=None, initial_retain_loss=None, retain_accuracy=None)
    assert stop_reason(unmeasured, GENEROUS) is None
