"""Theorem 3.2: is MRD/σ² half the trace of the Hessian, each token's divided by its log-probability?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import elsewhere
from analysis.evidence.brief import number_cells
from analysis.evidence.interpretation import Evidence, Interpretation
from analysis.evidence.measurements import NOTHING_YET, Measurements, shared_caveats, small_n
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.censored import spearman
from analysis.statistics.slope import Slope, slope
from analysis.statistics.wording import in_figures
from mrd_core.experiments.kinds.theorem import MRD, TRACE, TheoremConfig

PAPER = "The paper (Theorem 3.2, Appendix A) derives that MRD is about σ²/2 times |Σ_t Tr(H_t)/P_t|."

# How far from 1 the ends of the slope's interval may lie where it is to support the theorem.
NEAR = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class Theorem(Evidence):
    """MRD/σ² held against half the trace.

    Attributes:
        samples: A row per sample: sample_id, n_tokens, half_trace, half_trace_se (|Σ_t Tr(H_t)/P_t|/2, by
            Hutchinson), mrd, mrd_se (MRD/σ², summed over tokens), ratio (mrd / half_trace), same_sign (whether the
            two signed estimates say the same), probes, pairs.
        slope: Of MRD/σ² on half the trace; 1 through the origin is what the theorem says.
        correlation: Spearman's ρ of the two.
        attenuation: Share by which noise of the probes is expected to pull the slope down.
    """

    samples: pd.DataFrame
    slope: Slope
    correlation: Estimate
    attenuation: float

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every frame by its name."""
        lines = {name: estimate._asdict() for name, estimate in self.slope._asdict().items()}
        estimates = pd.DataFrame({**lines, "spearman": self.correlation._asdict()}).T.rename_axis("figure")
        return {"figures": estimates.drop(columns="n_censored").reset_index(), "samples": self.samples}

    @property
    def brief(self) -> Mapping[str, pd.DataFrame]:
        """MRD/σ² and half the trace, sample by sample."""
        table = {
            "sample": self.samples["sample_id"],
            "MRD/σ²": number_cells(self.samples["mrd"], ".3g"),
            "half the trace": number_cells(self.samples["half_trace"], ".3g"),
            "ratio": number_cells(self.samples["ratio"], ".2f"),
        }
        return {"By sample": pd.DataFrame(table)} if len(self.samples) else {}


def theorem(measurements: Measurements) -> Theorem:
    """Judge what a theorem experiment has measured so far; a sample counts once it has both estimates."""
    samples = _samples(measurements)
    fitted = slope(samples["half_trace"], samples["mrd"])
    rho = spearman(samples["half_trace"], samples["mrd"], np.zeros(len(samples), dtype=bool))
    correlated = f"Rank correlation of MRD/σ² and half the trace over samples: {in_figures(rho)}."
    squares = float((samples["half_trace"] ** 2).sum())
    attenuation = float((samples["half_trace_se"] ** 2).sum()) / squares if squares > 0 else np.nan
    return Theorem(
        verdict=_verdict(fitted.through_origin),
        findings=(correlated,) if np.isfinite(rho.low) else (),
        caveats=tuple(_caveats(samples, attenuation, measurements)),
        paper=PAPER,
        elsewhere=elsewhere.TRACE,
        samples=samples,
        slope=fitted,
        correlation=rho,
        attenuation=attenuation,
    )


def _samples(measurements: Measurements) -> pd.DataFrame:
    rows = measurements.part(TRACE)
    traces, changes = _estimated(rows), _estimated(measurements.part(MRD))
    both = traces.add_suffix("_trace").join(changes.add_suffix("_mrd"), how="inner")
    tokens = rows.groupby("sample_id", sort=False)["n_tokens"].first()
    half = both["mean_trace"].abs() / 2
    return pd.DataFrame(
        {
            "n_tokens": tokens.reindex(both.index),
            "half_trace": half,
            "half_trace_se": both["se_trace"] / 2,
            "mrd": both["mean_mrd"].abs(),
            "mrd_se": both["se_mrd"],
            "ratio": both["mean_mrd"].abs() / half.where(half > 0),
            # E[r]/σ² is minus half the trace.
            "same_sign": np.sign(both["mean_mrd"]) == -np.sign(both["mean_trace"]),
            "probes": both["n_trace"],
            "pairs": both["n_mrd"],
        }
    ).reset_index()


def _estimated(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard error and number of the values of each sample."""
    each = rows.dropna(subset=["value"]).groupby("sample_id", sort=False)["value"]
    return pd.DataFrame({"mean": each.mean(), "se": each.sem(), "n": each.size()})


def _verdict(line: Estimate) -> str:
    if not line.n:
        return NOTHING_YET
    if not np.isfinite(line.low):
        return f"It cannot be told whether the theorem holds: n = {line.n}."
    figures = in_figures(line, "slope", digits=3)
    if line.low <= 1 <= line.high:
        if max(1 - line.low, line.high - 1) > NEAR:
            return f"MRD/σ² may be half the trace, but the interval is wide: {figures}; 1 is expected."
        return f"MRD/σ² is half the trace, as the theorem says: {figures}; 1 is expected."
    side = "less" if line.high < 1 else "more"
    return f"MRD/σ² is {side} than half the trace: {figures}; 1 is expected."


def _caveats(samples: pd.DataFrame, attenuation: float, measurements: Measurements) -> list[str]:
    assert isinstance(measurements.config, TheoremConfig)
    caveats = shared_caveats(measurements) + small_n(len(samples), "samples")
    caveats.append("Hessian-vector products are for small models only; nothing is shown for larger ones.")
    if attenuation > 0.01:
        caveats.append(f"Noise of the probes pulls the slope down by about {attenuation:.0%}.")
    if opposite := int((~samples["same_sign"].astype(bool)).sum()):
        caveats.append(
            f"In {opposite} of {len(samples)} samples the signs of the two estimates differ: they are noise."
        )
    if noisy := int((samples["mrd_se"] > 0.3 * samples["mrd"]).sum()):
        caveats.append(f"In {noisy} of {len(samples)} samples the standard error of MRD is above 30 %.")
    return caveats


INTERPRETATION = Interpretation(
    title="Theorem 3.2",
    question="Is MRD/σ² what Theorem 3.2 says, half the trace of the Hessian?",
    procedure="On a few samples the trace is estimated by Hutchinson’s method, in double precision. Small models "
    "only.",
    evidence=theorem,
)
