"""How well measures of difficulty predict the number of updates that forgetting takes, and how sure that is.

A run that ended at its cap without forgetting is right-censored: its number of updates is greater than the
cap and otherwise unknown. Two statistics of rank agreement take that in, and both are given. Harrell's C with
Somers' D is the measure that survival analysis uses: it counts the pairs of samples whose order is known and
no other, so nothing is assumed of a censored sample. Spearman's ρ is what the field reports; it ranks censored
samples above all others, tied with each other, which is true where all runs had one cap. Everything else here
(partial correlation, league table, agreement of methods) is a Spearman correlation of that kind.

Intervals are BCa intervals over samples, see `analysis.statistics.bootstrap`; ranks are taken anew in each
replicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.statistics.bootstrap import (
    LEAST_SAMPLES,
    REPLICATES,
    ROUNDING,
    SEED,
    UNDEFINED,
    Estimate,
    Statistic,
    estimate,
)
from analysis.statistics.groups import holm
from analysis.statistics.wording import verdict
from mrd_core.arrays import BoolArray, FloatArray, ratio


class Concordance(NamedTuple):
    """Harrell's C, in [0, 1], and Somers' D = 2C − 1, in [−1, 1]; both grow with agreement."""

    c: Estimate
    somers_d: Estimate


@dataclass(frozen=True, eq=False)
class Agreement:
    """How alike methods order the samples.

    Attributes:
        pairs: A row per two methods: first, second, rho, low, high, n, n_censored (by either of them).
        kendalls_w: Coefficient of concordance of all methods, 1 where they agree; over samples that all ran on.
    """

    pairs: pd.DataFrame
    kendalls_w: Estimate


@dataclass(frozen=True, eq=False)
class _Sample:
    """Samples where all that is asked for is defined, in an order that does not depend on that of the file."""

    variables: FloatArray
    updates: FloatArray
    censored: BoolArray

    @property
    def outcome(self) -> FloatArray:
        return ranked_outcome(self.updates, self.censored)

    def estimate(self, statistic: Statistic, replicates: int, seed: int) -> Estimate:
        return estimate(statistic, len(self.updates), replicates, seed, int(self.censored.sum()))


def concordance(
    x: npt.ArrayLike,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Concordance:
    """Return how a measure orders the samples by their updates: Harrell's C (1982) and Somers' D = 2C − 1.

    Of two samples it is known which takes more updates where the smaller number is no censored one; a censored
    sample takes more than any that was forgotten at its cap. C is the share of those pairs that the measure
    orders alike, ties of the measure counting one half. D > 0: large values go with many updates.

    Args:
        x: The measure, shape (N,), NaN where undefined.
        updates: Number of updates, or the cap of a censored run, shape (N,).
        censored: Which runs ended without forgetting, shape (N,).
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    sample = _complete([x], updates, censored)
    d = sample.estimate(_somers_d(sample), replicates, seed)
    return Concordance(d._replace(value=(d.value + 1) / 2, low=(d.low + 1) / 2, high=(d.high + 1) / 2), d)


