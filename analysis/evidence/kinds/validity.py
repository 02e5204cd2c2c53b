"""Predictive validity (Fig. 4): does difficulty say how many updates it takes to forget a sample alone?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import elsewhere
from analysis.evidence import prediction
from analysis.evidence.brief import number_cells
from analysis.evidence.collateral import Collateral, collateral_of, with_entanglement
from analysis.evidence.headlines import Headline, arm_rows, headline, unknown_because
from analysis.evidence.interpretation import Evidence, Interpretation
from analysis.evidence.league import CHEAP, LENGTH, League, league_of, short_title, title
from analysis.evidence.measurements import (
    NOTHING_YET,
    Measurements,
    ended_badly,
    in_words,
    learning_rates,
    noise,
    shared_caveats,
    small_n,
    stacked,
)
from analysis.evidence.reasons import FIGURES, earlier_stops, relations
from analysis.evidence.updates import Spread, mean_rank, per_sample, repeats, spread
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.censored import Agreement, agreement, repeatability
from analysis.statistics.wording import Outcome, in_figures, is_flat, with_ends
from mrd_core.errors import UserError
from mrd_core.experiments.kinds.validity import UNLEARNING, ValidityConfig

PAPER = (
    "The paper (Fig. 4, ten samples, three repeats) finds that the smaller the MRD of a sample is, the more "
    "updates every method needs to forget it."
)
ALL_ARMS = "All arms"
AIM = 0.8
# Measures that the brief names, those of MRD and length apart.
FIRST = 5

_PREDICTIONS = ["sample_id", "updates", "low", "high"]
_PREDICTED: Mapping[Outcome, str] = {
    "predicts updates as expected": "MRD predicts updates as expected",
    "predicts the opposite": "MRD predicts the opposite",
}
_FLAT = "MRD does not predict updates, or weakly at most,"
_UNKNOWN = "it cannot be told whether MRD predicts updates"


@dataclass(frozen=True, eq=False)
class ArmEvidence:
    """What a method with an optimiser shows.

    Attributes:
        name: Such as NPO (AdamW).
        headline: What it says of MRD, in one line.
        verdict: The same as a sentence of its own.
        findings: MRD against length and with length held; the best measure; the cheap measures combined.
        learning_rate: Of its unlearnings.
        samples: A row per sample that was unlearned: sample_id, updates (median over repeats), censored, repeats,
            least, greatest, predicted, low, high (90 %; by a combination of cheap measures that did not see the
            sample; NaN without one), and the columns of `MEASURES` and of imported measures.
        spread: How its updates vary.
        league: Every measure against updates.
        predictions: A row per sample that was not unlearned: sample_id, updates, low, high (90 %).
        pilot_sizes: See `analysis.evidence.prediction.pilot_sizes`.
        stops: A row per stop condition and measure: threshold (of MA), measure, rho, low, high, n, n_censored.
        why: A row per relation of MRD, length and updates: measure, relation, rho, low, high, n, n_censored.
        repeatability: Reliability of the updates over repeats; NaN without repeats.
        collateral: What predicts the loss of the retain set; empty where it was not looked at.
    """

    name: str
    headline: Headline
    verdict: str
    findings: tuple[str, ...]
    learning_rate: float
    samples: pd.DataFrame
    spread: Spread
    league: League
    predictions: pd.DataFrame
    pilot_sizes: pd.DataFrame
    stops: pd.DataFrame
    why: pd.DataFrame
    repeatability: Estimate
    collateral: Collateral


@dataclass(frozen=True, eq=False, kw_only=True)
class Validity(Evidence):
    """What all arms show.

    Attributes:
        arms: In the order of the configuration; those that have been measured.
        all_arms: Every measure against the mean over arms of the rank of updates; None for a single arm.
        agreement: How alike the arms order the samples.
        mrd_column: Which MRD the verdicts are about.
    """

    arms: tuple[ArmEvidence, ...]
    all_arms: League | None
    agreement: Agreement
    mrd_column: str

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every frame by its name; those of the arms with a column `arm`."""
        headlines = [
            {"arm": arm.name, "measure": arm.headline.measure, "outcome": arm.headline.outcome}
            | dict(zip(FIGURES, arm.headline.estimate, strict=True))
            | {f"updates_{name}": value for name, value in arm.spread._asdict().items() if name[0] != "n"}
            | {"learning_rate": arm.learning_rate, "repeatability": arm.repeatability.value}
            | {"mrd_adds": arm.league.mrd_adds.value, "text": arm.headline.text, "verdict": arm.verdict}
            | {"findings": " ".join(arm.findings)}
            for arm in self.arms
        ]
        leagues = {arm.name: arm.league.table for arm in self.arms}
        if self.all_arms is not None:
            leagues[ALL_ARMS] = self.all_arms.table
        of_arms = {"updates": "samples"} | {name: name for name in ("predictions", "pilot_sizes", "stops", "why")}
        return {
            "headlines": pd.DataFrame(headlines),
            "league": stacked(leagues, "arm"),
            **{
                name: stacked({arm.name: getattr(arm, attribute) for arm in self.arms}, "arm")
                for name, attribute in of_arms.items()
            },
            "agreement": self.agreement.pairs,
            **self._collateral,
        }

    @property
    def _collateral(self) -> dict[str, pd.DataFrame]:
        """Tables on the loss of the retain set, where it was looked at."""
        looked = {arm.name: arm.collateral for arm in self.arms if len(arm.collateral.table)}
        if not looked:
            return {}
        return {
            "collateral": stacked({name: arm.table for name, arm in looked.items()}, "arm"),
            "retain_losses": stacked({name: arm.samples for name, arm in looked.items()}, "arm"),
        }

    @property
    def brief(self) -> Mapping[str, pd.DataFrame]:
        """Of each arm the measures that predict updates best, MRD, length and imported ones always among them."""
        tables = {}
        for arm in self.arms:
            table = arm.league.table
            place = pd.Series(range(1, len(table) + 1), index=table.index)
            always = table["measure"].isin([self.mrd_column, LENGTH]) | (table["family"] == "imported")
            chosen = table[(place <= FIRST) | always]
            cells = {
                "measure": place[chosen.index].astype(str) + ". " + chosen["measure"].map(short_title),
                "ρ with updates": in_words(chosen, "rho"),
                "length held": in_words(chosen, "partial", "partial_"),
                "forward passes": number_cells(chosen["cost"], "g"),
            }
            if len(table):
                title = f"{arm.name}: the {FIRST} best measures, MRD and length"
                tables[title] = pd.DataFrame(cells)
            if len(losses := arm.collateral.table):
                tables[f"{arm.name}: what predicts the loss of the retain set"] = pd.DataFrame(
                    {
                        "measure": losses["measure"].map(short_title),
                        "ρ with the rise of its NLL": in_words(losses, "rho"),
                        "length held": in_words(losses, "partial", "partial_"),
                    }
                )
        return tables


