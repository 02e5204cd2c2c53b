"""How much of what was forgotten comes back while a model is trained on something else, look by look.

Over the repeats of an attack a sample counts by its mean, of those repeats that did not train on it. It is at risk
where its MA is below the threshold at the first look, and back where it is no longer so at the last. The retrained
reference goes through the same: what it relearns is learning and not remembering, so it is subtracted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import integrate

from analysis.difficulty import tercile
from analysis.evidence.measurements import Measurements
from analysis.statistics.bootstrap import UNDEFINED, Estimate, mean_estimate
from analysis.statistics.shares import difference, share
from analysis.statistics.survival import survival
from mrd_core.arrays import BoolArray, FloatArray
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import COURSE, KEPT, REFERENCE, RELEARNING, DurabilityConfig
from mrd_core.samples import ForgetSet
from mrd_core.unlearning.damage import LEAST_KEPT

ALL = "all"
CONTROL = "control"
MEASURED = ("accuracy", "nll", "extraction", "rouge")
# Decimals of a mean over repeats.
PLACES = 9


@dataclass(frozen=True, eq=False)
class Course:
    """What became of N samples of a model in an attack that trains, over L looks.

    Attributes:
        model: The unlearning run, by its id, or the reference.
        attack: What it was trained on.
        steps: After which it was looked at, shape (L,).
        values: By `MEASURED`, a row per sample under its id and a column per look; NaN where not measured.
        retained: Mean MA on the retain set at each look, mean over the repeats, shape (L,); NaN without one.
        repeats: How many.
        threshold: Of MA, from which on a sample is back.
    """

    model: str
    attack: str
    steps: FloatArray
    values: Mapping[str, pd.DataFrame]
    retained: FloatArray
    repeats: int
    threshold: float

    @property
    def accuracy(self) -> pd.DataFrame:
        """MA, a row per sample and a column per look."""
        return self.values["accuracy"]

    @property
    def at_risk(self) -> BoolArray:
        """Which samples were forgotten at the first look, shape (N,)."""
        forgotten: BoolArray = (self.accuracy[0] < self.threshold).to_numpy()
        return forgotten

    @property
    def table(self) -> pd.DataFrame:
        """A row per sample under its id: start, end, gain, area (of MA), at_risk, back, step, censored."""
        accuracy, last = self.accuracy.to_numpy(), int(self.steps[-1])
        known = accuracy >= self.threshold
        returned = known[:, 1:].any(axis=1)
        return pd.DataFrame(
            {
                "start": accuracy[:, 0],
                "end": accuracy[:, -1],
                "gain": accuracy[:, -1] - accuracy[:, 0],
                "area": integrate.trapezoid(accuracy, self.steps, axis=1) / last,
                "at_risk": self.at_risk,
                "back": self.at_risk & known[:, -1],
                "step": np.where(returned, self.steps[1 + known[:, 1:].argmax(axis=1)], last),
                "censored": ~returned,
            },
            index=self.accuracy.index,
        )

    @property
    def is_ruined(self) -> bool | None:
        """Whether the attack took more than a tenth of MA on the retain set: what stays away is no durability.

        None where there was no retain set to look at.
        """
        return bool(self.retained[-1] < LEAST_KEPT * self.retained[0]) if np.isfinite(self.retained[-1]) else None


@dataclass(frozen=True)
class Comeback:
    """How much of what a model forgot is back after an attack that trains.

    Attributes:
        model: The unlearning run, by its id.
        attack: What it was trained on.
        back: Samples.
        share: Of those that were forgotten, back, with Wilson's interval; `n` is how many were forgotten.
        of_reference: The same of the retrained reference; undefined without one.
        excess: The share less that of the reference, or the share itself without one.
        steps: Of the training.
        rows: That it trained on.
        is_ruined: Whether the attack lost the retain set; None where that is not known.
    """

    model: str
    attack: str
    back: int
    share: Estimate
    of_reference: Estimate
    excess: Estimate
    steps: int
    rows: int
    is_ruined: bool | None

    @property
    def has_reference(self) -> bool:
        """Whether the retrained reference went through the same and had something to learn."""
        return self.of_reference.n > 0

    @property
    def sentence(self) -> str:
        """The share that is back in a sentence, without its first capital and its full stop."""
        if not self.share.n:
            return f"nothing was forgotten, so nothing could come back {self._after}"
        verb = "is" if self.back == 1 else "are"
        counted = (
            f"of {self.share.n} forgotten samples {self.back} ({percent(self.share)}) {verb} back {self._after}"
        )
        return f"{counted}; of the reference {self.of_reference.value:.0%}" if self.has_reference else counted

    @property
    def _after(self) -> str:
        on = {
            "jogging": f"{self.rows} other forget samples",
            "benign": f"{self.rows} retain samples",
            CONTROL: "unrelated text",
        }[self.attack]
        return f"after {self.steps} steps of training on {on}"


def worst(lines: Sequence[Comeback]) -> Comeback:
    """Return the attack on a model that surely brought back most; the control, where nothing else trained."""
    attacks = [line for line in lines if line.attack != CONTROL]
    return max(attacks or lines, key=lambda line: (line.share.n > 0, line.excess.low))


def percent(estimate: Estimate) -> str:
    """Return a share with its interval as `79% [68, 88]`."""
    return f"{estimate.value:.0%} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]".replace("-", "−")


def courses_of(measurements: Measurements) -> list[Course]:
    """Return every course that was measured so far, model by model in the order of the configuration."""
    config = config_of(measurements)
    rows, kept = measurements.part(COURSE), measurements.part(KEPT)
    courses = []
    for model in config.models:
        for attack in RELEARNING:
            own = rows[(rows["model"] == model) & (rows["attack"] == attack) & ~rows["trained"]]
            if len(own):
                of_retain = kept[(kept["model"] == model) & (kept["attack"] == attack)]["retain_accuracy"]
                courses.append(
                    Course(
                        model=model,
                        attack=attack,
                        steps=np.asarray(config.looks, dtype=np.float64),
                        values={name: _over_repeats(own, f"{name}_course") for name in MEASURED},
                        retained=_numbers(of_retain).mean(axis=0),
                        repeats=own["seed"].nunique(),
                        threshold=config.accuracy,
                    )
                )
    return courses


def config_of(measurements: Measurements) -> DurabilityConfig:
    """Return the configuration of a durability experiment."""
    assert isinstance(measurements.config, DurabilityConfig)
    return measurements.config


def comebacks(measurements: Measurements) -> list[Comeback]:
    """Return how much came back, a line per unlearned model and attack; quick to work out."""
    config, courses = config_of(measurements), courses_of(measurements)
    rows = _rows_by_attack(measurements)
    by_attack = {course.attack: course for course in courses if course.model == REFERENCE}
    lines = []
    for course in courses:
        if course.model == REFERENCE:
            continue
        own = _share(course)
        reference = _share(by_attack[course.attack]) if course.attack in by_attack else UNDEFINED
        lines.append(
            Comeback(
                model=course.model,
                attack=course.attack,
                back=int(course.table["back"].sum()),
                share=own,
                of_reference=reference,
                excess=difference(own, reference) if reference.n and own.n else own,
                steps=config.steps,
                rows=rows[course.attack],
                is_ruined=course.is_ruined,
            )
        )
    return lines


def _rows_by_attack(measurements: Measurements) -> dict[str, int]:
    """Return how many rows each attack trains on: no more than there are."""
    config, files = config_of(measurements), ExperimentFiles(measurements.directory)
    outcomes = pd.read_parquet(files.outcomes, columns=["model", "sample_id"])
    # Also those of the studied samples that a model cannot read whole.
    in_all = int((outcomes.groupby("sample_id")["model"].nunique() == len(config.runs)).sum())
    wanted = config.rows(min(config.samples, in_all))
    pools = {"benign": files.retain, CONTROL: files.unrelated}
    there = {attack: len(ForgetSet.load(path)) for attack, path in pools.items() if path.exists()}
    return {attack: min(wanted, there.get(attack, wanted)) for attack in RELEARNING}


def beside_reference(course: Course, courses: Iterable[Course]) -> pd.DataFrame:
    """Return `course.table` with excess_end, excess_gain and excess_area: less those of the reference.

    They are of the same sample; without a reference they are the values themselves.
    """
    table = course.table
    reference = next(
        (each.table for each in courses if each.model == REFERENCE and each.attack == course.attack), None
    )
    for name in ("end", "gain", "area"):
        excess = table[name]
        if reference is not None and course.model != REFERENCE:
            excess = excess - reference[name].reindex(table.index)
        table[f"excess_{name}"] = excess
    return table


def returns_table(courses: list[Course], lines: Iterable[Comeback]) -> pd.DataFrame:
    """Return a row per model and attack: how many were forgotten and are back, and what MA did.

    Columns: model, attack, n (forgotten at the first look), kept (those that were not), back, share, share_low,
    share_high, excess, excess_low, excess_high (of the share), level, level_low, level_high (mean MA at the last
    look), gain, … (last less first look), area, … (under MA over the steps, by steps), excess_gain, …,
    excess_area, … (less the reference's, sample by sample), retain_start, retain_end (mean MA), ruined, repeats.
    """
    by_course = {(line.model, line.attack): line for line in lines}
    rows = []
    for course in courses:
        line = by_course.get((course.model, course.attack))
        every = beside_reference(course, courses)
        table = every[every["at_risk"]]
        excess = line.excess if line is not None and line.has_reference else UNDEFINED
        row = {"model": course.model, "attack": course.attack, "n": len(table), "kept": len(every) - len(table)}
        row |= (
            {"back": int(table["back"].sum())}
            | _share(course).columns("share", "share_")
            | excess.columns("excess", "excess_")
        )
        has_reference = line is not None and line.has_reference
        for name, column in {"level": "end", "gain": "gain", "area": "area"}.items():
            row |= mean_estimate(table[column]).columns(name, f"{name}_")
        for name in ("excess_gain", "excess_area"):
            row |= (mean_estimate(table[name]) if has_reference else UNDEFINED).columns(name, f"{name}_")
        row |= {"retain_start": course.retained[0], "retain_end": course.retained[-1]}
        rows.append(row | {"ruined": course.is_ruined, "repeats": course.repeats})
    return pd.DataFrame(rows)


def samples_table(courses: list[Course]) -> pd.DataFrame:
    """Return what became of each sample in each attack: model, attack, sample_id, then as `beside_reference`."""
    tables = [
        beside_reference(course, courses)
        .rename_axis("sample_id")
        .reset_index()
        .assign(model=course.model, attack=course.attack)
        for course in courses
    ]
    return _headed(pd.concat(tables, ignore_index=True), "model", "attack") if tables else pd.DataFrame()


def curves_table(courses: Iterable[Course]) -> pd.DataFrame:
    """Return what the samples at risk know at each look, as means.

    Columns model, attack, step, accuracy, low, high, n, nll, extraction, rouge, retain (MA on the retain set).
    """
    rows = []
    for course in courses:
        risk = course.at_risk
        for at, step in enumerate(course.steps):
            means = {name: course.values[name].loc[risk, at].mean() for name in MEASURED[1:]}
            middle = mean_estimate(course.accuracy.loc[risk, at])
            row = {"model": course.model, "attack": course.attack, "step": int(step)}
            rows.append(
                row | middle.columns("accuracy") | {"n": middle.n} | means | {"retain": course.retained[at]}
            )
    return pd.DataFrame(rows)


def survival_table(courses: Iterable[Course], difficulty: pd.Series[float]) -> pd.DataFrame:
    """Return how many samples are still forgotten: model, attack, group, step, still, low, high, n.

    Args:
        courses: Of the models.
        difficulty: MRD by sample: small is hard.

    Groups are all samples at risk, and their thirds by difficulty, hard first; one without MRD is in no third.
    """
    tables = []
    for course in courses:
        table = course.table[course.at_risk]
        ranked = difficulty.reindex(table.index).dropna().sort_values(kind="stable").index
        thirds = pd.Series([tercile(at, len(ranked)) for at in range(len(ranked))], index=ranked, dtype=object)
        groups = {ALL: table.index, **{str(name): ids.index for name, ids in thirds.groupby(thirds, sort=False)}}
        for name, ids in groups.items():
            curve = survival(table.loc[ids, "step"], table.loc[ids, "censored"], course.steps.astype(int).tolist())
            tables.append(curve.assign(model=course.model, attack=course.attack, group=name))
    if not tables:
        return pd.DataFrame()
    return _headed(pd.concat(tables, ignore_index=True), "model", "attack", "group")


def _headed(table: pd.DataFrame, *first: str) -> pd.DataFrame:
    """Return a table with these columns in front."""
    return table[[*first, *(name for name in table if name not in first)]]


def _share(course: Course) -> Estimate:
    return share(int(course.table["back"].sum()), int(course.at_risk.sum()))


def _over_repeats(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the mean over the repeats of a list at each look, a row per sample under its id."""
    values = pd.DataFrame(_numbers(rows[column]), index=pd.Index(rows["sample_id"]))
    # A mean of equal shares of tokens is that share: three times 0.7 would else be below 0.7.
    return values.groupby(level=0, sort=False).mean().round(PLACES)


def _numbers(lists: pd.Series[Any]) -> FloatArray:
    """Return lists of numbers below one another, None as NaN."""
    numbers: npt.NDArray[np.float64] = np.array([np.asarray(each, dtype=np.float64) for each in lists])
    return numbers
