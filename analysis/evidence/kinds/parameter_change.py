"""Parameter change (Fig. 3): how far does unlearning a composite of samples move the weights?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import elsewhere
from analysis.evidence.interpretation import Evidence, Interpretation
from analysis.evidence.league import LENGTH
from analysis.evidence.measurements import (
    NOTHING_YET,
    Measurements,
    ended_badly,
    estimate_at,
    in_words,
    learning_rates,
    noise,
    shared_caveats,
    small_n,
    stacked,
)
from analysis.statistics.bootstrap import UNDEFINED, Estimate
from analysis.statistics.censored import partial, spearman
from analysis.statistics.wording import in_figures
from mrd_core.experiments.kinds.parameter_change import COMPOSITE, ParameterChangeConfig

PAPER = (
    "The paper (Fig. 3, 300 composites of 40 samples) finds that unlearning moves the weights by very different "
    "amounts, and concludes that samples differ in how hard they are to unlearn."
)
PREDICTORS = {"mean_mrd": "Mean MRD", "mean_nll": "Mean NLL", "total_tokens": "Total tokens", "updates": "Updates"}
BINS = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class ParameterChange(Evidence):
    """How far the weights moved, and what goes with it.

    Attributes:
        correlations: A row per arm and predictor: arm, predictor, title, rho, low, high, n, n_censored, partial,
            partial_low, partial_high (total tokens held).
        spread: A row per arm: arm, n, n_censored, least, q1, median, q3, greatest, variation (SD / mean).
        distribution: A row per bin and arm: arm, low, high (of mean_absolute_change), composites.
        composites: A row per composite and arm: arm, composite, samples, joined, updates, censored,
            mean_absolute_change, mean_mrd, mean_nll, total_tokens (means over its samples, each as often as it
            was drawn).
    """

    correlations: pd.DataFrame
    spread: pd.DataFrame
    distribution: pd.DataFrame
    composites: pd.DataFrame

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that have been measured."""
        return tuple(self.spread["arm"])

    @property
    def brief(self) -> Mapping[str, pd.DataFrame]:
        """The correlations of the change with what may predict it."""
        correlations = self.correlations
        if correlations.empty:
            return {}
        table = {
            "mean absolute change with": correlations["arm"] + ", " + correlations["title"],
            "ρ": in_words(correlations, "rho"),
            "tokens held": in_words(correlations, "partial", "partial_"),
        }
        return {"Over composites": pd.DataFrame(table)}


def parameter_change(measurements: Measurements) -> ParameterChange:
    """Judge what a parameter-change experiment has measured so far."""
    rows = measurements.part(COMPOSITE)
    composites = _composites(rows[~rows["diverged"] & rows["mean_absolute_change"].notna()], measurements)
    correlations, spreads, bins, with_mrd = {}, [], {}, {}
    for arm, of_arm in composites.groupby("arm", sort=False):
        name, change = str(arm), of_arm["mean_absolute_change"].to_numpy(np.float64)
        correlations[name] = pd.DataFrame([_correlated(of_arm, predictor) for predictor in PREDICTORS])
        with_mrd[name] = correlations[name][correlations[name]["predictor"] == "mean_mrd"].iloc[0]
        variation = change.std(ddof=1) / change.mean() if len(change) > 1 and change.mean() > 0 else np.nan
        quartiles = np.quantile(change, [0, 0.25, 0.5, 0.75, 1])
        spreads.append((name, len(change), int(of_arm["censored"].sum()), *quartiles, variation))
        # About changes that are all the same NumPy puts bins from one half below, where there are none.
        within = (0, change.max() or 1) if change.min() == change.max() else None
        counts, edges = np.histogram(change, bins=BINS, range=within)
        bins[name] = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "composites": counts})
    spread = pd.DataFrame(spreads, columns=_SPREAD)
    return ParameterChange(
        verdict=" ".join(_verdict(arm, estimate_at(row)) for arm, row in with_mrd.items()) or NOTHING_YET,
        findings=tuple(_findings(spread, with_mrd)),
        caveats=tuple(_caveats(rows, composites, measurements)),
        paper=PAPER,
        elsewhere=elsewhere.CHANGE,
        correlations=stacked(correlations, "arm"),
        spread=spread,
        distribution=stacked(bins, "arm"),
        composites=composites,
    )


_SPREAD = ["arm", "n", "n_censored", "least", "q1", "median", "q3", "greatest", "variation"]


