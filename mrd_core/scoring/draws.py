"""The K × N draws matrix, and everything that is computed from it without running the model again.

For each perturbed forward evaluation k, sample i and scope, three sums over the scored tokens are kept:
Σ ΔP, Σ ΔP/P and Σ |ΔP/P|, with ΔP = P_t(θ) − P_t(θ + δ_k). Scores in all variants, standard errors, intervals
and the reliability of the ranking follow from them. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import mrd_column
from mrd_core.scoring.config import EstimatorConfig, Formula, Normalisation

Mode = Literal["antithetic", "plain"]

SCOPES = (Scope.ANSWER, Scope.FULL)
SUMS = ("delta", "relative", "absolute")

# Fixed, so that the reliability of a run is one number and not another one each time it is looked at.
SPLITS = 100
SPLIT_SEED = 20250409
# Fewer samples rank by chance too often for a run to stop on its reliability of its own accord.
LEAST_SAMPLES = 20


@dataclass(frozen=True, eq=False)
class Units:
    """Independent values that the scores of N samples are made of: a score is the sum of the means of the parts.

    Pairs of evaluations are one part; sign probes, where there are some, another.

    Attributes:
        values: The parts one below the other, shape (n, N).
        sizes: How many values each part has; they add up to n.
    """

    values: FloatArray
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, *parts: FloatArray) -> Units:
        """Join parts of shape (n_j, N) each."""
        return cls(np.concatenate(parts), tuple(map(len, parts)))

    @property
    def parts(self) -> list[FloatArray]:
        """The parts, shape (n_j, N) each."""
        return np.split(self.values, np.cumsum(self.sizes)[:-1])

    @property
    def mean(self) -> FloatArray:
        """The score before |·|, shape (N,)."""
        mean: FloatArray = np.sum([part.mean(axis=0) for part in self.parts], axis=0)
        return mean

    @property
    def errors(self) -> FloatArray:
        """Standard error of each part's mean, shape (parts, N); NaN where a part has a single value."""
        return np.stack(
            [
                part.std(axis=0, ddof=1) / np.sqrt(len(part)) if len(part) > 1 else np.full(part.shape[1], np.nan)
                for part in self.parts
            ]
        )

    @property
    def error(self) -> FloatArray:
        """Standard error of the score, shape (N,)."""
        error: FloatArray = np.sqrt((self.errors**2).sum(axis=0))
        return error

    @property
    def freedom(self) -> FloatArray:
        """Degrees of freedom of the standard error (Satterthwaite 1946), shape (N,)."""
        variances = self.errors**2
        each = np.maximum(np.array(self.sizes, dtype=np.float64) - 1, 1)[:, None]
        whole, own = variances.sum(axis=0), (variances**2 / each).sum(axis=0)
        freedom: FloatArray = np.divide(whole**2, own, out=np.full(len(whole), float(each.min())), where=own > 0)
        return freedom

    def at(self, samples: npt.NDArray[np.int64] | BoolArray) -> Units:
        """Return those of some samples."""
        return Units(self.values[:, samples], self.sizes)

    def halves(self, generator: np.random.Generator) -> FloatArray:
        """Return weights of two random halves of every part, shape (2, n): what each makes of a score."""
        weights = np.zeros((2, len(self.values)))
        begin = 0
        for size in self.sizes:
            order, half = begin + generator.permutation(size), size // 2
            weights[0, order[:half]] = 1 / half
            weights[1, order[half : 2 * half]] = 1 / half
            begin += size
        return weights


