"""Statistics of evaluations with their noise: bootstrap replicates over samples, and the spread over seeds.

A replicate is a vector, for each set, of how often each of its samples was drawn, the same for all runs. Every
statistic of a run is a function of such counts and of the run's values, so that means, their means, areas under
curves and differences of runs all come from the same replicates, and what runs share cancels in a difference. The
first row of the counts draws every sample once: what it gives is what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.evaluated import Evaluated
from analysis.statistics.bootstrap import (
    LEAST_SAMPLES,
    REPLICATES,
    SEED,
    UNDEFINED,
    Estimate,
    percentile_estimate,
    resamples,
)
from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.evaluation import aggregates

SHARE, POSITIVE, UNBOUNDED = (0.0, 1.0), (0.0, np.inf), (-np.inf, np.inf)

# A set and a metric of its samples.
Input = tuple[str, str]


class Difference(NamedTuple):
    """A difference with its 95 % interval, and its two-sided p; NaN where the noise is not known."""

    estimate: Estimate
    p: float

    @classmethod
    def of_unknown_noise(cls, value: float) -> Difference:
        """Return a difference of which nothing but its value is known."""
        return cls(UNDEFINED._replace(value=value), np.nan)


class SeedNoise(NamedTuple):
    """Variance of a difference over seeds, and its degrees of freedom; none of either with one seed."""

    variance: float = 0.0
    freedom: float = 0.0


@dataclass(frozen=True, eq=False)
class View:
    """What a run has of the shared samples, and how often each is drawn.

    Attributes:
        counts: By set, shape (1 + R, n), the first row ones.
        values: By set and metric, shape (n,), NaN where undefined.
        whole: What is of a set as a whole, by set and metric.
        harness: Metrics of lm-evaluation-harness by task.
    """

    counts: Mapping[str, FloatArray]
    values: Mapping[Input, FloatArray]
    whole: Mapping[Input, float]
    harness: Mapping[str, Mapping[str, float]]

    @property
    def undefined(self) -> FloatArray:
        """What a statistic is that cannot be had, shape (1 + R,)."""
        return np.full(1 + REPLICATES, np.nan)

    def restricted(self, others: Iterable[View]) -> View:
        """Return the view of those samples alone that the others have too, metric by metric.

        A view without any value of a metric is one that lacks it, and takes no sample from the others.
        """
        kept = dict(self.values)
        for key, values in (each for other in others for each in other.values.items()):
            if key in kept and not np.isnan(values).all():
                kept[key] = np.where(np.isnan(values), np.nan, kept[key])
        return replace(self, values=kept)

    def masked(self, kept: Mapping[str, BoolArray]) -> View:
        """Return the view with the samples that are kept alone; of a set that is not named, that is all.

        Args:
            kept: By set, shape (n,).
        """
        masked = {
            key: np.where(kept[key[0]], values, np.nan) if key[0] in kept else values
            for key, values in self.values.items()
        }
        return replace(self, values=masked)

    def defined(self, key: Input) -> int:
        """Return how many samples have a value."""
        return int(np.isfinite(self.values[key]).sum()) if key in self.values else 0

    def undefined_of(self, key: Input) -> int:
        """Return how many samples have none although the metric was taken."""
        return len(self.values[key]) - self.defined(key) if key in self.values else 0

    def mean(self, key: Input) -> FloatArray:
        """Return the mean of a metric over the samples of a set that have it, shape (1 + R,)."""
        return aggregates.mean(*self._pooled([key]))

    def auc(self, metric: str, first: Sequence[str], others: Sequence[str]) -> FloatArray:
        """Return P(score of `first` > score of `others`) + half of P(equal), shape (1 + R,).

        Args:
            metric: A score per sample.
            first: The sets of the one side, pooled.
            others: Those of the other.
        """
        sides = (self._pooled([(split, metric) for split in splits]) for splits in (first, others))
        return aggregates.auc(*next(sides), *next(sides))

    def perplexity(self, split: str) -> FloatArray:
        """Return exp of the mean NLL over all tokens of a set, shape (1 + R,)."""
        keys = ((split, "nll"), (split, "answer_tokens"))
        if any(key not in self.values for key in keys):
            return self.undefined
        nll, tokens = (self.values[key] for key in keys)
        return aggregates.perplexity(nll, tokens, self.counts[split])

    def _pooled(self, keys: Iterable[Input]) -> tuple[FloatArray, FloatArray]:
        """Return the defined values under these keys, shape (n,), and how often each is drawn, (1 + R, n)."""
        present = [key for key in keys if key in self.values]
        values = np.concatenate([np.empty(0), *(self.values[key] for key in present)])
        none = np.empty((1 + REPLICATES, 0))
        counts = np.concatenate([none, *(self.counts[split] for split, _ in present)], axis=1)
        defined = np.isfinite(values)
        return values[defined], counts[:, defined]


def shared_samples(runs: Sequence[Evaluated]) -> dict[str, list[str]]:
    """Return the ids, by set, that all runs share which were asked the set; those of the first in their order."""
    shared: dict[str, list[str]] = {}
    for run in runs:
        for name, rows in run.values.groupby("split", sort=False)["sample_id"]:
            split, ids = str(name), dict.fromkeys(map(str, rows.unique()))
            shared[split] = [sample for sample in shared.get(split, ids) if sample in ids]
    return shared


def views(runs: Sequence[Evaluated], ids: Mapping[str, Sequence[str]]) -> dict[Evaluated, View]:
    """Return the view of each run on these samples, all with the same counts."""
    counts = {}
    for split, samples in ids.items():
        n = len(samples)
        # Every set is drawn independently of the others.
        drawn = resamples(n, REPLICATES, (SEED, crc32(split.encode()))) if n else np.empty((REPLICATES, 0))
        counts[split] = np.concatenate([np.ones((1, n)), drawn])
    places = {split: pd.Index(samples) for split, samples in ids.items()}
    of_runs = {}
    for run in runs:
        values = {}
        for (named, metric), rows in run.values.groupby(["split", "metric"], sort=False):
            place = places[str(named)]
            at = place.get_indexer(pd.Index(rows["sample_id"]))
            measured = np.full(len(place), np.nan)
            measured[at[at >= 0]] = rows["value"].to_numpy(np.float64)[at >= 0]
            values[str(named), str(metric)] = measured
        aggregated = run.aggregates.itertuples(index=False)
        whole = {(str(split), str(metric)): float(value) for split, metric, value in aggregated}
        of_runs[run] = View(counts, values, whole, run.harness or {})
    return of_runs


def limits(replicates: FloatArray, n: int, bounds: tuple[float, float] = UNBOUNDED) -> Estimate:
    """Return what was measured with its 95 % interval over samples, from replicates of shape (1 + R,).

    See `percentile_estimate`; no interval below `LEAST_SAMPLES`.
    """
    if n < LEAST_SAMPLES:
        return Estimate(float(replicates[0]), np.nan, np.nan, n)
    return percentile_estimate(replicates[0], replicates[1:], n, bounds)


def paired_noise(points: FloatArray) -> SeedNoise:
    """Return the noise of the mean of paired differences, shape (k,), one for each seed."""
    k = len(points)
    return SeedNoise(float(points.var(ddof=1)) / k, k - 1) if k > 1 else SeedNoise()


def unpaired_noise(first: FloatArray, second: FloatArray) -> SeedNoise:
    """Return the noise of a difference of means over seeds that have nothing in common."""
    return _summed([paired_noise(first), paired_noise(second)])


def difference(replicates: FloatArray, seeds: SeedNoise, n: int) -> Difference:
    """Return a difference of means over seeds, with the noise of its samples and of its seeds.

    The variance is that of the replicates, n / (n − 1) times as that of a mean of n values would be, and that over
    seeds; the t-interval has the degrees of freedom of Welch and Satterthwaite.

    Args:
        replicates: Of the difference, shape (1 + R,).
        seeds: Its noise over seeds.
        n: Samples that it is from; 0 where there are none, and the noise of seeds is all there is.
    """
    value = float(replicates[0])
    parts = [seeds]
    if n >= LEAST_SAMPLES:
        if not np.isfinite(replicates[1:]).any():
            # Made from samples, but not known how: seeds alone would be half of it.
            return Difference.of_unknown_noise(value)
        parts.append(SeedNoise(float(np.nanvar(replicates[1:], ddof=1)) * n / (n - 1), n - 1))
    noise = _summed(parts)
    if not (np.isfinite(value) and noise.freedom and (n == 0 or n >= LEAST_SAMPLES)):
        return Difference.of_unknown_noise(value)
    error = float(np.sqrt(noise.variance))
    margin = float(special.stdtrit(noise.freedom, 0.975)) * error
    if not error:
        # The same in every sample: as sure as n tosses of a coin that all fall alike.
        certain = 2.0 ** (1 - n) if n else np.nan
        ends = (value, value) if n else (np.nan, np.nan)
        return Difference(Estimate(value, *ends, n), certain if value else 1.0)
    p = float(2 * special.stdtr(noise.freedom, -abs(value) / error))
    return Difference(Estimate(value, value - margin, value + margin, n), p)


def _summed(parts: Sequence[SeedNoise]) -> SeedNoise:
    """Return the noise of a sum of independent parts (Welch, 1947; Satterthwaite, 1946)."""
    noisy = [part for part in parts if part.freedom]
    variance = sum(part.variance for part in noisy)
    spread = sum(part.variance**2 / part.freedom for part in noisy)
    freedom = variance**2 / spread if spread else max((part.freedom for part in noisy), default=0.0)
    return SeedNoise(variance, freedom)