def _composites(rows: pd.DataFrame, measurements: Measurements) -> pd.DataFrame:
    samples = measurements.samples.set_index("sample_id")
    members = [samples.reindex(list(ids)) for ids in rows["sample_ids"]]
    return (
        rows[["arm", "composite", "joined", "updates", "mean_absolute_change"]]
        .assign(
            censored=~rows["forgotten"],
            samples=[len(ids) for ids in rows["sample_ids"]],
            mean_mrd=np.array([each[measurements.mrd_column].mean() for each in members], dtype=np.float64),
            mean_nll=np.array([each["nll"].mean() for each in members], dtype=np.float64),
            total_tokens=np.array([each[LENGTH].sum() for each in members], dtype=np.float64),
        )
        .reset_index(drop=True)
    )


def _correlated(composites: pd.DataFrame, predictor: str) -> dict[str, object]:
    """Return how a predictor goes with the change; of the two it is updates that may be censored."""
    change, x = composites["mean_absolute_change"], composites[predictor]
    outcome = (change, np.zeros(len(change), dtype=bool))
    if predictor == "updates":
        x, outcome = change, (composites["updates"], composites["censored"].to_numpy())
    rho = spearman(x, *outcome)
    held = UNDEFINED if predictor == "total_tokens" else partial(x, *outcome, [composites["total_tokens"]])
    row = {"predictor": predictor, "title": PREDICTORS[predictor], **rho.columns("rho")}
    return row | {"n": rho.n, "n_censored": rho.n_censored} | held.columns("partial", "partial_")


def _verdict(arm: str, rho: Estimate) -> str:
    """Say whether the change goes with mean MRD."""
    if not np.isfinite(rho.low):
        return f"{arm}: it cannot be told whether the change goes with MRD, from n = {rho.n}."
    if not rho.excludes_zero:
        return f"{arm}: it cannot be told whether the change goes with MRD ({in_figures(rho)}, which includes 0)."
    composites = "harder composites (smaller mean MRD)" if rho.value < 0 else "easier composites (larger mean MRD)"
    return f"{arm}: {composites} move the weights further ({in_figures(rho)})."


def _findings(spread: pd.DataFrame, with_mrd: Mapping[str, pd.Series[float]]) -> list[str]:
    """Say how much the change varies, and what is left of its relation to MRD with the tokens held."""
    sentences = []
    for _, row in spread.iterrows():
        arm = str(row["arm"])
        varies = f", with SD / mean = {row['variation']:.0%}" if np.isfinite(row["variation"]) else ""
        sentences.append(
            f"{arm}: the mean absolute change of a parameter is {row['least']:.3g} to {row['greatest']:.3g} over "
            f"{row['n']} composites{varies}."
        )
        held = estimate_at(with_mrd[arm], "partial", "partial_")
        if np.isfinite(held.low) and estimate_at(with_mrd[arm]).excludes_zero:
            left = "the relation to MRD remains" if held.excludes_zero else "nothing certain is left of it"
            sentences.append(f"{arm}: with the total tokens held, {left} ({in_figures(held)}).")
    return sentences


def _caveats(rows: pd.DataFrame, composites: pd.DataFrame, measurements: Measurements) -> list[str]:
    assert isinstance(measurements.config, ParameterChangeConfig)
    caveats = shared_caveats(measurements) + noise(measurements) + learning_rates(measurements, rows)
    for arm, of_arm in rows.groupby("arm", sort=False):
        kept = composites[composites["arm"] == arm]
        censored, diverged = int(kept["censored"].sum()), int(of_arm["diverged"].sum())
        cap = measurements.config.max_updates
        caveats += ended_badly(str(arm), censored, diverged, len(kept), "composites", cap)
        caveats += small_n(len(kept), "composites")
    batches = int((~composites["joined"]).sum())
    if batches:
        caveats.append(
            f"{batches} composites were unlearned as a batch and not as one text; the reasons of the run say why."
        )
    if len(composites) and len(measurements.samples) and measurements.config.size > len(measurements.samples) / 4:
        caveats.append(
            "Composites share many of their samples, so that they are more alike than those of a larger set."
        )
    return caveats


INTERPRETATION = Interpretation(
    title="Parameter change",
    question="Do harder samples move the weights further when they are unlearned?",
    procedure="Composites of samples, drawn with replacement, are unlearned, each from the same starting weights; "
    "how far the weights moved is measured.",
    evidence=parameter_change,
)
