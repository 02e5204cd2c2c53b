"""The K × N draws matrix, and everything that is computed from it without running the model again.

For each perturbed forward evaluation k, sample i and scope, three sums over the scored tokens are kept:
Σ ΔP, Σ ΔP/P and Σ |ΔP/P|, with ΔP = P_t(θ) − P_t(θ + δ_k). Scores in all variants, standard errors, intervals
and the reliability of the ranking follow from them. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mrd_core.arrays import FloatArray
from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import mrd_column
from mrd_core.scoring.config import EstimatorConfig, Formula, Normalisation

Mode = Literal["antithetic", "plain"]

SCOPES = (Scope.ANSWER, Scope.FULL)
SUMS = ("delta", "relative", "absolute")

# Fixed, so that the reliability of a run is one number and not another one each time it is looked at.
SPLITS = 100
SPLIT_SEED = 20250409


@dataclass(frozen=True)
class Draws:
    """The draws of one run.

    Attributes:
        sample_ids: N ids.
        values: Σ ΔP [nats], Σ ΔP/P and Σ |ΔP/P| over the kept tokens, shape (K, N, scopes, sums) in the order
            of `SCOPES` and `SUMS`. In antithetic mode rows 2j and 2j + 1 are the pair (δ_j, −δ_j).
        kept: Scored tokens that entered the sums (|P_t| at or above the floor), shape (N, scopes).
        mode: How the K evaluations were drawn.
    """

    sample_ids: tuple[str, ...]
    values: FloatArray
    kept: npt.NDArray[np.int64]
    mode: Mode

    @property
    def evaluations(self) -> int:
        """K, the number of perturbed forward evaluations."""
        return len(self.values)

    def units(self, scope: Scope, normalisation: Normalisation, formula: Formula = Formula.MRD) -> FloatArray:
        """Return the independent, identically distributed values whose mean is the score (before |·|).

        They are single evaluations in plain mode and means over a pair in antithetic mode.

        Returns:
            Shape (n, N); NaN for samples without a kept token.
        """
        at = SCOPES.index(scope)
        values = self.values[:, :, at, :]
        per_draw = {
            Formula.MRD: values[..., SUMS.index("relative")],
            Formula.MEAN_ABSOLUTE: values[..., SUMS.index("absolute")],
            Formula.INITIAL: np.abs(values[..., SUMS.index("delta")]),
        }[formula]
        tokens = self.kept[:, at].astype(np.float64)
        divisor = tokens if normalisation is Normalisation.MEAN else (tokens > 0).astype(np.float64)
        per_draw = per_draw / np.where(divisor > 0, divisor, np.nan)
        if self.mode == "plain":
            return per_draw
        return (per_draw[0::2] + per_draw[1::2]) / 2

    def save(self, stream: BinaryIO) -> None:
        """Write one row per evaluation and sample as Parquet."""
        count, n = self.values.shape[:2]
        frame = pd.DataFrame(
            {
                "evaluation": np.repeat(np.arange(count), n),
                "sample_id": np.tile(np.array(self.sample_ids, dtype=object), count),
            }
        )
        for s, scope in enumerate(SCOPES):
            frame[f"kept_{scope}"] = np.tile(self.kept[:, s], count)
            for c, name in enumerate(SUMS):
                frame[f"{name}_{scope}"] = self.values[:, :, s, c].ravel()
        frame.attrs["mode"] = self.mode
        frame.to_parquet(stream, index=False)

    @classmethod
    def load(cls, path: Path) -> Draws:
        """Read what `save` wrote."""
        frame = pd.read_parquet(path)
        count = int(frame["evaluation"].iloc[-1]) + 1
        n = len(frame) // count
        columns = [f"{name}_{scope}" for scope in SCOPES for name in SUMS]
        values = frame[columns].to_numpy(np.float64).reshape(count, n, len(SCOPES), len(SUMS))
        kept = frame[[f"kept_{scope}" for scope in SCOPES]].to_numpy(np.int64)[:n]
        return cls(tuple(frame["sample_id"].iloc[:n]), values, kept, frame.attrs["mode"])


def scores(
    draws: Draws, scope: Scope, normalisation: Normalisation, formula: Formula = Formula.MRD
) -> pd.DataFrame:
    """Return the score of every sample with its error.

    MRD_i = |(1/K) Σ_k r_ik| (Feng et al., Eq. 4): the absolute value is taken once, after the mean. The
    interval is that of the signed mean (Student t over the n units), then its absolute value, from 0 where it
    spans 0.

    Returns:
        N rows: sample_id, mrd, mrd_signed, mrd_se, mrd_low, mrd_high (95 %), relative_se, n_tokens (kept).
        Relative changes are pure numbers; the initial metric is in nats.
    """
    units = draws.units(scope, normalisation, formula)
    count = len(units)
    signed = units.mean(axis=0)
    error = units.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.full(units.shape[1], np.nan)
    half = stats.t.ppf(0.975, count - 1) * error if count > 1 else error
    low, high = signed - half, signed + half
    spans_zero = (low < 0) & (high > 0)
    return pd.DataFrame(
        {
            "sample_id": list(draws.sample_ids),
            "mrd": np.abs(signed),
            "mrd_signed": signed,
            "mrd_se": error,
            "mrd_low": np.where(spans_zero, 0.0, np.minimum(np.abs(low), np.abs(high))),
            "mrd_high": np.maximum(np.abs(low), np.abs(high)),
            "relative_se": relative_se(units),
            "n_tokens": draws.kept[:, SCOPES.index(scope)],
        }
    )


def variants(draws: Draws) -> pd.DataFrame:
    """Return every variant of the score, a column of `columns.VARIANTS` each."""
    return pd.DataFrame(
        {
            mrd_column(scope, normalisation, formula): np.abs(
                draws.units(scope, normalisation, formula).mean(axis=0)
            )
            for formula in Formula
            for scope in SCOPES
            for normalisation in Normalisation
        }
    )


def relative_se(units: FloatArray) -> FloatArray:
    """Return SE / |mean| of each sample, shape (N,), for independent units of shape (n, N)."""
    if len(units) < 2:
        return np.full(units.shape[1], np.nan)
    mean = np.abs(units.mean(axis=0))
    error = units.std(axis=0, ddof=1) / np.sqrt(len(units))
    quotient: FloatArray = np.divide(error, mean, out=np.full_like(mean, np.nan), where=mean > 0)
    return quotient


def reliability(units: FloatArray, control: Sequence[float] | FloatArray | None = None) -> float:
    """Return the Spearman–Brown reliability of the ranking, from split halves.

    The units are split into random halves, both halves rank the samples, and their Spearman correlation ρ_h,
    averaged over 100 fixed splits, gives 2ρ_h / (1 + ρ_h) for the whole run. It says how well an equal run
    would agree; an error that all draws share is not seen by it (that is the precision gate's work).

    Args:
        units: Shape (n, N), see `Draws.units`. Samples with a NaN are left out.
        control: A value per sample, such as its length, whose rank is partialled out of both halves' ranks.

    Returns:
        The reliability, or NaN with fewer than 4 units or 3 samples, or where all samples tie.
    """
    defined = np.isfinite(units).all(axis=0)
    units = units[:, defined]
    if len(units) < 4 or units.shape[1] < 3:
        return float("nan")
    generator = np.random.default_rng(SPLIT_SEED)
    half = len(units) // 2
    halves = np.zeros((2, SPLITS, len(units)))
    for split in range(SPLITS):
        order = generator.permutation(len(units))
        halves[0, split, order[:half]] = 1 / half
        halves[1, split, order[half : 2 * half]] = 1 / half
    first, second = (stats.rankdata(np.abs(weights @ units), axis=1) for weights in halves)
    if control is not None:
        rank = stats.rankdata(np.asarray(control, dtype=np.float64)[defined])
        first, second = _residual(first, rank), _residual(second, rank)
    correlation = float(np.mean(_pearson(first, second)))
    return 2 * correlation / (1 + correlation)


def _residual(ranks: FloatArray, control: FloatArray) -> FloatArray:
    """Return what is left of each row of `ranks` after a linear fit on `control`."""
    centred = control - control.mean()
    scale = float(centred @ centred)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    return ranks - np.outer(ranks @ centred / scale, centred) if scale > 0 else ranks


def _pearson(a: FloatArray, b: FloatArray) -> FloatArray:
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    quotient: FloatArray = np.divide((a * b).sum(axis=1), norm, out=np.full(len(a), np.nan), where=norm > 0)
    return quotient


@dataclass(frozen=True)
class Precision:
    """How good a run is so far: what the stopping rule looks at and the live curve shows."""

    evaluations: int
    median_relative_se: float
    p90_relative_se: float
    reliability_sum: float
    reliability_mean: float

    @classmethod
    def of(cls, draws: Draws, scope: Scope) -> Precision:
        """Measure the MRD of `draws` in `scope`."""
        mean = draws.units(scope, Normalisation.MEAN)
        errors = relative_se(mean)
        errors = errors[np.isfinite(errors)]
        return cls(
            evaluations=draws.evaluations,
            median_relative_se=float(np.median(errors)) if errors.size else float("nan"),
            p90_relative_se=float(np.quantile(errors, 0.9)) if errors.size else float("nan"),
            reliability_sum=reliability(draws.units(scope, Normalisation.SUM)),
            reliability_mean=reliability(mean),
        )

    def reaches(self, target: EstimatorConfig) -> bool:
        """Tell whether the run may stop before its cap."""
        if target.stop == "precision":
            return (
                self.median_relative_se <= target.median_relative_se
                and self.p90_relative_se <= target.p90_relative_se
            )
        if target.stop == "reliability":
            by_sum = target.normalisation is Normalisation.SUM
            return (self.reliability_sum if by_sum else self.reliability_mean) >= target.reliability
        return False


def checkpoints(mode: Mode, cap: int) -> list[int]:
    """Return the numbers of evaluations at which a run looks whether it may stop, the last being its end.

    At least 8 pairs, then every 4 (as many evaluations in plain mode). An odd cap of an antithetic run is
    rounded down to whole pairs.
    """
    end = cap - cap % 2 if mode == "antithetic" else cap
    return [*range(16, end, 8), end]
