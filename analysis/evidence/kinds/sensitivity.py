"""Sensitivity (Fig. 5): over which σ does MRD grow as σ², and how many evaluations does its ranking need?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from analysis import elsewhere
from analysis.evidence.brief import number_cells
from analysis.evidence.interpretation import Evidence, Interpretation
from analysis.evidence.measurements import (
    NOTHING_YET,
    Measurements,
    estimate_at,
    in_words,
    shared_caveats,
    small_n,
)
from analysis.statistics.censored import spearman
from analysis.statistics.regime import Regime, quadratic_regime
from analysis.statistics.wording import in_figures
from mrd_core.arrays import FloatArray
from mrd_core.experiments.kinds.sensitivity import DRAWS, FLOOR, MODES, SIGMA, SensitivityConfig
from mrd_core.scoring.config import Normalisation
from mrd_core.scoring.draws import Mode, Units, relative_se, reliability

PAPER = (
    "The paper (Fig. 5, 20 samples) finds that MRD hardly depends on σ and settles with K; it takes σ = 1e-5 and "
    "K = 200, and its own Theorem 3.2 says that MRD grows as σ²."
)
NORMALISATIONS = tuple(map(str, Normalisation))
EVALUATIONS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
ENOUGH = 0.9
NO_SIGMAS = "Over which σ MRD grows as σ² has not been measured."


@dataclass(frozen=True, eq=False, kw_only=True)
class Sensitivity(Evidence):
    """MRD against σ and against the number of evaluations.

    Attributes:
        sigmas: A row per dtype, normalisation and σ: dtype, normalisation, sigma, n, mrd (median over samples),
            ratio, ratio_q1, ratio_q3 (median and quartiles of MRD/σ²), relative_se (median), rho, low, high
            (Spearman with the ranking at the reference), inside (the quadratic regime).
        regimes: The quadratic regime by dtype and normalisation.
        floors: A row per dtype and normalisation: dtype, normalisation, floor (median over samples of MRD that
            rounding alone gives), least_sigma (smallest σ of those measured at which the median MRD is ten times
            the floor; NaN where there is none).
        reference_sigma: σ of the ranking that the others are held against; NaN before there are rows.
        reference_dtype: Its dtype, the finest.
        evaluations: A row per mode, normalisation and K: mode, normalisation, evaluations, reliability,
            relative_se (median over samples), blocks (disjoint sets of K evaluations that were averaged over).
        suffices: A row per mode and normalisation: mode, normalisation, evaluations (smallest K from which on the
            reliability is at least 0.9; NaN where it is not reached), reached (reliability at the largest K).
    """

    sigmas: pd.DataFrame
    regimes: Mapping[tuple[str, str], Regime]
    floors: pd.DataFrame
    reference_sigma: float
    reference_dtype: str
    evaluations: pd.DataFrame
    suffices: pd.DataFrame

    @property
    def brief(self) -> Mapping[str, pd.DataFrame]:
        """MRD/σ² and the agreement of rankings at each σ, of the mean over tokens."""
        sigmas = self.sigmas[self.sigmas["normalisation"] == "mean"]
        table = {
            "precision": sigmas["dtype"],
            "σ": number_cells(sigmas["sigma"], "g"),
            "MRD/σ²": number_cells(sigmas["ratio"], ".3g"),
            "relative SE": number_cells(sigmas["relative_se"], ".1%"),
            "agreement": in_words(sigmas, "rho"),
            "quadratic": sigmas["inside"].map({True: "yes", False: "no"}),
        }
        return {"Mean over tokens": pd.DataFrame(table)} if len(sigmas) else {}


def sensitivity(measurements: Measurements) -> Sensitivity:
    """Judge what a sensitivity experiment has measured so far."""
    rows = measurements.part(SIGMA)
    dtypes = sorted(rows["dtype"].dropna().unique(), key=_FINEST_FIRST.index)
    each = rows.drop_duplicates(["dtype", "sigma", "sample_id"])
    # MRD with a row per σ, ascending, and a column per sample.
    by_case = {
        (dtype, norm): each[each["dtype"] == dtype].pivot(index="sigma", columns="sample_id", values=f"mrd_{norm}")
        for dtype, norm in product(dtypes, NORMALISATIONS)
    }
    regimes = {case: quadratic_regime(scores.index, scores.to_numpy()) for case, scores in by_case.items()}
    sigma, dtype = _reference(rows, dtypes, measurements)
    sigmas = _sigmas(rows, by_case, regimes, (sigma, dtype))
    evaluations = _evaluations(measurements.part(DRAWS))
    suffices = _suffices(evaluations)
    findings = tuple(_findings(sigmas, sigma, dtype, suffices))
    return Sensitivity(
        verdict=_verdict(dtypes, regimes) or (NO_SIGMAS if findings else NOTHING_YET),
        findings=findings,
        caveats=tuple(_caveats(rows, evaluations, measurements)),
        paper=PAPER,
        elsewhere=elsewhere.SIGMAS,
        sigmas=sigmas,
        regimes=regimes,
        floors=_floors(measurements.part(FLOOR), sigmas),
        reference_sigma=sigma,
        reference_dtype=dtype,
        evaluations=evaluations,
        suffices=suffices,
    )


_FINEST_FIRST = ("float64", "float32", "float16", "bfloat16")
_SIGMA_COLUMNS = [
    *("dtype", "normalisation", "sigma", "n", "mrd", "ratio", "ratio_q1", "ratio_q3", "relative_se"),
    *("rho", "low", "high", "inside"),
]
_EVALUATION_COLUMNS = ["mode", "normalisation", "evaluations", "reliability", "relative_se", "blocks"]


def _reference(rows: pd.DataFrame, dtypes: list[str], measurements: Measurements) -> tuple[float, str]:
    """Return the measured σ that is nearest to that of the scores, or as set, and the finest dtype that has it."""
    if not dtypes:
        return np.nan, ""
    config = measurements.config
    assert isinstance(config, SensitivityConfig)
    levels = np.sort(rows.loc[rows["dtype"] == dtypes[0], "sigma"].unique())
    wished = measurements.scored.get("sigma", np.median(levels)) if config.sigma == "auto" else config.sigma
    return float(levels[np.abs(np.log(levels / wished)).argmin()]), dtypes[0]


def _sigmas(
    rows: pd.DataFrame,
    by_case: Mapping[tuple[str, str], pd.DataFrame],
    regimes: Mapping[tuple[str, str], Regime],
    reference: tuple[float, str],
) -> pd.DataFrame:
    """Return what the scores of each case say at each σ, and how they rank the samples beside the reference."""
    table = []
    for (dtype, norm), scores in by_case.items():
        mrd = rows[f"mrd_{norm}"]
        errors, regime = rows[f"mrd_{norm}_se"] / mrd.where(mrd > 0), regimes[dtype, norm]
        others = by_case[reference[1], norm].loc[reference[0]].reindex(scores.columns)
        for sigma, values in zip(map(float, scores.index), scores.to_numpy(), strict=True):
            defined = values[~np.isnan(values)]
            q1, ratio, q3 = np.quantile(defined / sigma**2, [0.25, 0.5, 0.75]) if len(defined) else (np.nan,) * 3
            error = errors[(rows["dtype"] == dtype) & (rows["sigma"] == sigma)].median()
            rho = spearman(values, others, np.zeros(len(values), dtype=bool))
            median = np.median(defined) if len(defined) else np.nan
            inside = bool(regime.low <= sigma <= regime.high)
            figures = (len(defined), median, ratio, q1, q3, error)
            table.append((dtype, norm, sigma, *figures, *rho[:3], inside))
    return pd.DataFrame(table, columns=_SIGMA_COLUMNS)


def _floors(rows: pd.DataFrame, sigmas: pd.DataFrame) -> pd.DataFrame:
    table = []
    for (dtype, of_dtype), norm in product(rows.groupby("dtype", sort=False), NORMALISATIONS):
        floor = of_dtype[f"floor_{norm}"].median()
        levels = sigmas[(sigmas["dtype"] == dtype) & (sigmas["normalisation"] == norm)]
        table.append((dtype, norm, floor, levels.loc[levels["mrd"] >= 10 * floor, "sigma"].min()))
    return pd.DataFrame(table, columns=["dtype", "normalisation", "floor", "least_sigma"])


def _evaluations(rows: pd.DataFrame) -> pd.DataFrame:
    """Return reliability and error of the ranking at each number of evaluations."""
    table = []
    for mode in MODES:
        of_mode = rows[rows["mode"] == mode].drop_duplicates(["evaluation", "sample_id"])
        if of_mode.empty:
            continue
        changes = of_mode.pivot(index="evaluation", columns="sample_id", values="relative").sort_index()
        tokens = of_mode.groupby("sample_id")["n_tokens"].first().reindex(changes.columns)
        # A sample without a token that counts has no score, and not one that never changes.
        changes, tokens = changes.loc[:, tokens > 0], tokens[tokens > 0]
        for norm in NORMALISATIONS:
            per_draw = changes / (tokens if norm == Normalisation.MEAN else 1.0)
            table += [(mode, norm, *row) for row in _by_evaluations(per_draw.to_numpy(np.float64), mode)]
    return pd.DataFrame(table, columns=_EVALUATION_COLUMNS)


def _by_evaluations(per_draw: FloatArray, mode: Mode) -> list[tuple[int, float, float, int]]:
    """Return (K, reliability, median relative SE, blocks) for relative changes of shape (evaluations, samples)."""
    total = len(per_draw) - len(per_draw) % 2
    # Independent values: single evaluations, or means over an antithetic pair.
    units, of_unit = per_draw[:total], 1
    if mode != "plain":
        units, of_unit = (per_draw[0:total:2] + per_draw[1:total:2]) / 2, 2
    table = []
    for count in sorted({*(k for k in EVALUATIONS if k < total), total} - {0}):
        size = count // of_unit
        blocks = [units[start : start + size] for start in range(0, len(units) - size + 1, size)]
        trust = _mean_defined([reliability(Units.of(block)) for block in blocks])
        error = _mean_defined(
            [_mean_defined(np.nanmedian(relative_se(Units.of(block))[None], axis=1)) for block in blocks]
        )
        table.append((count, trust, error, len(blocks)))
    return table


def _mean_defined(values: list[float] | FloatArray) -> float:
    defined = np.asarray(values)[np.isfinite(values)]
    return float(defined.mean()) if defined.size else np.nan


def _suffices(evaluations: pd.DataFrame) -> pd.DataFrame:
    rows = []
    measured = evaluations.dropna(subset=["reliability"])
    for case, ranked in measured.groupby(["mode", "normalisation"], sort=False):
        short = ranked.loc[ranked["reliability"] < ENOUGH, "evaluations"].max()
        beyond = ranked.loc[~(ranked["evaluations"] <= short), "evaluations"]
        rows.append((*case, beyond.min(), ranked["reliability"].iloc[-1]))
    return pd.DataFrame(rows, columns=["mode", "normalisation", "evaluations", "reached"])


def _verdict(dtypes: list[str], regimes: Mapping[tuple[str, str], Regime]) -> str:
    """Say of each precision over which σ MRD grows as σ²."""
    parts = []
    for dtype in dtypes:
        regime = regimes[dtype, "mean"]
        extent = f"from σ = {regime.low:.0e} to {regime.high:.0e}" if np.isfinite(regime.low) else "nowhere"
        parts.append(f"{extent} in {dtype}")
    return f"MRD (mean) grows as σ² {' and '.join(parts)}." if parts else ""


def _findings(sigmas: pd.DataFrame, reference: float, finest: str, suffices: pd.DataFrame) -> Iterator[str]:
    """Say at which σ rankings are most unlike the reference, and how many evaluations a reliable one takes."""
    for dtype in dict.fromkeys(sigmas["dtype"]):
        levels = sigmas[(sigmas["dtype"] == dtype) & (sigmas["normalisation"] == "mean")]
        others = levels[(levels["sigma"] != reference) | (levels["dtype"] != finest)].dropna(subset=["rho"])
        if len(others):
            worst = others.loc[others["rho"].idxmin()]
            yield (
                f"Rankings in {dtype} agree least at σ = {worst['sigma']:.0e} with the one in {finest} at "
                f"σ = {reference:.0e}: {in_figures(estimate_at(worst))}."
            )
    for norm, of_norm in suffices.groupby("normalisation", sort=False):
        columns = (of_norm[name] for name in ("mode", "evaluations", "reached"))
        parts = [
            f"K = {enough:.0f} {mode} evaluations"
            if np.isfinite(enough)
            else f"more {mode} evaluations than were made ({reached:.3f} with all)"
            for mode, enough, reached in zip(*columns, strict=True)
        ]
        yield f"For a reliability of {ENOUGH:g} the {norm} over tokens takes {', or '.join(parts)}."


def _caveats(rows: pd.DataFrame, evaluations: pd.DataFrame, measurements: Measurements) -> list[str]:
    assert isinstance(measurements.config, SensitivityConfig)
    caveats = shared_caveats(measurements)
    caveats += small_n(rows["sample_id"].nunique(), "samples")
    if len(rows):
        caveats.append(
            f"Each σ was measured with {measurements.config.pairs} antithetic pairs; their noise is in the "
            "quartiles."
        )
    if len(evaluations):
        caveats.append(
            "Reliability compares halves of the same run: it does not see an error that all draws share, such as "
            "a rounded baseline. At the largest K it is from one set of draws."
        )
    return caveats


INTERPRETATION = Interpretation(
    title="Sensitivity",
    question="Over which σ, and from how many evaluations on, is MRD the same measure?",
    procedure="The same samples are measured at many σ, in two precisions, and with many draws, plain and in "
    "antithetic pairs.",
    evidence=sensitivity,
)
