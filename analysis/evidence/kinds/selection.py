"""Selection bias (Fig. 2): does the choice of the forget samples change which method looks best?"""

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
    ended_badly,
    learning_rates,
    shared_caveats,
    stacked,
)
from analysis.statistics.flips import Balance, Flips, balance, flips
from mrd_core.experiments.kinds.selection import SELECTION, SelectionConfig

PAPER = (
    "The paper (Fig. 2, five random selections) finds that results move with the samples chosen, so much that the "
    "order of two methods can flip."
)
METRICS = {
    "updates": "Updates",
    "retain_accuracy": "Retain MA",
    "retain_nll": "Retain NLL [nats per token]",
    "forget_nll": "Forget NLL [nats per token]",
}
SIZES = {"single": "single samples", "group": "groups"}
RANDOM, BALANCED = "random", "balanced"

_CASE = ("size", "metric", "scheme")
_RUN_COLUMNS = [
    *("arm", "scheme", "size", "selection", "samples", "mean_mrd", "updates", "censored"),
    *("forget_accuracy", "forget_nll", "retain_accuracy", "retain_nll"),
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection(Evidence):
    """How much the choice moves each method, and how often it changes their order.

    Attributes:
        pairs: A row per size, metric, scheme and two methods: see `analysis.statistics.flips.Flips.pairs`.
        spread: A row per size, metric, scheme and method: see `Flips.spread`.
        balanced_pairs: A row per size, metric and two methods: see `Balance.pairs`.
        balanced_spread: A row per size, metric and method: see `Balance.spread`.
        runs: A row per run: arm, scheme (random or balanced), size (single or group), selection, samples,
            mean_mrd, updates, censored, forget_accuracy, forget_nll, retain_accuracy, retain_nll. Diverged ones
            are left out.
    """

    pairs: pd.DataFrame
    spread: pd.DataFrame
    balanced_pairs: pd.DataFrame
    balanced_spread: pd.DataFrame
    runs: pd.DataFrame

    @property
    def metrics(self) -> tuple[str, ...]:
        """What was measured; retain metrics need a retain set."""
        return tuple(name for name in METRICS if self.runs[name].notna().any())

    @property
    def brief(self) -> Mapping[str, pd.DataFrame]:
        """Mean and spread of each method over selections."""
        spread = self.spread
        if spread.empty:
            return {}
        table = {
            "performance": spread["size"] + ", " + spread["metric"].map(METRICS) + ", " + spread["method"],
            "selections": spread["scheme"],
            "mean": number_cells(spread["mean"], ".3g"),
            "SD": number_cells(spread["sd"], ".2g"),
        }
        return {"Over selections": pd.DataFrame(table)}


def selection(measurements: Measurements) -> Selection:
    """Judge what a selection experiment has measured so far."""
    rows = measurements.part(SELECTION)
    runs = (
        rows[~rows["diverged"]]
        .assign(
            size=lambda kept: np.where(kept["size"] == 1, "single", "group"),
            samples=lambda kept: [len(ids) for ids in kept["sample_ids"]],
            censored=lambda kept: ~kept["forgotten"],
        )[_RUN_COLUMNS]
        .reset_index(drop=True)
    )
    cases = _cases(runs)
    compared = {
        (size, metric): balance(cases[size, metric, RANDOM], cases[size, metric, BALANCED])
        for size, metric, scheme in cases
        if scheme == RANDOM and (size, metric, BALANCED) in cases
    }
    pairs = _flat({case: flipped.pairs for case, flipped in cases.items()})
    random = pairs[(pairs["scheme"] == RANDOM) & (pairs["n"] > 0)] if len(pairs) else pairs
    return Selection(
        verdict=_verdict(random) if len(runs) else NOTHING_YET,
        findings=tuple(_findings(random, compared)) if len(random) else (),
        caveats=tuple(_caveats(rows, runs, measurements)),
        paper=PAPER,
        elsewhere=elsewhere.SELECTIONS,
        pairs=pairs,
        spread=_flat({case: flipped.spread for case, flipped in cases.items()}),
        balanced_pairs=_flat({case: each.pairs for case, each in compared.items()}),
        balanced_spread=_flat({case: each.spread for case, each in compared.items()}),
        runs=runs,
    )


def _cases(runs: pd.DataFrame) -> dict[tuple[str, str, str], Flips]:
    """Return the flips of each size, metric and scheme that were measured."""
    cases = {}
    for size, metric, scheme in product(SIZES, METRICS, (RANDOM, BALANCED)):
        measured = runs[(runs["size"] == size) & (runs["scheme"] == scheme)].dropna(subset=[metric])
        if len(measured):
            each = measured.drop_duplicates(["selection", "arm"])
            wide = each.pivot(index="selection", columns="arm", values=metric)
            # Methods in the order in which they first appear.
            cases[size, metric, scheme] = flips(wide[list(dict.fromkeys(measured["arm"]))])
    return cases


def _flat(frames: Mapping[tuple[str, ...], pd.DataFrame]) -> pd.DataFrame:
    """Return frames below one another, their case in the first columns."""
    named = {
        " ".join(case): frame.assign(**dict(zip(_CASE, case, strict=False))) for case, frame in frames.items()
    }
    table = stacked(named, "case").drop(columns="case")
    first = [name for name in _CASE if name in table]
    return table[[*first, *(name for name in table if name not in first)]]


def _verdict(random: pd.DataFrame) -> str:
    """Say in how many comparisons over random selections two methods change their order."""
    if random.empty:
        return "It cannot be told whether the order of methods flips: no selection was run with two of them."
    flipped = int((random["flips"] > 0).sum())
    if not flipped:
        most = int(random["n"].max())
        return f"In {most} random selections the choice never changed which of two methods looks better."
    return (
        f"The choice of samples changes which of two methods looks better in {flipped} of {len(random)} "
        "comparisons (of a metric, a size and two methods) over random selections."
    )


def _findings(random: pd.DataFrame, compared: Mapping[tuple[str, str], Balance]) -> Iterator[str]:
    """Say how often each pair of methods changes its order over random selections, and what balancing does."""
    for (metric, heading), (size, words) in product(METRICS.items(), SIZES.items()):
        parts = [
            f"in {row.flips} of {row.n} selections, {row.share:.0%} [{row.low:.0%}, {row.high:.0%}] "
            f"({row.first} against {row.second})"
            for row in random[(random["metric"] == metric) & (random["size"] == size)].itertuples()
        ]
        if parts:
            yield f"{heading.split(' [')[0]}, {words}: the order flips {'; '.join(parts)}."
    if not compared:
        return
    spread = pd.concat([each.spread for each in compared.values()])
    smaller, larger = int((spread["high"] < 1).sum()), int((spread["low"] > 1).sum())
    yield (
        f"Balanced by difficulty, the spread over selections is smaller in {smaller} of "
        f"{spread['ratio'].notna().sum()} comparisons (of a metric, a size and a method) and larger in {larger}, "
        "as far as 95 % intervals that are not corrected for their number can tell."
    )
    flipped = pd.concat([each.pairs for each in compared.values()])
    change = flipped["share_balanced"] - flipped["share_random"]
    fewer, more, sure = (change < 0).sum(), (change > 0).sum(), (flipped["p"] < 0.05).sum()
    yield (
        f"Balanced by difficulty, flips are fewer in {fewer} of {len(flipped)} comparisons and more in {more}; "
        f"beyond chance (p < 0.05, uncorrected) in {sure}."
    )


def _caveats(rows: pd.DataFrame, runs: pd.DataFrame, measurements: Measurements) -> list[str]:
    assert isinstance(measurements.config, SelectionConfig)
    caveats = shared_caveats(measurements) + learning_rates(measurements, rows)
    if len(runs):
        count = int(runs.groupby(["size", "scheme"])["selection"].nunique().min())
        caveats.append(f"{count} selections of a kind: shares and spreads of so few have wide intervals.")
    for arm, of_arm in rows.groupby("arm", sort=False):
        kept = runs[runs["arm"] == arm]
        counts = int(kept["censored"].sum()), int(of_arm["diverged"].sum()), len(kept)
        caveats += ended_badly(str(arm), *counts, "runs", measurements.config.max_updates)
    if runs["censored"].any():
        caveats.append("Updates of a censored run count as the cap, which makes their spread smaller than it is.")
    if len(runs) and runs["retain_accuracy"].isna().all():
        caveats.append("Without a retain set it is not known what the methods cost.")
    return caveats


INTERPRETATION = Interpretation(
    title="Selection bias",
    question="Does the choice of the forget samples change which method looks best?",
    procedure="Methods unlearn the same random selections, single samples and groups, and then selections that "
    "are balanced by difficulty.",
    evidence=selection,
)
