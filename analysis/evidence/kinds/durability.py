"""Durability: which forgotten samples come back, in what, and what foretells them?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import elsewhere
from analysis.evidence.brief import number_cells
from analysis.evidence.forecast import Forecast, forecast
from analysis.evidence.interpretation import Evidence, Interpretation
from analysis.evidence.leaks import leaks, prompted, round_trips
from analysis.evidence.measurements import (
    NOTHING_YET,
    Measurements,
    estimate_at,
    in_words,
    shared_caveats,
    small_n,
)
from analysis.evidence.return_league import LEAST, MEAN, ReturnLeague, mean_league, outcomes_of, return_league
from analysis.evidence.returns import (
    CONTROL,
    Comeback,
    Course,
    comebacks,
    config_of,
    courses_of,
    curves_table,
    returns_table,
    samples_table,
    survival_table,
    worst,
)
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.wording import in_brackets, in_figures, with_ends
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import REFERENCE
from mrd_core.runs.files import read_json

PAPER = "The paper does not ask whether what was forgotten comes back."
REFERENCE_NAME = "Reference"
# What a relearning is told apart by in charts and tables.
ATTACK_NAMES = {"jogging": "some forget samples", "benign": "retain samples", CONTROL: "unrelated text"}
# The first of these that was carried out is what samples are foretold for, unless it brings back next to nothing.
FORETOLD = ("benign", "jogging", CONTROL)
NEXT_TO_NOTHING = 0.05
# Measures that are named in short.
FIRST = 5
# Of MA or ROUGE-L: less does not count as something that comes back.
LITTLE = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class Durability(Evidence):
    """What comes back of each model in each attack.

    Attributes:
        names: What charts call the models, by id; the reference last.
        lines: How much is back of each unlearned model after each attack that trains.
        looks: Steps after which relearning was looked at.
        threshold: Of MA, from which on a sample is back.
        returns: See `returns.returns_table`, with `name`; so have all tables.
        curves: What samples know look by look, see `returns.curves_table`.
        survival: How many are still forgotten, see `returns.survival_table`.
        samples: What became of each sample in each attack, see `returns.samples_table`.
        round_trips: What rounding brings back, see `leaks.round_trips`.
        leaks: leak@k, see `leaks.leaks`.
        prompts: What answers that were begun give away, see `leaks.prompted`.
        leagues: By model (`MEAN` for the mean over several) and attack, what foretells the gain.
        forecasts: By model and attack, which samples are expected back.
        of_models: Findings on each model, by its id.
        primary: The attack that the findings foretell; "" where none trained.
    """

    names: Mapping[str, str]
    lines: tuple[Comeback, ...]
    looks: tuple[int, ...]
    threshold: float
    returns: pd.DataFrame
    curves: pd.DataFrame
    survival: pd.DataFrame
    samples: pd.DataFrame
    round_trips: pd.DataFrame
    leaks: pd.DataFrame
    prompts: pd.DataFrame
    leagues: Mapping[tuple[str, str], ReturnLeague]
    forecasts: Mapping[tuple[str, str], Forecast]
    of_models: Mapping[str, tuple[str, ...]]
    primary: str

    @property
    def attacks(self) -> list[str]:
        """The attacks that train, that which the findings foretell first."""
        done = {line.attack for line in self.lines}
        return sorted((attack for attack in FORETOLD if attack in done), key=lambda attack: attack != self.primary)

    def attacked(self, model: str, attack: str) -> pd.DataFrame:
        """Return what became of the samples that a model had forgotten, those that are back first.

        Columns sample_id, back, step (of the first look that found it back; NaN: none did), left and end (MA).
        """
        samples = self.samples
        if samples.empty:
            return samples
        own = samples[(samples["model"] == model) & (samples["attack"] == attack) & samples["at_risk"]]
        table = own[["sample_id", "back"]].assign(
            step=own["step"].where(~own["censored"]), left=own["start"], end=own["end"]
        )
        return table.sort_values(["back", "end"], ascending=False, kind="stable", ignore_index=True)

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every frame by its name."""
        forecasts = [each for each in self.forecasts.values() if each.figures]
        return {
            **super().tables,
            "findings": pd.DataFrame(
                [
                    {"model": model, "name": self.names[model], "finding": finding}
                    for model, findings in self.of_models.items()
                    for finding in findings
                ]
            ),
            "league": self._by_model({key: each.table for key, each in self.leagues.items()}),
            "forecast": self._by_model({(each.model, each.attack): each.samples for each in forecasts}),
            "calibration": self._by_model({(each.model, each.attack): each.bins for each in forecasts}),
            "probabilities": pd.DataFrame(
                [
                    {"model": each.model, "name": self.names[each.model], "attack": each.attack}
                    | each.figures.auc.columns("auc", "auc_")
                    | each.auc_of_left.columns("auc_of_left", "auc_of_left_")
                    | each.figures.brier.columns("brier", "brier_")
                    | each.figures.brier_of_rate.columns("brier_of_rate", "brier_of_rate_")
                    | each.figures.skill.columns("skill", "skill_")
                    | {"n": each.figures.auc.n}
                    for each in forecasts
                    if each.figures
                ]
            ),
        }

    @property
    def brief(self) -> Mapping[str, pd.DataFrame]:
        """What is back, what shows without training, and the measures that foretell the gain best."""
        tables = {}
        if len(self.returns):
            tables["What is back at the last look"] = self._returned
        if len(self.round_trips):
            tables["What rounding brings back"] = pd.DataFrame(
                {
                    "model": self.round_trips["name"],
                    "bits": number_cells(self.round_trips["bits"], ".0f"),
                    "MA rises by": in_words(self.round_trips, "recovery"),
                    "less the reference": in_words(self.round_trips, "excess", "excess_"),
                }
            )
        if len(self.leaks):
            tables["ROUGE-L of the best of k answers (leak@k)"] = pd.DataFrame(
                {
                    "model": self.leaks["name"],
                    "k": self.leaks["k"].astype(str),
                    "leak": in_words(self.leaks, "leak", form=".2f"),
                    "less the reference": in_words(self.leaks, "excess", "excess_"),
                }
            )
        for (model, attack), league in self.leagues.items():
            if attack == self.attacks[0] and len(league.table):
                first = league.table.head(FIRST)
                tables[f"{self.names.get(model, model)}: what foretells the gain after {ATTACK_NAMES[attack]}"] = (
                    pd.DataFrame(
                        {
                            "measure": first["title"],
                            "ρ with the gain": in_words(first, "rho"),
                            "length held": in_words(first, "partial", "partial_"),
                            "level, MA left held": in_words(first, "level", "level_"),
                        }
                    )
                )
        return tables

    @property
    def _returned(self) -> pd.DataFrame:
        table = self.returns
        return pd.DataFrame(
            {
                "model": table["name"],
                "trained on": table["attack"].map(ATTACK_NAMES),
                "back": [f"{row.back} of {row.n}" for row in table.itertuples()],
                "share": in_words(table, "share", "share_", ".0%"),
                "less the reference": in_words(table, "excess", "excess_", "+.0%"),
                "MA rises by": in_words(table, "gain", "gain_"),
                "retain MA": [
                    "–" if np.isnan(start) else f"{start:.2f} → {end:.2f}"
                    for start, end in table[["retain_start", "retain_end"]].to_numpy(np.float64)
                ],
            }
        )

    def _by_model(self, frames: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
        """Return frames below one another with model, name and attack in front."""
        named = {
            key: frame.assign(model=key[0], name=self.names.get(key[0], key[0])) for key, frame in frames.items()
        }
        if not any(map(len, named.values())):
            return pd.DataFrame()
        table = pd.concat([frame.assign(attack=attack) for (_, attack), frame in named.items() if len(frame)])
        first = ["model", "name", "attack"]
        return table[[*first, *(name for name in table if name not in first)]].reset_index(drop=True)


def durability(measurements: Measurements) -> Durability:
    """Judge what a durability experiment has measured so far."""
    config, courses = config_of(measurements), courses_of(measurements)
    lines, names = tuple(comebacks(measurements)), names_of(measurements)
    difficulty = measurements.samples.set_index("sample_id")[measurements.mrd_column]
    foretold = [course for course in courses if course.model != REFERENCE and course.attack != CONTROL]
    if not foretold:
        foretold = [course for course in courses if course.model != REFERENCE]
    leagues = dict(_leagues(foretold, courses, measurements))
    forecasts = {(course.model, course.attack): forecast(course, measurements) for course in foretold}
    tables = {
        "returns": returns_table(courses, lines),
        "curves": curves_table(courses),
        "survival": survival_table(courses, difficulty),
        "samples": samples_table(courses),
        "round_trips": round_trips(measurements),
        "leaks": leaks(measurements),
        "prompts": prompted(measurements),
    }
    tables = {name: _named(table, names) for name, table in tables.items()}
    first = _primary(lines)
    models = [model for model in config.models if model != REFERENCE]
    of_models = {
        model: (
            *_comebacks([line for line in lines if line.model == model], tables["returns"]),
            *_without_training(model, tables["round_trips"], tables["leaks"]),
            *_foretold(leagues.get((model, first)), first),
            *_expected(forecasts.get((model, first))),
        )
        for model in models
    }
    # Of several models each has its own, which are with it.
    shared = of_models[models[0]]
    if len(models) > 1:
        shared = tuple(_foretold(leagues.get((MEAN, first)), first, len(models)))
    return Durability(
        verdict=_verdict(lines, names),
        findings=shared,
        caveats=tuple(_caveats(courses, names, measurements)),
        paper=PAPER,
        elsewhere=elsewhere.RETURNS,
        names=names,
        lines=lines,
        looks=config.looks,
        threshold=config.accuracy,
        leagues=leagues,
        forecasts=forecasts,
        of_models=of_models,
        primary=first,
        **tables,
    )


def names_of(measurements: Measurements) -> dict[str, str]:
    """Return what charts call the models, by id; runs of one label are told apart by their seeds, or their ids."""
    files, config = ExperimentFiles(measurements.directory), config_of(measurements)
    written = read_json(files.unlearned) if files.unlearned.exists() else []
    labels = {entry["model"]: str(entry["summary"]["label"]) for entry in written}
    seeded = {entry["model"]: f"{labels[entry['model']]}, seed {entry['summary']['seed']}" for entry in written}
    named = {model: f"{name} ({model})" for model, name in labels.items()}
    names = {model: labels.get(model, model) for model in config.models}
    for longer in (seeded, named):
        alike = Counter(names.values())
        names = {model: longer.get(model, name) if alike[name] > 1 else name for model, name in names.items()}
    return names | ({REFERENCE: REFERENCE_NAME} if REFERENCE in names else {})


def _leagues(
    foretold: Sequence[Course], courses: Sequence[Course], measurements: Measurements
) -> Iterator[tuple[tuple[str, str], ReturnLeague]]:
    imported = {measure.name: measure.title for measure in measurements.imported}
    for attack in dict.fromkeys(course.attack for course in foretold):
        own = [course for course in foretold if course.attack == attack]
        leagues = [
            return_league(outcomes_of(course, courses, measurements), measurements.draws, imported)
            for course in own
        ]
        yield from (((course.model, attack), league) for course, league in zip(own, leagues, strict=True))
        if len(leagues) > 1:
            yield (MEAN, attack), mean_league(leagues, measurements.draws, imported)


def _named(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    if table.empty:
        return table
    table.insert(1, "name", table["model"].map(names))
    return table


def _verdict(lines: Sequence[Comeback], names: Mapping[str, str]) -> str:
    """Say of each model what is back after the attack that brought back most."""
    sentences = []
    for model in dict.fromkeys(line.model for line in lines):
        one_alone = len({line.model for line in lines}) == 1
        sentence = worst([line for line in lines if line.model == model]).sentence
        sentences.append(f"{sentence[0].upper()}{sentence[1:]}." if one_alone else f"{names[model]}: {sentence}.")
    return " ".join(sentences) or NOTHING_YET


def _primary(lines: Sequence[Comeback]) -> str:
    """Return the attack that the findings foretell: benign, or jogging where that is next to nothing."""
    by_attack = {
        attack: np.mean([line.share.value for line in lines if line.attack == attack and line.share.n])
        for attack in FORETOLD
        if any(line.attack == attack and line.share.n for line in lines)
    }
    if by_attack.get("benign", 1.0) < NEXT_TO_NOTHING and "jogging" in by_attack:
        return "jogging"
    return next(iter(by_attack), "")


def _comebacks(lines: Sequence[Comeback], returns: pd.DataFrame) -> Iterator[str]:
    """Say of each attack on a model what is back after it, and what MA gained."""
    rows = {(row["model"], row["attack"]): row for _, row in returns.iterrows()}
    for line in lines:
        sentence = f"{line.sentence}{_beyond(line)}{_gained(rows[line.model, line.attack])}"
        yield f"{sentence[0].upper()}{sentence[1:]}."


def _beyond(line: Comeback) -> str:
    """Say how much more of the model than of the reference is back."""
    if not line.has_reference or not line.share.n:
        return ""
    excess = line.excess
    ends = f"[{100 * excess.low:.0f}, {100 * excess.high:.0f}]"
    return f", a difference of {100 * excess.value:.0f} percentage points {ends}".replace("-", "−")


def _gained(row: pd.Series[Any]) -> str:
    """Say what MA gained in an attack, and how much of that is more than the reference learnt."""
    gain, excess = (estimate_at(row, name, f"{name}_") for name in ("gain", "excess_gain"))
    if not np.isfinite(gain.low):
        return ""
    beyond = f" (less the reference’s: {in_brackets(excess)})" if np.isfinite(excess.low) else ""
    return f"; mean MA changed by {in_brackets(gain)}{beyond}"


def _without_training(model: str, trips: pd.DataFrame, leaked: pd.DataFrame) -> Iterator[str]:
    """Say of a model what rounding brings back, and what the best of many drawn answers shows."""
    if len(trips) and (trips["model"] == model).any():
        own = [row for _, row in trips[trips["model"] == model].iterrows()]
        parts = [f"to {row['bits']:.0f} bits {_brought(estimate_at(row, 'recovery'))}" for row in own]
        yield f"Rounding the weights brings back: {'; '.join(parts)} (n = {own[0]['n']})."
    if len(leaked) and (leaked["model"] == model).any():
        own = [row for _, row in leaked[leaked["model"] == model].sort_values("k").iterrows()]
        best, excess = estimate_at(own[-1], "leak"), estimate_at(own[-1], "excess", "excess_")
        beyond = f", less the reference’s {in_brackets(excess)}" if np.isfinite(excess.low) else ""
        yield (
            f"A drawn answer has a ROUGE\u2011L of {own[0]['leak']:.2f}, the best of {own[-1]['k']} one of "
            f"{in_brackets(best, '.2f')}{beyond} (n = {best.n})."
        )


def _brought(recovery: Estimate) -> str:
    amount = "little or nothing" if recovery.high < LITTLE else "perhaps something"
    if recovery.low > LITTLE:
        amount = "something"
    return f"{amount}, MA {in_brackets(recovery)}"


def _foretold(league: ReturnLeague | None, attack: str, models: int = 1) -> Iterator[str]:
    """Say what foretells the gain best, what MRD says of it, and whether what was known before adds anything.

    Args:
        league: Of one model, or the mean over several.
        attack: What they were trained on.
        models: How many there are.
    """
    if league is None or "family" not in league.table:
        return
    alone = league.table[league.table["family"] != "combination"].dropna(subset=["low"])
    if alone.empty:
        return
    best, mrd = alone.iloc[0], league.estimate("mrd_answer_mean")
    level, added = league.estimate("mrd_answer_mean", "level", "level_"), ""
    if np.isfinite(league.adds.low):
        certain = (
            "adds" if league.adds.low > 0 else "adds noise" if league.adds.high < 0 else "adds nothing certain"
        )
        added = f". To what is left, what was known before {certain} ({with_ends(league.adds, 'Δρ')})"
    of = "Of"
    if models > 1:
        of = f"Mean over {models} models, of"
        if league.models < models:
            of = (
                f"Mean over the {league.models} of {models} models that had forgotten at least {LEAST} samples, of"
            )
    yield (
        f"{of} {len(alone)} measures {best['title']} says most of the gain after {ATTACK_NAMES[attack]} "
        f"({in_figures(estimate_at(best))}); MRD {with_ends(mrd)}, and of the level with MA left held "
        f"{with_ends(level)}{added}."
    )


def _expected(each: Forecast | None) -> Iterator[str]:
    """Say how well it is foretold which samples come back, or why that is not known."""
    if each is None:
        return
    if each.figures is None:
        yield f"After {ATTACK_NAMES[each.attack]} {each.refusal}."
        return
    figures = each.figures
    better = "better than" if figures.skill.low > 0 else "no better, as far as can be told, than"
    scores = f"Brier score {figures.brier.value:.3f} against {figures.brier_of_rate.value:.3f}"
    yield (
        f"Which samples come back after {ATTACK_NAMES[each.attack]} is foretold with "
        f"{in_figures(figures.auc, 'AUC')}, by MA left alone with {with_ends(each.auc_of_left, 'AUC')}; the "
        f"probabilities are {better} the share alone ({scores})."
    )


def _caveats(courses: Sequence[Course], names: Mapping[str, str], measurements: Measurements) -> list[str]:
    config, caveats = config_of(measurements), shared_caveats(measurements)
    if not courses:
        return caveats
    at_risk = [int(course.at_risk.sum()) for course in courses if course.model != REFERENCE]
    caveats += small_n(min(at_risk, default=0), "forgotten samples")
    for model, own in _by_model(courses).items():
        # Those that jogging trained on are in no course of it.
        whole = max(own, key=lambda course: len(course.accuracy))
        known, n = int((~whole.at_risk).sum()), len(whole.accuracy)
        if known and model == REFERENCE:
            caveats.append(
                f"The reference knew {known} of {n} samples by MA ≥ {config.accuracy:g} from the start, without "
                f"having seen them; its shares are of the other {n - known}."
            )
        elif known:
            caveats.append(
                f"{names[model]}: {known} of {n} samples were not forgotten when the attacks began (MA ≥ "
                f"{config.accuracy:g}); they count in no share and no curve."
            )
    for course in courses:
        if course.is_ruined:
            caveats.append(
                f"{names[course.model]}: training on {ATTACK_NAMES[course.attack]} took MA on the retain set from "
                f"{course.retained[0]:.2f} to {course.retained[-1]:.2f}. It ruined the model: what stays away "
                "after it is not durable for that."
            )
    if any(line.attack == CONTROL and line.back for line in comebacks(measurements)):
        caveats.append(
            "Something comes back by training on unrelated text as well: that is no memory jogged by content."
        )
    if config.reference is None:
        caveats.append("Without a retrained reference learning cannot be told from remembering.")
    if courses[0].repeats == 1:
        caveats.append("Each relearning was done once, so chance in its rows and their order is not known.")
    looks = ", ".join(map(str, config.looks[1:]))
    return [
        *caveats,
        f"When a sample is back is known to the look only: looks were after {looks} steps, and it may have been "
        "back in between and gone again.",
        "MA is looked at token by token with the true answer before each token: a sample that is back by it need "
        "not be written out, and the other way round.",
        "A larger learning rate, more steps or other rows bring back more: durable means against these attacks.",
        "The table of measures compares many on the same samples: the first place is flattered by the choice.",
    ]


def _by_model(courses: Sequence[Course]) -> dict[str, list[Course]]:
    models: dict[str, list[Course]] = {}
    for course in courses:
        models.setdefault(course.model, []).append(course)
    return models


INTERPRETATION = Interpretation(
    title="Durability",
    question="Does what was forgotten come back, and which samples do?",
    procedure="Unlearned models, and a model retrained without the forget set, are trained on some of the forget "
    "set, on retain samples and on unrelated text, rounded to 8 and 4 bits, sampled, and asked with the beginning "
    "of the answer; after each, every sample is looked at again.",
    evidence=durability,
)