def validity(measurements: Measurements) -> Validity:
    """Judge what a validity experiment has measured so far."""
    measurements = with_entanglement(measurements)
    arms = tuple(_arm(name, rows, measurements) for name, rows in arm_rows(measurements).items())
    # A row per sample and a column per arm.
    by_sample = {arm.name: arm.samples.set_index("sample_id") for arm in arms}
    updates = pd.DataFrame({name: table["updates"] for name, table in by_sample.items()}, dtype=np.float64)
    censored = pd.DataFrame({name: table["censored"] for name, table in by_sample.items()}).eq(True)
    all_arms = None
    if len(arms) > 1:
        ranks = mean_rank(updates, censored).rename("updates").rename_axis("sample_id").reset_index()
        ranked = ranks.assign(censored=False).merge(measurements.samples, on="sample_id")
        all_arms = league_of(ranked, measurements.draws, measurements.imported)
    return Validity(
        verdict=_verdict(arms),
        # Of several arms the verdict of each, whose own findings are with it.
        findings=arms[0].findings
        if len(arms) == 1
        else (
            *(arm.verdict for arm in arms),
            *(f"{arm.name}: {'. '.join(arm.collateral.findings[:2])}." for arm in arms if arm.collateral.findings),
        ),
        caveats=tuple(_caveats(arms, measurements)),
        paper=PAPER,
        elsewhere=elsewhere.UPDATES,
        arms=arms,
        all_arms=all_arms,
        agreement=agreement(updates, censored),
        mrd_column=measurements.mrd_column,
    )


