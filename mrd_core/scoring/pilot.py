"""A few draws on a few samples, before the run: which σ, and is this precision fine enough for it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded, IntArray
from mrd_core.model.likelihood import Passes
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.samples.config import Scope
from mrd_core.scoring.cost import PILOT_SAMPLES
from mrd_core.scoring.draws import SCOPES, SUMS
from mrd_core.scoring.mrd import Baseline, Estimator, per_sample

PILOT_PAIRS = 2
# The pilot's draws have negative indices, so that they are not the run's own first draws.
PILOT_DRAWS = range(-PILOT_PAIRS, 0)

START_SIGMA = 1e-3
SIGMA_RANGE = (1e-6, 2e-2)
# MRD / σ² at σ and at σ / 2 may differ by this much for σ to count as quadratic: in the median, and in the worst
# decile of samples, which p ∝ MRD draws most.
QUADRATIC_TOLERANCE = 0.05
DECILE_TOLERANCE = 0.1

# A tenth of the error that scores usually have.
BIAS = 0.003

# MRD over what rounding alone makes of it: in the median, and in the worst decile of samples.
SIGNAL_TO_FLOOR = 20.0
DECILE_TO_FLOOR = 10.0
SIGMA_IN_ULP = 4.0


@dataclass(frozen=True)
class Regime:
    """How far MRD at σ is from the law that MRD ∝ σ², by its values at σ and σ/2 under the same z.

    Attributes:
        median: Median over the samples of MRD/σ² at σ, over the same at σ/2; NaN without a sample that has both.
        worst_decile: 90th percentile of the samples' departures: the absolute difference of MRD/σ², over its value
            at σ/2 or the median of these, whichever is larger.
        outside: Share of the samples whose departure is above `DECILE_TOLERANCE`.
        largest_p: The largest p ∝ MRD of a sample at σ, and at σ/2.
    """

    median: float
    worst_decile: float
    outside: float
    largest_p: tuple[float, float]

    @classmethod
    def of(cls, at: FloatArray, at_half: FloatArray) -> Regime:
        """Judge MRD/σ² at σ and at σ/2, shape (n,) each; samples without a finite value of both do not count."""
        both = np.isfinite(at) & np.isfinite(at_half) & (at_half > 0)
        if not both.any():
            return cls(np.nan, np.nan, np.nan, (np.nan, np.nan))
        at, at_half = at[both], at_half[both]
        departure = np.abs(at - at_half) / np.maximum(at_half, np.median(at_half))
        return cls(
            median=float(np.median(at / at_half)),
            # Of a handful of samples the worst one.
            worst_decile=float(np.quantile(departure, 0.9, method="higher")),
            outside=float((departure > DECILE_TOLERANCE).mean()),
            largest_p=(float(at.max() / at.sum()), float(at_half.max() / at_half.sum())),
        )

    @property
    def quadratic(self) -> bool:
        """Whether σ scales the scores of nearly all samples alike."""
        return abs(self.median - 1) <= QUADRATIC_TOLERANCE and self.worst_decile <= DECILE_TOLERANCE

    @property
    def reason(self) -> str:
        """One sentence on what σ does to values and to p ∝ MRD."""
        if not np.isfinite(self.median):
            return "no sample of the pilot has a score by which the quadratic law could be judged."
        at, at_half = self.largest_p
        return (
            f"against half of it, MRD/σ² is {self.median:.2f} × in the median, {self.outside:.0%} of the pilot's "
            f"samples are off by more than {DECILE_TOLERANCE:.0%}, and the largest p ∝ MRD among them is {at:.3f} "
            f"for {at_half:.3f}."
        )


@dataclass(frozen=True, eq=False)
class Pilot:
    """What the pilot found.

    Attributes:
        sigma: The largest σ (on a ladder of factor 2) at which MRD is still quadratic in σ, or the first that was
            found.
        curvatures: MRD / σ² of the pilot's samples there (mean-normalised), shape (n,); NaN where there is none.
        tried: σ → its regime, in the order tried.
    """

    sigma: float
    curvatures: FloatArray
    tried: dict[float, Regime]

    @property
    def curvature(self) -> float:
        """Median of the curvatures."""
        return float(np.nanmedian(self.curvatures))

    @property
    def least_departing(self) -> float:
        """The largest σ, by powers of 2 from `sigma` on, at which MRD/σ² is within `BIAS` of its limit."""
        # By the quadratic law the departure at σ is 4/3 of that between σ and σ/2, and falls with σ².
        regime = self.tried.get(self.sigma)
        departure = 4 / 3 * abs(regime.median - 1) if regime is not None and np.isfinite(regime.median) else 0.0
        sigma = self.sigma
        while departure > BIAS and sigma / 2 >= SIGMA_RANGE[0]:
            sigma, departure = sigma / 2, departure / 4
        return sigma


def calibrate(
    estimate: Callable[[float], FloatArray], asked: float | None = None, *, largest: bool = True
) -> Pilot:
    """Find a σ in the quadratic regime.

    The same z is used at every σ, so that the ratio of two σ is far more exact than the draws themselves.

    Args:
        estimate: From σ to the MRD of each sample, shape (n,).
        asked: Judged as well where it is larger. Below, rounding would be taken for a departure.
        largest: Whether the largest such σ is wanted; else the first that is found will do.
    """

    @cache
    def curvature(sigma: float) -> FloatArray:
        return estimate(sigma) / sigma**2

    tried: dict[float, Regime] = {}

    def quadratic(sigma: float) -> bool:
        tried[sigma] = Regime.of(curvature(sigma), curvature(sigma / 2))
        return tried[sigma].quadratic

    sigma = START_SIGMA
    if quadratic(sigma):
        while largest and 2 * sigma <= SIGMA_RANGE[1] and quadratic(2 * sigma):
            sigma *= 2
    else:
        while sigma / 2 >= SIGMA_RANGE[0]:
            sigma /= 2
            if quadratic(sigma):
                break
    if asked is not None and asked > sigma and asked not in tried:
        quadratic(asked)
    return Pilot(sigma, curvature(sigma), tried)


@dataclass(frozen=True)
class PrecisionGate:
    """Whether the draws' precision resolves the noise at σ.

    Attributes:
        sigma: The σ that is judged.
        signal: Median MRD expected at σ (mean-normalised; quadratic law from the pilot).
        floor: Median of the same quantity for the unperturbed model in the draws' precision against the finer
            baseline: what rounding alone produces.
        worst_decile: 10th percentile over the samples of how many times what is expected of each, or of the median
            one if that is more, stands above its own floor; infinite without rounding, NaN without a signal.
        sigma_in_ulp: σ over the spacing of numbers of the coarsest weight tensor's typical size.
        coarsest: Name of that tensor.
    """

    sigma: float
    signal: float
    floor: float
    worst_decile: float
    sigma_in_ulp: float
    coarsest: str

    @property
    def signal_to_floor(self) -> float:
        """How many times the expected MRD stands above rounding; NaN where the pilot found no signal."""
        if self.floor > 0:
            return self.signal / self.floor
        return float("inf") if self.signal > 0 else float("nan")

    @property
    def passed(self) -> bool:
        """Whether the signal is 20 × the floor, 10 × in the worst decile, and σ 4 ulp of every weight tensor."""
        return (
            self.signal_to_floor >= SIGNAL_TO_FLOOR
            and self.worst_decile >= DECILE_TO_FLOOR
            and self.sigma_in_ulp >= SIGMA_IN_ULP
        )

    @property
    def least_sigma(self) -> float:
        """The smallest σ that this precision would resolve, by the quadratic law; NaN without a signal."""
        if not self.signal > 0:
            return float("nan")
        by_floor = max(SIGNAL_TO_FLOOR * self.floor / self.signal, DECILE_TO_FLOOR / self.worst_decile)
        return self.sigma * float(max(np.sqrt(by_floor), SIGMA_IN_ULP / self.sigma_in_ulp))

    @property
    def reason(self) -> str:
        """One sentence with the figures behind the verdict."""
        if self.sigma_in_ulp < SIGMA_IN_ULP:
            return (
                f"σ = {self.sigma:g} is {self.sigma_in_ulp:.2g} ulp of {self.coarsest} "
                f"(at least {SIGMA_IN_ULP:g} are needed): most weights would not move."
            )
        if self.signal_to_floor >= SIGNAL_TO_FLOOR and self.worst_decile < DECILE_TO_FLOOR:
            return (
                f"in the worst decile of samples the expected MRD is {self.worst_decile:.1f} × the rounding floor "
                f"there, less than the {DECILE_TO_FLOOR:g} × that a score needs."
            )
        if self.floor == 0 and self.passed:
            return f"the expected MRD is {self.signal:.2g}, and rounding leaves no trace in an unperturbed pass."
        relation = "at least" if self.passed else "less than"
        times = format(self.signal_to_floor, ",.0f" if self.signal_to_floor >= 100 else ".1f")
        return (
            f"the expected MRD of {self.signal:.2g} is {times} × the rounding floor of "
            f"{self.floor:.2g}, {relation} the {SIGNAL_TO_FLOOR:g} × that a score needs."
        )


def pilot_samples(encoded: Encoded) -> IntArray:
    """Return up to 32 sample indices, spread evenly over the lengths."""
    order = np.argsort(encoded.lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, min(PILOT_SAMPLES, len(order))).round().astype(np.int64)
    return np.sort(order[places])


def run_pilot(
    passes: Passes,
    baseline: Baseline,
    seed: int,
    dtype: torch.dtype,
    scope: Scope = Scope.ANSWER,
    asked: float | None = None,
    *,
    largest: bool = True,
) -> Pilot:
    """Calibrate σ with two antithetic pairs on the samples of `passes`, as `calibrate` does.

    Draws in bf16 are calibrated in fp32: rounding would otherwise pass for a departure from the quadratic
    law.
    """
    at_least_fp32 = torch.promote_types(dtype, torch.float32)
    at = SCOPES.index(scope)
    scored = baseline.kept & passes.encoded.in_scope(scope)
    tokens = np.maximum(per_sample(scored.astype(np.float64), passes.encoded), 1)

    def estimate(sigma: float) -> FloatArray:
        model = PerturbedModel(passes.scorer, Noise(seed, sigma), streamed=True, dtype=at_least_fp32)
        estimator = Estimator(passes, model, baseline, "antithetic")
        relative = np.stack(
            [estimator.unit(index).values[:, :, at, SUMS.index("relative")].mean(axis=0) for index in PILOT_DRAWS]
        )
        mrd = np.abs(relative.mean(axis=0)) / tokens
        return np.where(mrd > 0, mrd, np.nan)

    return calibrate(estimate, asked, largest=largest)


def precision_gate(
    passes: Passes, baseline: Baseline, pilot: Pilot, sigma: float, scope: Scope = Scope.ANSWER
) -> PrecisionGate:
    """Judge whether the draws' precision is fine enough for `sigma`, from one unperturbed pass."""
    encoded = passes.encoded
    scored = baseline.kept & encoded.in_scope(scope)
    tokens = per_sample(scored.astype(np.float64), encoded)
    change = per_sample(np.where(scored, baseline.relative_change(passes()), 0.0), encoded)
    floors = np.divide(np.abs(change), tokens, out=np.full(len(encoded), np.nan), where=tokens > 0)
    signal = pilot.curvature * sigma**2
    # Of a score far below the others an error as large as theirs does no more harm, as in `Regime`.
    shares = floors / np.maximum(pilot.curvatures * sigma**2, signal)
    shares = shares[np.isfinite(shares)]
    worst = float(np.quantile(shares, 0.9, method="higher")) if shares.size else np.nan
    in_ulp, coarsest = coarsest_weight(passes.scorer, sigma)
    return PrecisionGate(
        sigma=sigma,
        signal=signal,
        floor=float(np.nanmedian(floors)) if (tokens > 0).any() else 0.0,
        worst_decile=np.inf if worst == 0 else 1 / worst,
        sigma_in_ulp=in_ulp,
        coarsest=coarsest,
    )


def coarsest_weight(module: nn.Module, sigma: float) -> tuple[float, str]:
    """Return σ in ulp of the tensor whose typical (median) weight is the coarsest, and the tensor's name."""
    in_ulp = []
    for name, weight in module.named_parameters():
        # A sample of a large tensor gives its median to well within the factor of 2 that an ulp is wide.
        flat = weight.detach().flatten()[:: max(1, weight.numel() // 100_000)]
        typical = max(float(flat.abs().float().median()), torch.finfo(weight.dtype).tiny)
        ulp = float(torch.finfo(weight.dtype).eps * 2.0 ** np.floor(np.log2(typical)))
        in_ulp.append((sigma / ulp, name))
    return min(in_ulp)