@dataclass(frozen=True)
class Draws:
    """The draws of one run.

    Attributes:
        sample_ids: N ids.
        values: Σ ΔP [nats], Σ ΔP/P and Σ |ΔP/P| over the kept tokens, shape (K, N, scopes, sums) in the order
            of `SCOPES` and `SUMS`. In antithetic mode rows 2j and 2j + 1 are the pair (δ_j, −δ_j).
        kept: Scored tokens that entered the sums (|P_t| at or above the floor), shape (N, scopes).
        mode: How the K evaluations were drawn.
        sigma: Standard deviation σ of the noise; NaN in runs of versions without parts.
        parts: Of each pair the speed and the spread (see `mrd.Unit`), shape (K / 2, N, scopes, 2); None where
            neither was looked at.
        probes: Of each sign probe its estimate of the speed, shape (B, N, scopes); NaN in a scope without probes,
            None without any.
        spread_probes: The same of the spread, which only previews probe; they have no evaluation at all.
    """

    sample_ids: tuple[str, ...]
    values: FloatArray
    kept: npt.NDArray[np.int64]
    mode: Mode
    sigma: float = float("nan")
    parts: FloatArray | None = None
    probes: FloatArray | None = None
    spread_probes: FloatArray | None = None

    @property
    def is_preview(self) -> bool:
        """Whether speed and spread are all there is, and MRD is not known."""
        return self.spread_probes is not None

    @property
    def evaluations(self) -> int:
        """K, the number of perturbed forward evaluations."""
        return len(self.values)

    def units(self, scope: Scope, normalisation: Normalisation, formula: Formula = Formula.MRD) -> Units:
        """Return the independent values that the score (before |·|) is made of.

        They are single evaluations in plain mode and means over a pair in antithetic mode. Where there are sign
        probes, MRD = mean_k(R_k − A_k) + mean_b S_b: what a pair says of the speed is taken out of it, and what
        the probes say, which is far more exact, put in its place. The other formulas are of the pairs alone.

        Returns:
            NaN for samples without a kept token, and for all of a preview.
        """
        if self.is_preview:
            return Units.of(np.full((1, len(self.sample_ids)), np.nan))
        at = SCOPES.index(scope)
        values = self.values[:, :, at, :]
        per_draw = {
            Formula.MRD: values[..., SUMS.index("relative")],
            Formula.MEAN_ABSOLUTE: values[..., SUMS.index("absolute")],
            Formula.INITIAL: np.abs(values[..., SUMS.index("delta")]),
        }[formula]
        divisor = self._divisor(at, normalisation)
        per_draw = per_draw / divisor
        if self.mode == "plain":
            return Units.of(per_draw)
        pairs = (per_draw[0::2] + per_draw[1::2]) / 2
        probed = self.probed(scope)
        if formula is not Formula.MRD or probed is None or self.parts is None:
            return Units.of(pairs)
        assert self.probes is not None  # some scope was probed
        scale = self.sigma**2 / 2 / divisor
        return Units.of(pairs + scale * self.parts[:, :, probed, 0], -scale * self.probes[:, :, probed])

    def ranked(self, scope: Scope, normalisation: Normalisation, formula: Formula = Formula.MRD) -> Units:
        """Return the units of what the samples are ranked by: the score, or in a preview speed + spread."""
        if not self.is_preview:
            return self.units(scope, normalisation, formula)
        by_part = self.parts_of(scope, normalisation)
        return Units.of(*(by_part[part].values for part in ("speed", "spread")))

    def probed(self, scope: Scope) -> int | None:
        """Return the place of the scope whose probes serve `scope`: its own, or the answer's; None without any."""
        if self.probes is None:
            return None
        return next((at for at in (SCOPES.index(scope), 0) if np.isfinite(self.probes[:, :, at]).all()), None)

    def parts_of(self, scope: Scope, normalisation: Normalisation) -> dict[str, Units]:
        """Return the units of speed, spread and curvature, each without σ; empty where they were not looked at.

        MRD/σ² is half their sum. The speed is from the probes where the scope has its own, all else from pairs.
        """
        at = SCOPES.index(scope)
        if self.probes is not None and self.spread_probes is not None:
            named = {"speed": self.probes[:, :, at], "spread": self.spread_probes[:, :, at]}
            return {name: Units.of(values / self._divisor(at, normalisation)) for name, values in named.items()}
        if self.parts is None:
            return {}
        of_pairs = self._parts_of_pairs(at)
        looked = np.isfinite(of_pairs["spread"]).all(axis=1)
        named = {name: values if name == "speed" else values[looked] for name, values in of_pairs.items()}
        if self.probes is not None and self.probed(scope) == at:
            named["speed"] = self.probes[:, :, at]
        divisor = self._divisor(at, normalisation)
        return {name: Units.of(values / divisor) for name, values in named.items()}

    def _parts_of_pairs(self, at: int) -> dict[str, FloatArray]:
        """Return speed, spread and curvature that each pair shows, summed over tokens, shape (K / 2, N) each."""
        if self.parts is None:
            return {}
        relative = self.values[:, :, at, SUMS.index("relative")]
        whole = -(relative[0::2] + relative[1::2]) / self.sigma**2
        speed, spread = (self.parts[:, :, at, place] for place in range(2))
        return {"speed": speed, "spread": spread, "curvature": whole - speed - spread}

    def _divisor(self, at: int, normalisation: Normalisation) -> FloatArray:
        """Return what sums over tokens are divided by, shape (N,); NaN for samples without a kept token."""
        tokens = self.kept[:, at].astype(np.float64)
        divisor = tokens if normalisation is Normalisation.MEAN else (tokens > 0).astype(np.float64)
        return np.where(divisor > 0, divisor, np.nan)

    def save(self, stream: BinaryIO) -> None:
        """Write one row per evaluation and sample as Parquet; the parts of a pair stand in both of its rows."""
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
            for name, of_pairs in self._parts_of_pairs(s).items():
                frame[f"{name}_{scope}"] = np.repeat(of_pairs, 2, axis=0).ravel()
        frame.attrs |= {"mode": self.mode, "sigma": self.sigma}
        frame.to_parquet(stream, index=False)

    def save_probes(self, stream: BinaryIO) -> None:
        """Write one row per sign probe and sample as Parquet; of a preview with the spread and the kept tokens."""
        probes = np.empty((0, len(self.sample_ids), len(SCOPES))) if self.probes is None else self.probes
        count, n = probes.shape[:2]
        frame = pd.DataFrame(
            {
                "probe": np.repeat(np.arange(count), n),
                "sample_id": np.tile(np.array(self.sample_ids, dtype=object), count),
            }
        )
        for s, scope in enumerate(SCOPES):
            frame[f"speed_{scope}"] = probes[:, :, s].ravel()
            if self.spread_probes is not None:
                frame[f"spread_{scope}"] = self.spread_probes[:, :, s].ravel()
                frame[f"kept_{scope}"] = np.tile(self.kept[:, s], count)
        frame.to_parquet(stream, index=False)

    @classmethod
    def load(cls, path: Path, probes: Path | None = None) -> Draws:
        """Read what `save` and `save_probes` wrote; runs of earlier versions have fewer columns and no probes."""
        frame = pd.read_parquet(path)
        if frame.empty and probes is not None:
            return cls._preview(frame.attrs["mode"], pd.read_parquet(probes))
        count = int(frame["evaluation"].iloc[-1]) + 1
        n = len(frame) // count
        columns = [f"{name}_{scope}" for scope in SCOPES for name in SUMS]
        values = frame[columns].to_numpy(np.float64).reshape(count, n, len(SCOPES), len(SUMS))
        kept = frame[[f"kept_{scope}" for scope in SCOPES]].to_numpy(np.int64)[:n]
        names = [f"{part}_{scope}" for scope in SCOPES for part in ("speed", "spread")]
        has_parts = set(names) <= set(frame)
        return cls(
            tuple(frame["sample_id"].iloc[:n]),
            values,
            kept,
            frame.attrs["mode"],
            frame.attrs.get("sigma", float("nan")),
            frame[names].to_numpy(np.float64).reshape(count, n, len(SCOPES), 2)[0::2] if has_parts else None,
            _probes(pd.read_parquet(probes), n) if probes is not None and probes.exists() else None,
        )

    @classmethod
    def _preview(cls, mode: Mode, probes: pd.DataFrame) -> Draws:
        n = len(probes) // (int(probes["probe"].iloc[-1]) + 1)
        return cls(
            tuple(probes["sample_id"].iloc[:n]),
            np.empty((0, n, len(SCOPES), len(SUMS))),
            probes[[f"kept_{scope}" for scope in SCOPES]].to_numpy(np.int64)[:n],
            mode,
            probes=_probes(probes, n),
            spread_probes=_probes(probes, n, "spread"),
        )