def _arm(name: str, rows: pd.DataFrame, measurements: Measurements) -> ArmEvidence:
    outcomes = per_sample(rows)
    measured = outcomes.merge(measurements.samples, on="sample_id").drop(columns=["prompt", "answer"])
    ranked = league_of(measured, measurements.draws, measurements.imported)
    line = headline(name, rows, outcomes, measurements)
    updates = spread(rows, outcomes)
    verdict, findings = _judged(line, updates, ranked)
    collateral = collateral_of(rows, measurements)
    return ArmEvidence(
        name=name,
        headline=line,
        verdict=verdict,
        findings=(*findings, *(f"{sentence}." for sentence in collateral.findings)),
        learning_rate=float(rows["learning_rate"].iloc[0]),
        samples=_with_predictions(measured, ranked),
        spread=updates,
        league=ranked,
        predictions=_predictions(measured, ranked, measurements),
        pilot_sizes=prediction.pilot_sizes(measured[list(ranked.cheap)], measured["updates"], measured["censored"])
        if CHEAP in ranked.combined
        else pd.DataFrame(columns=["pilot", "rho", "low", "high", "n", "pilots"]),
        stops=earlier_stops(rows, measurements),
        why=relations(measured, measurements.mrd_column),
        repeatability=repeatability(*repeats(rows)),
        collateral=collateral,
    )


def _with_predictions(measured: pd.DataFrame, ranked: League) -> pd.DataFrame:
    predicted = np.full(len(measured), np.nan)
    limits = pd.DataFrame({"low": predicted, "high": predicted})
    if CHEAP in ranked.combined:
        predicted = ranked.combined[CHEAP].predictions
        limits = prediction.intervals(predicted, measured["updates"], measured["censored"])
    table = measured.copy()
    at = list(table).index("greatest") + 1
    for offset, (name, values) in enumerate({"predicted": predicted, **limits}.items()):
        table.insert(at + offset, str(name), np.asarray(values))
    return table


def _predictions(measured: pd.DataFrame, ranked: League, measurements: Measurements) -> pd.DataFrame:
    """Return the predicted updates of the samples that were not unlearned, by the cheap measures."""
    samples, unlearned = measurements.samples, measurements.part(UNLEARNING)["sample_id"]
    others = samples[~samples["sample_id"].isin(unlearned)].set_index("sample_id")
    if len(others) and CHEAP in ranked.combined:
        pilot = measured[list(ranked.cheap)], measured["updates"], measured["censored"]
        with suppress(UserError):
            return prediction.predict(*pilot, others[list(ranked.cheap)]).reset_index()[_PREDICTIONS]
    return pd.DataFrame(columns=_PREDICTIONS)


def _verdict(arms: tuple[ArmEvidence, ...]) -> str:
    if len(arms) < 2:
        return arms[0].verdict if arms else NOTHING_YET
    by_answer: dict[str, list[str]] = {answer: [] for answer in (*_PREDICTED.values(), _FLAT, _UNKNOWN)}
    for arm in arms:
        answer = _FLAT if is_flat(arm.headline.estimate) else _PREDICTED.get(arm.headline.outcome, _UNKNOWN)
        by_answer[answer].append(arm.name)
    parts = [
        f"{answer} in {len(names)} of {len(arms)} arms ({', '.join(names)})"
        for answer, names in by_answer.items()
        if names
    ]
    better = [arm.name for arm in arms if arm.league.gain(arm.headline.measure).low > 0]
    counted = "; ".join(parts)
    where = f"in {len(better)} of them ({', '.join(better)})" if better else "in none of them"
    return f"{counted[0].upper()}{counted[1:]}. MRD predicts better than length {where}."


def _judged(line: Headline, updates: Spread, ranked: League) -> tuple[str, tuple[str, ...]]:
    """Return the verdict on an arm, and its findings: MRD against length, then what predicts best."""
    rho = line.estimate
    if reason := unknown_because(updates, rho):
        return f"{line.arm}: it cannot be told what predicts updates: {reason}.", ()
    if rho.excludes_zero and rho.value < 0:
        answer = "MRD predicts updates as expected, small MRD going with many"
    elif rho.excludes_zero:
        answer = "MRD predicts the opposite of what is expected, small MRD going with few updates"
    elif is_flat(rho):
        answer = "MRD does not predict updates, or weakly at most"
    else:
        answer = "it cannot be told whether MRD predicts updates: the interval includes 0"
    against = _against_length(ranked, line.measure) if rho.excludes_zero else []
    findings = tuple(f"{sentence}." for sentence in (*against, *_of_others(ranked)))
    return f"{line.arm}: {answer} ({in_figures(rho)}).", findings


