"""What risk is left after unlearning: samples that are hard and still there, and those that come back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.audit.config import RiskConfig
from analysis.comparison.evaluated import read
from analysis.evidence.forecast import forecast
from analysis.evidence.kinds.durability import FORETOLD
from analysis.evidence.measurements import read_measurements
from analysis.evidence.returns import CONTROL, courses_of
from analysis.redaction import without_texts
from analysis.sets import unknown
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.runs.directory import read_config
from mrd_core.samples import ForgetSet
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.damage import Rest, in_words, rest
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.records import UnlearningSummary

ACCURACY, NLL, EXTRACTION = "accuracy", "nll", "extraction_strength"
BACK, PROBABILITY = "comes_back", "probability"
NOT_ATTACKED = "not attacked, or never gone"
TITLES = {ACCURACY: "MA", NLL: "NLL", EXTRACTION: "extraction strength"}


class Threshold(NamedTuple):
    """From where on a sample is still there.

    Attributes:
        column: What is measured of it after unlearning.
        value: The threshold itself is still there.
        at_most: Whether it is still there up to the threshold, and not from it on.
    """

    column: str
    value: float
    at_most: bool = False

    @property
    def in_words(self) -> str:
        """The rule, as `MA ≥ 0.5`."""
        return f"{TITLES[self.column]} {'≤' if self.at_most else '≥'} {self.value:.3g}"

    def reached(self, table: pd.DataFrame) -> pd.Series[bool]:
        """Return which samples are still there; those without a value are not."""
        values = table[self.column]
        return values <= self.value if self.at_most else values >= self.value


@dataclass(frozen=True, eq=False)
class Risk:
    """What is left after unlearning.

    Attributes:
        table: A row per sample, those at risk first and of each the hardest first: sample_id, mrd, hard, accuracy,
            nll and, with an evaluation, extraction_strength, all on the final weights, still_there (by which
            thresholds, "" by none), with a durability experiment comes_back (in which attacks that train, "" in
            none, missing for one that none found forgotten) and probability (of coming back, NaN where it is not
            foretold), at_risk, prompt, answer, own_answer_after.
        thresholds: By any of which a sample is still there.
        notes: What a reader must know, in sentences.
    """

    table: pd.DataFrame
    thresholds: tuple[Threshold, ...]
    notes: tuple[str, ...]

    def without_texts(self) -> Risk:
        """Return the same without the texts of the samples."""
        return replace(self, table=without_texts(self.table))

    @property
    def listed(self) -> pd.DataFrame:
        """The samples at risk."""
        return self.table[self.table["at_risk"]]

    @property
    def sentence(self) -> str:
        """How many are at risk, beside how many of the others are still there."""
        hard, there = self.table["hard"], self.table["still_there"] != ""
        rule = " or ".join(threshold.in_words for threshold in self.thresholds)
        counts = [int(side.sum()) for side in (hard & there, hard, ~hard & there, ~hard)]
        sentence = "{} of the {} hard samples are still there ({rule}), {} of the {} others.".format(
            *counts, rule=rule
        )
        if BACK in self.table:
            gone = self.table.loc[~there, BACK].dropna()
            sentence += (
                f" Of {len(gone)} that look forgotten, to the attacks too, {int((gone != '').sum())} came back."
            )
        return sentence


def risk_of(config: RiskConfig) -> Risk:
    """Return what risk is left after an unlearning run.

    Raises:
        UserError: The run is none or has not finished, the evaluation is of another model or lacks the measure, or
            a threshold has no measure.
    """
    read_config(config.run, UnlearnConfig)
    files = UnlearningFiles.finished(config.run)
    summary = UnlearningSummary.model_validate(files.read_summary())
    outcome = pd.read_parquet(files.outcome).rename(columns={"accuracy_after": ACCURACY, "nll_after": NLL})
    scores = pd.read_parquet(files.curriculum)[["sample_id", config.by]].rename(columns={config.by: "mrd"})
    texts = ForgetSet.load(files.samples).frame[["sample_id", "prompt", "answer"]]
    table = scores.merge(outcome[["sample_id", ACCURACY, NLL, "own_answer_after"]], on="sample_id")
    table = table.merge(texts, on="sample_id")
    if config.evaluation is not None:
        table[EXTRACTION] = table["sample_id"].map(_extraction(config.evaluation, config.run))
    thresholds = tuple(_thresholds(config, summary))
    ranks = table["mrd"].rank(method="first")
    table["hard"] = ranks <= max(1, round(config.hard * int(ranks.count())))
    reached = pd.DataFrame({each.in_words: each.reached(table) for each in thresholds})
    table["still_there"] = [", ".join(reached.columns[row]) for row in reached.to_numpy(np.bool_)]
    table["at_risk"] = table["hard"] & (table["still_there"] != "")
    if config.durability is not None:
        table = table.merge(_returning(config.durability, config.run), on="sample_id", how="left")
        table["at_risk"] |= table[BACK].fillna("") != ""
    table = table.sort_values(["at_risk", "mrd", "sample_id"], ascending=[False, True, True], ignore_index=True)
    names = ("sample_id", "mrd", "hard", ACCURACY, NLL, EXTRACTION, "still_there", BACK, PROBABILITY, "at_risk")
    order = [name for name in (*names, "prompt", "answer", "own_answer_after") if name in table]
    before = table["sample_id"].map(outcome.set_index("sample_id")["accuracy_before"])
    return Risk(table[order], thresholds, tuple(_notes(table, summary, before)))


def _thresholds(config: RiskConfig, summary: UnlearningSummary) -> Iterator[Threshold]:
    """Yield those that were set; without any that of the run."""
    if config.extraction is not None and config.evaluation is None:
        raise UserError(
            f"--extraction {config.extraction:g}",
            "is a threshold of what the run itself does not measure.",
            "Name an evaluation of the run with --evaluation, or use --accuracy or --nll.",
        )
    if config.accuracy is None and config.nll is None and config.extraction is None:
        yield Threshold(ACCURACY, summary.thresholds.accuracy)
    if config.accuracy is not None:
        yield Threshold(ACCURACY, config.accuracy)
    if config.nll is not None:
        yield Threshold(NLL, config.nll, at_most=True)
    if config.extraction is not None:
        yield Threshold(EXTRACTION, config.extraction)


def _extraction(evaluation: Path, run: Path) -> pd.Series[float]:
    """Return the extraction strength of each forget sample in an evaluation of a run."""
    of_run = read_config(evaluation, EvaluateConfig).unlearn_run
    if of_run is None or of_run.resolve() != run.resolve():
        raise UserError(
            f"--evaluation {evaluation}",
            f"is not of the result of this run, but of {of_run or 'a model that nothing was unlearned from'}.",
            f"Evaluate the run: mrd-lens evaluate --unlearned {run}",
        )
    evaluated = read(evaluation)
    values = evaluated.values
    strengths = values[(values["metric"] == EXTRACTION) & values["split"].isin(evaluated.splits("forget"))]
    if strengths.empty:
        raise UserError(
            f"--evaluation {evaluation}",
            "has no extraction strength of the forget set.",
            "Leave --evaluation out, and use --accuracy or --nll.",
        )
    # Of suites with several forget sets a sample may stand in two: the greater risk counts.
    return strengths.groupby("sample_id")["value"].max()


def _returning(durability: Path, run: Path) -> pd.DataFrame:
    """Return in which attacks each sample came back, and how probably it does: sample_id, and both columns.

    The probability is that of the first attack of `FORETOLD` that one could be told for.
    """
    measurements = read_measurements(durability)
    runs = getattr(measurements.config, "runs", ())
    if run.resolve() not in {each.resolve() for each in runs}:
        raise UserError(
            f"--durability {durability}",
            "did not attack the result of this run.",
            f"Attack it: mrd-lens experiment durability --run {run}",
        )
    model = next(each.name for each in runs if each.resolve() == run.resolve())
    courses = {each.attack: each for each in courses_of(measurements) if each.model == model}
    attacks = [attack for attack in FORETOLD if attack != CONTROL and attack in courses]
    back, gone = (
        pd.DataFrame({attack: courses[attack].table[name] for attack in attacks}).eq(True)
        for name in ("back", "at_risk")
    )
    # One that an attack trained on each time came back by none of it; one that none found forgotten cannot.
    table = back[gone.any(axis=1)]
    names = [", ".join(attack for attack in attacks if row[attack]) for _, row in table.iterrows()]
    foretold = (forecast(courses[attack], measurements).samples for attack in attacks)
    probability = next((samples for samples in foretold if len(samples)), None)
    returning = pd.DataFrame({"sample_id": table.index, BACK: names})
    if probability is None:
        return returning.assign(**{PROBABILITY: np.nan})
    return returning.merge(probability[["sample_id", PROBABILITY]], on="sample_id", how="outer")


def _notes(table: pd.DataFrame, summary: UnlearningSummary, before: pd.Series[float]) -> Iterator[str]:
    if told := unknown.caveat({"hard samples": before[table["hard"].to_numpy()]}):
        yield f"Before it was unlearned: {told[0].lower()}{told[1:]}"
    if lacking := int(table["mrd"].isna().sum()):
        yield f"{lacking} samples have no MRD, and count as not hard."
    if EXTRACTION in table and (lacking := int(table[EXTRACTION].isna().sum())):
        yield f"{lacking} samples have no extraction strength in the evaluation."
    if margin := summary.thresholds.margin:
        yield (
            f"The run counts a token as remembered only where it leads by more than {margin:g} logits; here MA "
            "counts every token that leads, so a sample that the run has not forgotten need not be listed."
        )
    if (extraction := summary.thresholds.extraction) is not None:
        yield (
            f"The run counts a sample as forgotten only where its extraction likelihood is below {extraction:g}, "
            "too, which is not looked at here: one that the run has not forgotten need not be listed."
        )
    if rest(summary) is not Rest.KEPT:
        yield in_words(summary)
    if BACK in table:
        yield "Those that came back did so under the attacks of one experiment; others may bring back more."
    else:
        yield "What is not listed may still come back, by relearning or by another way of asking."