def _probes(frame: pd.DataFrame, samples: int, part: str = "speed") -> FloatArray | None:
    if frame.empty:
        return None
    columns = [f"{part}_{scope}" for scope in SCOPES]
    return frame[columns].to_numpy(np.float64).reshape(-1, samples, len(SCOPES))


def scores(
    draws: Draws, scope: Scope, normalisation: Normalisation, formula: Formula = Formula.MRD
) -> pd.DataFrame:
    """Return the score of every sample with its error.

    MRD_i = |(1/K) Σ_k r_ik| (Feng et al., Eq. 4): the absolute value is taken once, after the mean. The
    interval is that of the signed mean (Student t over the n units), then its absolute value, from 0 where it
    spans 0.

    Returns:
        N rows: sample_id, mrd, mrd_signed, mrd_se, mrd_low, mrd_high (95 %), relative_se, n_tokens (kept).
        Relative changes are pure numbers; the initial metric is in nats. All but n_tokens are NaN in a preview.
    """
    units = draws.units(scope, normalisation, formula)
    signed, error = units.mean, units.error
    half = stats.t.ppf(0.975, units.freedom) * error
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
            mrd_column(scope, normalisation, formula): np.abs(draws.units(scope, normalisation, formula).mean)
            for formula in Formula
            for scope in SCOPES
            for normalisation in Normalisation
        }
    )


def parts(draws: Draws, scope: Scope, normalisation: Normalisation) -> pd.DataFrame:
    """Return speed, spread and curvature of every sample, each with its standard error; NaN where unknown.

    They do not depend on σ: MRD/σ² is half their sum. Speed and spread together stand in columns of their own.
    """
    units = draws.parts_of(scope, normalisation)
    nothing = np.full(len(draws.sample_ids), np.nan)
    frame = {}
    for name in ("speed", "spread", "curvature"):
        frame[name] = units[name].mean if name in units else nothing
        frame[f"{name}_se"] = units[name].error if name in units else nothing
    frame["speed_and_spread"] = frame["speed"] + frame["spread"]
    # Both of the same few pairs err alike: then the sum of their errors is the most that it can be.
    apart = draws.probes is not None and draws.probed(scope) == SCOPES.index(scope)
    errors = frame["speed_se"], frame["spread_se"]
    frame["speed_and_spread_se"] = np.hypot(*errors) if apart else np.add(*errors)
    return pd.DataFrame(frame)