def _against_length(ranked: League, measure: str) -> list[str]:
    ahead, held = ranked.gain(measure), ranked.partial(measure)
    if not np.isfinite(ahead.low):
        return ["MRD cannot be held against length, since that does not vary"]
    compared = (
        "better than length"
        if ahead.low > 0
        else "worse than length"
        if ahead.high < 0
        else "no better than length, as far as can be told"
    )
    figures = f"{with_ends(ahead, 'Δ|ρ|')}; length has {with_ends(ranked.rho(LENGTH))}"
    sentences = [f"MRD predicts updates {compared} ({figures})"]
    if np.isfinite(held.low):
        left = "something" if held.excludes_zero else "nothing certain"
        sentences.append(f"With length held, {left} is left of the relation ({with_ends(held)})")
    return sentences


def _of_others(ranked: League) -> list[str]:
    alone = ranked.table[ranked.table["family"] != "combination"].dropna(subset=["rho"])
    sentences = []
    if len(alone):
        best = str(alone["measure"].iloc[0])
        sentences.append(f"Of {len(alone)} measures {title(best)} comes first ({in_figures(ranked.rho(best))})")
    if CHEAP in ranked.combined:
        rho = ranked.combined[CHEAP].held_out
        aim = "at least" if rho.value >= AIM else "below"
        sentences.append(
            f"The cheap measures combined predict samples not seen with {in_figures(rho)}, {aim} the {AIM:g} "
            "aimed for"
        )
    if np.isfinite(ranked.mrd_adds.low):
        sentences.append(f"MRD adds {with_ends(ranked.mrd_adds, 'Δρ')} to them")
    return sentences


def _caveats(arms: tuple[ArmEvidence, ...], measurements: Measurements) -> list[str]:
    assert isinstance(measurements.config, ValidityConfig)
    caveats = shared_caveats(measurements) + noise(measurements)
    rows = measurements.part(UNLEARNING)
    nothing = rows.loc[rows["forgotten"] & (rows["updates"] == 0), "sample_id"].nunique()
    if nothing:
        caveats.append(
            f"{nothing} of {rows['sample_id'].nunique()} samples were forgotten before the first update. They "
            "have nothing to forget and are left out of every figure, unless all of an arm are such."
        )
    if measurements.broken:
        files = ", ".join(f"{name}.json" for name in measurements.broken)
        caveats.append(f"Imported columns that cannot be read take no part: {files}.")
    if not arms:
        return caveats
    rates = pd.DataFrame({"arm": [arm.name for arm in arms], "learning_rate": [arm.learning_rate for arm in arms]})
    caveats += learning_rates(measurements, rates) + small_n(min(arm.spread.n for arm in arms), "samples")
    for arm in arms:
        caveats += _caveats_of(arm, measurements.config)
    caveats.append(
        "The table compares many measures on the same samples: the first place is flattered by the choice among "
        "so many."
    )
    if measurements.samples[["gradient_norm", "gradient_norm_sum"]].isna().all(axis=None):
        caveats.append("Gradient norms were not measured and take no part.")
    return caveats


def _caveats_of(arm: ArmEvidence, config: ValidityConfig) -> list[str]:
    counts = arm.spread
    caveats = ended_badly(arm.name, counts.n_censored, counts.diverged, counts.n, "samples", config.max_updates)
    if counts.n and not counts.varies:
        caveats.append(
            f"{arm.name}: updates hardly vary ({counts.distinct} different outcomes from {counts.least:g} to "
            f"{counts.greatest:g}), so that there is little to predict."
        )
    if arm.samples["repeats"].max() == 1 and config.is_random(arm.headline.method):
        caveats.append(f"{arm.name}: each sample was unlearned once, so chance in its updates is not known.")
    elif np.isfinite(arm.repeatability.value):
        ceiling = np.sqrt(min(arm.repeatability.value, 1.0))
        caveats.append(
            f"{arm.name}: over repeats the updates have reliability {arm.repeatability.value:.2f}; no measure can "
            f"be expected above |ρ| = {ceiling:.2f}."
        )
    return caveats


INTERPRETATION = Interpretation(
    title="Predictive validity",
    question="Does difficulty say how many updates it takes to forget a sample?",
    procedure="Each of n samples, drawn at random, is unlearned alone from the same starting weights with the "
    "same settings, until the model no longer knows it by heart; its updates are counted.",
    evidence=validity,
)