def spearman(
    x: npt.ArrayLike,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Estimate:
    """Return Spearman's ρ of a measure with updates, censored samples tied above all others.

    Arguments as for `concordance`. NaN with fewer than 4 samples, or where either is constant.
    """
    return partial(x, updates, censored, (), replicates, seed)


def partial(
    x: npt.ArrayLike,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    controls: Sequence[npt.ArrayLike],
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Estimate:
    """Return Spearman's ρ of a measure with updates, the controls held constant.

    It is the correlation of what is left of both ranks when the ranks of the controls are regressed out; for
    one control z, (r_xy − r_xz r_yz) / √((1 − r_xz²)(1 − r_yz²)). NaN where nothing is left.

    Args:
        x: The measure, shape (N,), NaN where undefined.
        updates: Number of updates, or the cap of a censored run, shape (N,).
        censored: Which runs ended without forgetting, shape (N,).
        controls: What is held, each of shape (N,).
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    sample = _complete([x, *controls], updates, censored)
    return sample.estimate(_partial(sample), replicates, seed)


class Relation(NamedTuple):
    """A measure and an outcome of n samples in one of several models.

    Attributes:
        samples: Which of all N samples they are, shape (n,).
        x: The measure, shape (n,), NaN where undefined.
        updates: The outcome, or the cap of a censored one, shape (n,).
        censored: Which outcomes are, shape (n,).
        controls: What is held, each of shape (n,).
    """

    samples: npt.NDArray[np.intp]
    x: npt.ArrayLike
    updates: npt.ArrayLike
    censored: npt.ArrayLike
    controls: Sequence[npt.ArrayLike] = ()


def mean_partial(
    relations: Sequence[Relation], replicates: int = REPLICATES, seed: int = SEED
) -> tuple[Estimate, int]:
    """Return the mean over models of `partial`, the samples resampled in all models at once, and their number.

    Args:
        relations: One for each model; those in which it is undefined are left out.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    statistics: list[tuple[npt.NDArray[np.intp], Statistic]] = []
    ended: list[npt.NDArray[np.intp]] = []
    for each in relations:
        stacked = np.stack([np.asarray(one, dtype=np.float64) for one in (each.x, *each.controls, each.updates)])
        defined = np.isfinite(stacked).all(axis=0)
        if defined.sum() < LEAST_SAMPLES:
            continue
        censored = np.asarray(each.censored, dtype=bool)[defined]
        statistic = _partial(_Sample(stacked[:-1, defined], stacked[-1, defined], censored))
        if np.isfinite(statistic(np.ones((1, int(defined.sum()))))[0]):
            statistics.append((each.samples[defined], statistic))
            ended.append(each.samples[defined][censored])
    if not statistics:
        return UNDEFINED, 0
    # Those that have a value in some model: no others can be drawn.
    present = np.unique(np.concatenate([samples for samples, _ in statistics]))
    placed = [(np.searchsorted(present, samples), statistic) for samples, statistic in statistics]

    def mean(counts: FloatArray) -> FloatArray:
        each: FloatArray = np.mean([statistic(counts[:, places]) for places, statistic in placed], axis=0)
        return each

    n_censored = np.unique(np.concatenate(ended)).size
    return estimate(mean, present.size, replicates, seed, n_censored), len(statistics)


def gain(
    x: npt.ArrayLike,
    rival: npt.ArrayLike,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    replicates: int = REPLICATES,
    seed: int = SEED,
    *,
    signed: bool = False,
) -> Estimate:
    """Return |ρ| of a measure less |ρ| of its rival, over the same samples and replicates.

    Arguments as for `partial`. The sign of a measure's correlation is no merit, its size is; of predictions that
    go the wrong way it is a fault, and `signed` compares ρ itself.
    """
    sample = _complete([x, rival], updates, censored)
    rows = np.stack([*sample.variables, sample.outcome])

    def ahead(counts: FloatArray) -> FloatArray:
        covariance = _rank_covariance(rows, counts)
        own, other = (_correlation(covariance, at, 2) for at in (0, 1))
        return own - other if signed else np.abs(own) - np.abs(other)

    return sample.estimate(ahead, replicates, seed)


def league(
    measures: pd.DataFrame,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    length: pd.Series,
    costs: Mapping[str, float],
    expected: Mapping[str, int],
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> pd.DataFrame:
    """Return every measure, best first, by how well it predicts updates; length takes part under its name.

    Args:
        measures: N rows, a numeric column per measure, NaN where undefined.
        updates: Number of updates, or the cap of a censored run, shape (N,).
        censored: Which runs ended without forgetting, shape (N,).
        length: Length of each sample, the rival to beat; replaces a measure of its name.
        costs: Forward-equivalents by measure; NaN where missing.
        expected: Sign of ρ that the field expects, 1 or −1, by measure; 0 where missing.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap, the same for all measures.

    Returns:
        Columns measure, rho, low, high, n, n_censored, excludes_zero, expected, verdict, p (two-sided, t
        approximation), p_holm, partial, partial_low, partial_high (ρ with length held), somers_d, somers_low,
        somers_high, gain, gain_low, gain_high (|ρ| less that of length), beats_length, cost. What compares
        length with itself is NaN.
    """
    table = measures.astype(np.float64).assign(**{str(length.name): length.to_numpy(np.float64, na_value=np.nan)})
    rows = []
    for name, column in table.items():
        x, sign = column.to_numpy(), expected.get(str(name), 0)
        against = np.full(len(table), np.nan) if name == length.name else table[str(length.name)].to_numpy()
        rho = spearman(x, updates, censored, replicates, seed)
        row = standing(rho, x, against, updates, censored, sign, replicates, seed)
        rows.append({"measure": str(name)} | row | {"cost": costs.get(str(name), np.nan)})
    standings = pd.DataFrame(rows)
    standings.insert(list(standings).index("p") + 1, "p_holm", holm(list(standings["p"])))
    best_first = standings["rho"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    return standings.loc[best_first].reset_index(drop=True)


def standing(
    rho: Estimate,
    x: FloatArray,
    length: npt.ArrayLike,
    updates: npt.ArrayLike,
    censored: npt.ArrayLike,
    expected: int,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> dict[str, object]:
    """Return the row of `league` of a measure that has this ρ, but its name, its cost, and its p_holm.

    Arguments else as for `league`: the measure, its rival, the outcome, and the sign that is expected of ρ.
    """
    # The two-sided p of Spearman's ρ by Student's t, as scipy has it.
    rest = (1 - rho.value) * (1 + rho.value)
    perfect = np.inf if np.isfinite(rho.value) else np.nan
    t = abs(rho.value) * np.sqrt((rho.n - 2) / rest) if rest > 0 else perfect
    held = partial(x, updates, censored, [length], replicates, seed)
    somers = concordance(x, updates, censored, replicates, seed).somers_d
    ahead = gain(x, length, updates, censored, replicates, seed)
    return {
        **rho.columns("rho"),
        "n": rho.n,
        "n_censored": rho.n_censored,
        "excludes_zero": rho.excludes_zero,
        "expected": expected,
        "verdict": verdict(rho, expected),
        "p": float(2 * special.stdtr(rho.n - 2, -t)),
        **held.columns("partial", "partial_"),
        **somers.columns("somers_d", "somers_"),
        **ahead.columns("gain", "gain_"),
        "beats_length": ahead.low > 0,
    }


def agreement(
    updates: pd.DataFrame, censored: pd.DataFrame, replicates: int = REPLICATES, seed: int = SEED
) -> Agreement:
    """Return how alike methods, or optimisers, order the samples by their updates.

    Kendall's W is corrected for ties; without any it is (1 + (m − 1) r̄) / m, r̄ the mean Spearman correlation of
    the m methods, so it is about 1/m, not 0, for methods that have nothing in common.

    Args:
        updates: A row per sample, a column per method, NaN where a method did not run.
        censored: Of the same shape, which runs ended without forgetting.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    outcomes = updates.astype(np.float64).mask(censored.astype(bool), np.inf)
    rows = []
    for first, second in combinations(outcomes.columns, 2):
        both = _in_order(outcomes[[first, second]])
        rho = estimate(correlation_of(both), both.shape[1], replicates, seed, _count_censored(both))
        rows.append((first, second, *rho))
    complete = _in_order(outcomes)

    def kendalls_w(counts: FloatArray) -> FloatArray:
        # The squares of the rank sums over m times those of all ranks.
        covariance = _rank_covariance(complete, counts)
        return ratio(covariance.sum(axis=(1, 2)), len(complete) * np.trace(covariance, axis1=1, axis2=2))

    w = estimate(kendalls_w, complete.shape[1], replicates, seed, _count_censored(complete))
    columns = ["first", "second", "rho", "low", "high", "n", "n_censored"]
    return Agreement(pd.DataFrame(rows, columns=columns), w)


def repeatability(
    updates: pd.DataFrame, censored: pd.DataFrame, replicates: int = REPLICATES, seed: int = SEED
) -> Estimate:
    """Return how reliable the order of the samples by their updates is, over repeats of the unlearning.

    With r̄ the mean Spearman correlation of two of the k repeats it is k r̄ / (1 + (k − 1) r̄), after Spearman and
    Brown: how well the samples' mean over another k repeats would agree. No measure can correlate with updates
    by more than about its square root. NaN for one repeat, and where r̄ is not positive.

    Args:
        updates: A row per sample, a column per repeat; samples that lack one are left out.
        censored: Of the same shape, which runs ended without forgetting.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    rows = _in_order(updates.astype(np.float64).mask(censored.astype(bool), np.inf))
    pairs = list(combinations(range(len(rows)), 2))

    def statistic(counts: FloatArray) -> FloatArray:
        covariance = _rank_covariance(rows, counts)
        mean = np.mean([_correlation(covariance, *pair) for pair in pairs], axis=0)
        return ratio(len(rows) * mean, np.where(mean > 0, 1 + (len(rows) - 1) * mean, 0))

    if not pairs:
        return UNDEFINED._replace(n=rows.shape[-1])
    return estimate(statistic, rows.shape[1], replicates, seed, _count_censored(rows))


def _complete(variables: Sequence[npt.ArrayLike], updates: npt.ArrayLike, censored: npt.ArrayLike) -> _Sample:
    stacked = np.stack([np.asarray(values, dtype=np.float64) for values in (*variables, updates)])
    ended = np.asarray(censored, dtype=bool)
    defined = np.isfinite(stacked).all(axis=0)
    stacked, ended = stacked[:, defined], ended[defined]
    order = np.lexsort((*stacked, ended))
    return _Sample(stacked[:-1, order], stacked[-1, order], ended[order])


def _in_order(outcomes: pd.DataFrame) -> FloatArray:
    """Return outcomes of the samples that have all of them, shape (k, n), in an order as that of `_Sample`."""
    return outcomes.dropna().sort_values([*outcomes]).to_numpy().T


def ranked_outcome(updates: FloatArray, censored: BoolArray) -> FloatArray:
    """Return what is ranked: ties at infinity for the censored samples."""
    return np.where(censored, np.inf, updates)


def _count_censored(outcomes: FloatArray) -> int:
    return int(np.isinf(outcomes).any(axis=0).sum())


def _rank_covariance(rows: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the products of the ranks of k variables, shape (B, k, k), for variables of shape (k, n).

    Ranks are the mid-ranks of samples drawn so many times, less their mean.
    """
    ranks = np.empty((len(counts), *rows.shape))
    for at, values in enumerate(rows):
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], values[order][1:] != values[order][:-1]]))
        tied = np.add.reduceat(counts[:, order], starts, axis=1)
        middle = np.cumsum(tied, axis=1) - tied / 2 - counts.sum(axis=1, keepdims=True) / 2
        group = np.empty(values.size, dtype=np.intp)
        group[order] = np.repeat(np.arange(starts.size), np.diff([*starts, values.size]))
        ranks[:, at] = middle[:, group]
    products: FloatArray = (ranks * counts[:, None]) @ ranks.swapaxes(1, 2)
    return products


def _correlation(covariance: FloatArray, first: int, second: int) -> FloatArray:
    scale = np.sqrt(covariance[:, first, first] * covariance[:, second, second])
    return ratio(covariance[:, first, second], scale)


def correlation_of(both: FloatArray) -> Statistic:
    """Return Spearman's ρ of two variables, shape (2, n), as a function of counts."""
    return lambda counts: _correlation(_rank_covariance(both, counts), 0, 1)


def _partial(sample: _Sample) -> Statistic:
    """Return the correlation of ranks of the first variable with the outcome, the others held."""
    rows = np.stack([sample.variables[0], sample.outcome, *sample.variables[1:]])

    def statistic(counts: FloatArray) -> FloatArray:
        covariance = _rank_covariance(rows, counts)
        tied = covariance[:, :2, 2:]
        inverse = np.linalg.pinv(covariance[:, 2:, 2:], rcond=1e-10, hermitian=True)
        left = covariance[:, :2, :2] - tied @ inverse @ tied.swapaxes(1, 2)
        total = np.diagonal(covariance, axis1=1, axis2=2)[:, :2]
        own = np.all(np.diagonal(left, axis1=1, axis2=2) > ROUNDING * total, axis=1)
        return np.where(own, _correlation(np.where(np.expand_dims(own, (1, 2)), left, 1), 0, 1), np.nan)

    return statistic


def _somers_d(sample: _Sample) -> Statistic:
    """Return Σ c_i c_j s_ij / Σ c_i c_j over comparable pairs as a function of counts c.

    s_ij is the sign of the measure's difference for a pair whose updates go up.
    """
    (x,), updates, ended = sample.variables, sample.updates, sample.censored
    later = (updates[:, None] < updates) | ((updates[:, None] == updates) & ended)
    comparable = (later & ~ended[:, None]).astype(np.float64)
    agreeing = comparable * np.sign(x - x[:, None])

    def statistic(counts: FloatArray) -> FloatArray:
        above, below = (((counts @ pairs) * counts).sum(axis=1) for pairs in (agreeing, comparable))
        return ratio(above, below)

    return statistic
