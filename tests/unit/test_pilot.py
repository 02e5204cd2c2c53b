"""The pilot finds the largest quadratic σ, always ends, and the gate refuses what rounding would swallow."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mrd_core.model.likelihood import KeepDouble, Passes, Scorer
from mrd_core.model.loading import keep_norms_fine
from mrd_core.scoring.mrd import Baseline, measure_baseline
from mrd_core.scoring.pilot import (
    SIGMA_RANGE,
    Pilot,
    PrecisionGate,
    Regime,
    calibrate,
    coarsest_weight,
    pilot_samples,
    precision_gate,
    run_pilot,
)
from tests.support import tiny

GATE = PrecisionGate(1e-3, signal=1e-2, floor=1e-5, worst_decile=500.0, sigma_in_ulp=10.0, coarsest="head.weight")


def bent(curvature: float, fourth: float) -> Callable[[float], np.ndarray]:
    """Return MRD(σ) = a σ² + b σ⁴ of three samples."""
    return lambda sigma: np.full(3, curvature * sigma**2 + fourth * sigma**4)


@pytest.mark.parametrize("limit", [2.5e-6, 1e-5, 3e-4, 1.2e-3, 7e-3])
def test_the_largest_quadratic_rung_of_the_ladder_is_found(limit: float) -> None:
    # a(σ)/a(σ/2) = (1 + cσ²) / (1 + cσ²/4) reaches 1.05 at cσ² = 0.05 / (1 − 1.05/4).
    c = 0.05 / (1 - 1.05 / 4) / limit**2
    pilot = calibrate(bent(7.0, 7.0 * c))
    assert pilot.sigma <= limit < 2 * pilot.sigma
    assert np.log2(pilot.sigma / 1e-3) == round(np.log2(pilot.sigma / 1e-3))
    assert pilot.curvature == pytest.approx(7.0, rel=0.1)


def test_a_law_that_is_quadratic_throughout_stops_at_the_end_of_the_range() -> None:
    pilot = calibrate(bent(3.0, 0.0))
    assert SIGMA_RANGE[1] / 2 < pilot.sigma <= SIGMA_RANGE[1]
    assert {regime.median for regime in pilot.tried.values()} == {1.0}


GARBAGE: dict[str, Callable[[float], np.ndarray]] = {
    "nan": lambda _: np.full(3, np.nan),
    "zero": lambda _: np.zeros(3),
    "infinite": lambda _: np.full(3, np.inf),
    "constant": lambda _: np.ones(3),
    "linear": lambda sigma: np.full(3, sigma),
    "no samples": lambda _: np.zeros(0),
    "random": lambda sigma: np.random.default_rng(int(1e9 * sigma)).random(3),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", GARBAGE)
def test_a_law_that_is_none_ends_within_the_range(name: str) -> None:
    calls = itertools.count()

    def counted(sigma: float) -> np.ndarray:
        assert next(calls) < 50
        return GARBAGE[name](sigma)

    pilot = calibrate(counted)
    assert SIGMA_RANGE[0] <= pilot.sigma <= SIGMA_RANGE[1]


def test_a_sample_without_signal_does_not_spoil_the_median() -> None:
    pilot = calibrate(lambda sigma: np.array([np.nan, 2 * sigma**2, 4 * sigma**2]))
    assert pilot.curvature == pytest.approx(3.0)


def outlying(sigma: float) -> np.ndarray:
    """Return the MRD of eight samples, seven quadratic and one that is not from σ = 3e-4 on."""
    return np.array([*[1e4 * sigma**2] * 7, 2e4 * sigma**2 + 2e10 * sigma**4])


def test_the_largest_score_is_quadratic_too_not_the_median_alone() -> None:
    pilot = calibrate(outlying)
    # Of the outlier, MRD/σ² at σ over that at σ/2 is (1 + 1e6 σ²) / (1 + 1e6 σ²/4): 1.6 at 1e-3,
    # 1.18 at 5e-4, 1.05 at 2.5e-4.
    assert pilot.sigma == 2.5e-4
    assert not pilot.tried[1e-3].quadratic
    assert pilot.tried[1e-3].median == pytest.approx(1.0)


def test_a_sigma_that_is_asked_for_is_judged_with_what_it_does_to_p() -> None:
    pilot = calibrate(outlying, asked=8e-3)
    regime = pilot.tried[8e-3]
    # 1e4 σ² for seven, 2e4 σ² (1 + 1e6 σ²) for one: shares 130 of 137 at σ = 8e-3 and 34 of 41 at half of it.
    assert regime.largest_p == (pytest.approx(130 / 137), pytest.approx(34 / 41))
    assert regime.outside == 1 / 8
    assert "0.949 for 0.829" in regime.reason
    assert 1e-4 not in calibrate(outlying, asked=1e-4).tried


def test_where_any_quadratic_sigma_will_do_none_above_the_first_is_tried() -> None:
    pilot = calibrate(bent(2.0, 10.0), largest=False)
    assert (pilot.sigma, list(pilot.tried)) == (1e-3, [1e-3])
    first, largest = calibrate(outlying, largest=False), calibrate(outlying)
    assert (first.sigma, first.tried) == (largest.sigma, largest.tried)


def test_the_gate_wants_twenty_times_the_floor_and_four_ulp() -> None:
    assert GATE.passed
    assert "at least the 20" in GATE.reason
    low = dataclasses.replace(GATE, floor=1e-3)
    assert not low.passed
    assert "less than the 20" in low.reason
    coarse = dataclasses.replace(GATE, sigma_in_ulp=0.3)
    assert not coarse.passed
    assert "σ = 0.001 is 0.3 ulp of head.weight" in coarse.reason


def test_the_gate_wants_ten_times_the_floor_in_the_worst_decile_of_samples() -> None:
    assert dataclasses.replace(GATE, worst_decile=10.0).passed
    poor = dataclasses.replace(GATE, worst_decile=2.5)
    assert not poor.passed
    assert "in the worst decile of samples the expected MRD is 2.5 × the rounding floor" in poor.reason
    # By the quadratic law four times as much signal takes twice the σ.
    assert poor.least_sigma == pytest.approx(2e-3)
    assert dataclasses.replace(poor, worst_decile=float("nan"), signal=float("nan")).passed is False


def test_without_rounding_any_signal_passes_and_no_signal_does_not() -> None:
    assert dataclasses.replace(GATE, floor=0.0).passed
    for nothing in (float("nan"), 0.0):
        assert not dataclasses.replace(GATE, floor=0.0, signal=nothing).passed


@pytest.mark.parametrize(
    ("dtype", "weight", "ulp"),
    [
        (torch.bfloat16, 1.0, 2**-7),
        (torch.bfloat16, 0.02, 2**-13),
        (torch.float32, 1.0, 2**-23),
        (torch.float32, 0.3, 2**-25),
        (torch.float64, 5.0, 2**-50),
    ],
)
def test_sigma_is_measured_in_the_spacing_of_the_coarsest_weight(
    dtype: torch.dtype, weight: float, ulp: float
) -> None:
    layer = torch.nn.Linear(4, 4).to(dtype).requires_grad_(False)
    layer.weight.fill_(weight)
    layer.bias.fill_(weight / 8)
    assert coarsest_weight(layer, 1e-3) == (pytest.approx(1e-3 / ulp), "weight")
    spacing = torch.nextafter(torch.tensor(weight, dtype=dtype), torch.tensor(9.0, dtype=dtype)) - weight
    assert float(spacing) == pytest.approx(ulp, rel=0.02)


def test_weights_that_are_all_zero_are_never_the_coarsest() -> None:
    layer = torch.nn.Linear(4, 4).requires_grad_(False)
    layer.bias.zero_()
    assert coarsest_weight(layer, 1e-3)[1] == "weight"


def prepared(network: torch.nn.Module, dtype: torch.dtype) -> tuple[Passes, Baseline]:
    """Return passes over a few samples, and their baseline."""
    passes = Passes(tiny.reader(Scorer(network), 1000), tiny.encoded(12, 9, 15, 7, answer_from=3))
    return passes, measure_baseline(passes, dtype)


def test_a_run_in_fp32_is_calibrated_and_passes() -> None:
    passes, baseline = prepared(tiny.llama(), torch.float32)
    pilot = run_pilot(passes, baseline, 0, torch.float32)
    gate = precision_gate(passes, baseline, pilot, pilot.sigma)
    assert gate.passed
    assert pilot.tried[pilot.sigma].quadratic
    units = tiny.relative_changes(passes.scorer, passes.encoded, pilot.sigma, 40)
    assert np.isfinite(units).all()


def test_the_floor_is_what_rounding_alone_does_to_a_token_of_the_median_sample() -> None:
    # The last sample has no answer, and so nothing in scope.
    passes = Passes(tiny.reader(Scorer(tiny.llama()), 1000), tiny.encoded(12, 9, 15, 7, 3, answer_from=3))
    baseline = measure_baseline(passes, torch.float32)
    gate = precision_gate(passes, baseline, Pilot(1e-3, np.full(5, 7.0), {}), 1e-3)
    change = baseline.relative_change(passes())
    starts, floors = passes.encoded.starts, []
    for sample, first, end in zip(passes.encoded.samples[:4], starts, starts[1:], strict=False):
        inside = sample.answer & baseline.kept[first:end]
        floors.append(abs(change[first:end][inside].sum()) / inside.sum())
    assert gate.floor == pytest.approx(float(np.median(floors)))
    assert gate.floor > 0
    # Of four samples the worst one; no signal is less than the median's.
    curvatures = np.array([7.0, 0.07, 70.0, 7.0, np.nan])
    gate = precision_gate(passes, baseline, Pilot(1e-3, curvatures, {}), 1e-3)
    shares = np.array(floors) / (np.array([7.0, 7.0, 70.0, 7.0]) * 1e-6)
    assert gate.worst_decile == pytest.approx(1 / shares.max())


@pytest.mark.filterwarnings("error")
def test_without_a_token_in_scope_there_is_no_floor() -> None:
    passes = Passes(tiny.reader(Scorer(tiny.llama()), 1000), tiny.encoded(3, 3, answer_from=3))
    baseline = measure_baseline(passes, torch.float32)
    assert precision_gate(passes, baseline, Pilot(1e-3, np.full(2, 7.0), {}), 1e-3).floor == 0


def test_the_signal_expected_is_the_signal_found() -> None:
    passes, baseline = prepared(tiny.llama(), torch.float32)
    pilot = run_pilot(passes, baseline, 0, torch.float32)
    gate = precision_gate(passes, baseline, pilot, pilot.sigma)
    source, _ = tiny.estimator(passes.scorer, passes.encoded, pilot.sigma)
    answers = np.stack([source.unit(index).values[:, :, 0, 1].mean(axis=0) for index in range(30)])
    found = np.median(np.abs(answers.mean(axis=0)) / source.kept[:, 0])
    assert found == pytest.approx(gate.signal, rel=0.6)


def test_bf16_refuses_the_papers_sigma_and_says_which_weight() -> None:
    network = tiny.llama().to(torch.bfloat16)
    keep_norms_fine(network)
    passes, baseline = prepared(network, torch.bfloat16)
    gate = precision_gate(passes, baseline, run_pilot(passes, baseline, 0, torch.bfloat16), 1e-5)
    assert not gate.passed
    assert "σ = 1e-05" in gate.reason
    assert gate.coarsest in dict(passes.scorer.named_parameters())


def test_bf16_norm_weights_near_one_are_too_coarse_unless_kept_fine() -> None:
    network = tiny.llama(initializer_range=0.02).to(torch.bfloat16)
    in_ulp, name = coarsest_weight(network, 1e-5)
    assert "norm" in name
    assert in_ulp == pytest.approx(1e-5 / 2**-7)
    keep_norms_fine(network)
    finer, name = coarsest_weight(network, 1e-5)
    assert "norm" not in name
    assert finer > 20 * in_ulp


def test_the_pilot_of_a_bf16_model_is_that_of_fp32() -> None:
    network = tiny.llama().to(torch.bfloat16)
    passes, baseline = prepared(network, torch.bfloat16)
    coarse = run_pilot(passes, baseline, 0, torch.bfloat16)
    same_weights = tiny.llama().to(torch.bfloat16).float()
    passes, baseline = prepared(same_weights, torch.float32)
    fine = run_pilot(passes, baseline, 0, torch.float32)
    assert coarse.sigma == fine.sigma
    assert coarse.curvature == pytest.approx(fine.curvature, rel=1e-2)


def test_an_fp64_run_is_never_refused_for_its_floor() -> None:
    passes, baseline = prepared(tiny.in_double(tiny.llama()), torch.float64)
    with KeepDouble():
        gate = precision_gate(passes, baseline, run_pilot(passes, baseline, 0, torch.float64), 1e-5)
    assert gate.passed


def test_the_pilot_takes_up_to_32_samples_of_all_lengths() -> None:
    lengths = list(range(2, 60))
    chosen = pilot_samples(tiny.encoded(*lengths))
    assert len(set(chosen)) == 32
    assert {0, 57} <= set(chosen)
    assert pilot_samples(tiny.encoded(4, 7, 5)).tolist() == [0, 1, 2]
    assert pilot_samples(tiny.encoded(4)).tolist() == [0]


@pytest.mark.parametrize(
    ("sigma", "ratio", "expected"),
    [
        # Departures of 4/3 of what is off between σ and σ/2: 0.0267, 0.0067, 0.0017.
        (1e-3, 1.02, 1e-3 / 4),
        (1e-3, 0.98, 1e-3 / 4),
        (1e-3, 1.002, 1e-3),
        (1e-3, np.nan, 1e-3),
        # Half of it would be below the smallest σ.
        (1.5 * SIGMA_RANGE[0], 1.02, 1.5 * SIGMA_RANGE[0]),
        (2 * SIGMA_RANGE[0], 1.02, SIGMA_RANGE[0]),
    ],
)
def test_sigma_is_halved_until_mrd_is_within_the_bias_of_its_limit(
    sigma: float, ratio: float, expected: float
) -> None:
    regime = Regime(median=ratio, worst_decile=0.0, outside=0.0, largest_p=(0.1, 0.1))
    assert Pilot(sigma, np.ones(1), {sigma: regime}).least_departing == expected


def test_a_sigma_that_was_never_tried_is_kept() -> None:
    assert Pilot(1e-3, np.ones(1), {}).least_departing == 1e-3
