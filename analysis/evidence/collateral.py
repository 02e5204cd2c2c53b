"""Who pays: the loss of the retain set after each lone unlearning, against what gradients foretell of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.evidence.league import LENGTH, title
from analysis.evidence.measurements import Measurements, estimate_at
from analysis.statistics.bootstrap import UNDEFINED, Estimate, mean_estimate
from analysis.statistics.censored import partial, spearman
from analysis.statistics.wording import in_figures, with_ends
from mrd_core.arrays import FloatArray, ratio
from mrd_core.experiments.kinds.validity import ENTANGLEMENT, RETAIN
from mrd_core.scoring.measures import ENTANGLEMENT_MEASURES

PREDICTION = "entanglement"
RIVALS = ("gradient_norm", "fisher_norm", "nll", LENGTH)
_COLUMNS = ["measure", "title", "rho", "low", "high", "n", "partial", "partial_low", "partial_high"]


@dataclass(frozen=True, eq=False)
class Collateral:
    """What an arm shows of the loss of the retain set.

    Attributes:
        samples: A row per sample: sample_id, rise (of the mean NLL of the retain samples [nats per token], mean
            over repeats), nearest (ids of retain samples).
        table: What predicts the rise, best first: measure, title, rho, low, high, n, partial, partial_low,
            partial_high (length held).
        rows: Spearman's ρ over the retain samples of g_i·g_r with the change of r, mean over samples.
        own: The same of ranks less their means over samples: without what all samples do to a retain sample.
    """

    samples: pd.DataFrame
    table: pd.DataFrame
    rows: Estimate
    own: Estimate

    @property
    def findings(self) -> tuple[str, ...]:
        """Whether entanglement predicts what the retain set loses, which of it pays, and what predicts best."""
        if self.table.empty:
            return ()
        rho = self.rho(PREDICTION)
        if not np.isfinite(rho.low):
            return ("It cannot be told what predicts the loss of the retain set: too few samples, or no change",)
        answer = (
            "Entanglement predicts the loss of the retain set as expected"
            if rho.low > 0
            else "Entanglement predicts the opposite of the loss of the retain set"
            if rho.high < 0
            else "It cannot be told whether entanglement predicts the loss of the retain set"
        )
        best = str(self.table["measure"].iloc[0])
        pays = []
        if np.isfinite(self.rows.low):
            pays = [
                f"Which retain samples pay is predicted with {with_ends(self.rows, 'mean ρ')}; without what all "
                f"samples have in common, {with_ends(self.own, 'mean ρ')}"
            ]
        first = (
            f"Of {len(self.table)} measures of the loss {title(best)} comes first ({with_ends(self.rho(best))})"
        )
        return (f"{answer} ({in_figures(rho)})", *pays, first)

    def rho(self, measure: str) -> Estimate:
        """Return Spearman's ρ of a measure with the rise."""
        return estimate_at(self.table[self.table["measure"] == measure].iloc[0])


NOTHING = Collateral(
    pd.DataFrame(columns=["sample_id", "rise", "nearest"]), pd.DataFrame(columns=_COLUMNS), UNDEFINED, UNDEFINED
)


def with_entanglement(measurements: Measurements) -> Measurements:
    """Put the entanglement of the samples beside their other measures, as far as it was measured."""
    foretold = measurements.part(ENTANGLEMENT).set_index("sample_id")
    columns = {name: measurements.samples["sample_id"].map(foretold[name]) for name in ENTANGLEMENT_MEASURES}
    return replace(measurements, samples=measurements.samples.assign(**columns))


def collateral_of(rows: pd.DataFrame, measurements: Measurements) -> Collateral:
    """Judge an arm by its unlearnings; nothing where the retain set was not looked at.

    Args:
        rows: Of the arm, with `retain_nll`.
        measurements: The experiment.
    """
    foretold, changes = changes_of(rows, measurements)
    if changes.empty:
        return NOTHING
    samples = changes.mean(axis=1).rename("rise").reset_index()
    return Collateral(
        samples.assign(nearest=list(foretold["nearest"].map(", ".join))),
        _league(samples.merge(measurements.samples, on="sample_id"), measurements.mrd_column),
        *who_pays(np.stack(list(foretold["products"])).astype(np.float64), changes.to_numpy()),
    )


def changes_of(rows: pd.DataFrame, measurements: Measurements) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what gradients foretell of each sample that an arm unlearned, and what each retain sample lost by it.

    Args:
        rows: Of the arm, with `retain_nll`.
        measurements: The experiment.

    Returns:
        Rows of `mrd_core.experiments.kinds.validity.ENTANGLEMENT`, and the rise of the NLL [nats per token], a
        column per retain sample, the mean over repeats; both by sample_id, without rows where the retain set was
        not looked at.
    """
    before = measurements.part(RETAIN)["nll"].to_numpy()
    foretold = measurements.part(ENTANGLEMENT).set_index("sample_id")
    looked = rows[rows["retain_nll"].map(lambda values: isinstance(values, list | np.ndarray))]
    looked = looked[looked["sample_id"].isin(foretold.index)]
    if looked.empty or not len(before):
        return foretold.iloc[:0], pd.DataFrame()
    each = pd.DataFrame(np.stack(list(looked["retain_nll"])) - before, index=looked["sample_id"])
    changes = each.groupby(level=0, sort=False).mean()
    return foretold.loc[changes.index], changes


def _league(measured: pd.DataFrame, mrd: str) -> pd.DataFrame:
    """Rank measures by how well they predict the column `rise`."""
    nothing = np.zeros(len(measured), dtype=bool)
    table = []
    for measure in (*ENTANGLEMENT_MEASURES, mrd, *RIVALS):
        if measured[measure].notna().any():
            rho = spearman(measured[measure], measured["rise"], nothing)
            held = UNDEFINED
            if measure != LENGTH:
                held = partial(measured[measure], measured["rise"], nothing, [measured[LENGTH]])
            own = rho.columns("rho") | {"n": rho.n} | held.columns("partial", "partial_")
            table.append({"measure": measure, "title": title(measure)} | own)
    ranked = pd.DataFrame(table, columns=_COLUMNS)
    order = ranked["rho"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    return ranked.loc[order].reset_index(drop=True)


def who_pays(products: FloatArray, changes: FloatArray) -> tuple[Estimate, Estimate]:
    """Return how well products rank the changes within a sample, (N, M) each: as they are, and their own part."""
    ranks = [pd.DataFrame(values).rank(axis=1).to_numpy() for values in (products, changes)]
    own = [values - values.mean(axis=0) for values in ranks]
    return _mean_correlation(*ranks), _mean_correlation(*own)


def _mean_correlation(some: FloatArray, others: FloatArray) -> Estimate:
    """Return the mean over rows of the correlation along each; rows that are constant are left out."""
    some, others = (values - values.mean(axis=1, keepdims=True) for values in (some, others))
    size = np.sqrt((some**2).sum(axis=1) * (others**2).sum(axis=1))
    return mean_estimate(ratio((some * others).sum(axis=1), size))