def relative_se(units: Units) -> FloatArray:
    """Return SE / |mean| of each sample, shape (N,)."""
    mean = np.abs(units.mean)
    quotient: FloatArray = np.divide(units.error, mean, out=np.full_like(mean, np.nan), where=mean > 0)
    return quotient


def reliability(units: Units, control: Sequence[float] | FloatArray | None = None) -> float:
    """Return the Spearman–Brown reliability of the ranking, from split halves.

    The units are split into random halves, both halves rank the samples, and their Spearman correlation ρ_h,
    averaged over 100 fixed splits, gives that of the whole run, see `spearman_brown`. It says how well an equal
    run would agree; an error that all draws share is not seen by it (that is the precision gate's work).

    Args:
        units: See `Draws.ranked`. Halves are of pairs and of probes alike. Samples with a NaN are left out.
        control: A value per sample, such as its length, whose rank is partialled out of both halves' ranks.

    Returns:
        The reliability, from −1 to 1, or NaN with fewer than 4 pairs (or plain draws), 2 probes or 3 samples (4
        with a control: what it leaves of three correlates as ±1 whatever they are), or where all samples tie.
    """
    defined = np.isfinite(units.values).all(axis=0)
    least = 3 if control is None else 4
    if units.sizes[0] < 4 or min(units.sizes) < 2 or defined.sum() < least:
        return float("nan")
    generator = np.random.default_rng(SPLIT_SEED)
    halves = np.stack([units.halves(generator) for _ in range(SPLITS)], axis=1)
    first, second = (stats.rankdata(np.abs(weights @ units.values[:, defined]), axis=1) for weights in halves)
    if control is not None:
        rank = stats.rankdata(np.asarray(control, dtype=np.float64)[defined])
        first, second = _residual(first, rank), _residual(second, rank)
    return spearman_brown(float(np.mean(_pearson(first, second))))


def spearman_brown(halves: float) -> float:
    """Return the correlation of two wholes, 2ρ / (1 + ρ), from the ρ of their halves.

    Negative halves repeat nothing, and are said to be negative. Below ρ = −1/3 the formula, made for halves that
    share a signal, leaves the scale of correlations and has a pole at −1: the result is −1 there.
    """
    return -1.0 if halves <= -1 / 3 else 2 * halves / (1 + halves)


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

    samples: int
    evaluations: int
    median_relative_se: float
    p90_relative_se: float
    reliability_sum: float
    reliability_mean: float

    @classmethod
    def of(cls, draws: Draws, scope: Scope) -> Precision:
        """Measure what `draws` rank by in `scope`."""
        mean = draws.ranked(scope, Normalisation.MEAN)
        errors = relative_se(mean)
        errors = errors[np.isfinite(errors)]
        return cls(
            samples=len(errors),
            evaluations=draws.evaluations,
            median_relative_se=float(np.median(errors)) if errors.size else float("nan"),
            p90_relative_se=float(np.quantile(errors, 0.9)) if errors.size else float("nan"),
            reliability_sum=reliability(draws.ranked(scope, Normalisation.SUM)),
            reliability_mean=reliability(mean),
        )

    @property
    def curve(self) -> dict[str, float]:
        """The figures that change as a run goes on, by name, as far as they are defined."""
        counts = {"samples", "evaluations"}
        return {name: value for name, value in asdict(self).items() if name not in counts and np.isfinite(value)}

    def reliability_of(self, normalisation: Normalisation) -> float:
        """Return the reliability of the ranking by the sum or by the mean."""
        return self.reliability_sum if normalisation is Normalisation.SUM else self.reliability_mean

    def _is_precise(self, target: EstimatorConfig, share: float = 1.0) -> bool:
        return (
            self.median_relative_se <= share * target.median_relative_se
            and self.p90_relative_se <= share * target.p90_relative_se
        )

    def reaches(self, target: EstimatorConfig) -> bool:
        """Tell whether the run may stop before its cap."""
        is_precise = self._is_precise(target)
        is_reliable = self.reliability_of(target.normalisation) >= target.reliability
        # Samples that are all alike never rank reliably: then four times the usual draws are enough.
        many = is_reliable or self._is_precise(target, share=0.5)
        return {
            "auto": is_precise if self.samples < LEAST_SAMPLES else many,
            "precision": is_precise,
            "reliability": is_reliable,
            "never": False,
        }[target.stop]
