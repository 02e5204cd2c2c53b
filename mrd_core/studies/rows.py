"""The table of a study: its runs, in the order in which they are carried out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.suites import suites
from mrd_core.experiments.kinds import experiments
from mrd_core.model.config import FORM, ModelConfig
from mrd_core.runs.kind import kind_named
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import Nested, merged
from mrd_core.settings.configuration import Frozen, RunConfig
from mrd_core.settings.fields import Model, nested_in
from mrd_core.studies.lines import Place, spelt
from mrd_core.studies.product import Combination, product, with_paths
from mrd_core.studies.study import Expected, Study
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.request import require_retain

# Stands for the directory of a run that is yet to be made.
PLANNED = Path("/planned")
# What a study says of these beside their settings.
EXPECTS, OF = "expects", "of"
RETAIN, HELD_OUT = "retain", "held_out"
# The field of an experiment on unlearning runs that names them.
ATTACKED = "runs"
ORIGINAL, UNLEARNED = "original", "unlearned"
# Which run builds on which is for the study to say.
LINKS = frozenset({"score_run", "unlearn_run", ATTACKED, "study", "forget_set_digest"})
# What an evaluation of an unlearned model may say of it.
WISHES = ("device", "dtype")


class Links(NamedTuple):
    """What a run builds on.

    Attributes:
        score_run: Directory of its score run.
        scored: The configuration of that one.
        unlearn_run: Directory of the unlearning run whose model it evaluates; None where it evaluates none.
        attacked: Directories of the unlearning runs that an experiment is about.
    """

    score_run: Path
    scored: ScoreConfig
    unlearn_run: Path | None = None
    attacked: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Pair:
    """A model and a forget set of a study.

    Attributes:
        name: For people.
        model: Settings of the model; `expected` are its sizes where they are stated.
        forget_set: Those of the forget set.
        companions: Settings of its retain set and its held-out set, as far as there are any.
    """

    name: str
    model: Nested
    forget_set: Nested
    companions: Mapping[str, Nested]
    expected: Expected

    @property
    def dates(self) -> bool:
        """Whether the study says what a chat template takes for today; else any day is the same run."""
        return "date" in self.model


@dataclass(frozen=True, eq=False)
class Row:
    """A run of a study.

    Attributes:
        kind: Of the run.
        name: For people; no two of a study share one.
        settings: Of its configuration, but for what follows from the runs that it builds on.
        place: Where the table that it is of stands in the file.
        pair: What it is about.
        score: The score run that it builds on; None for a score run.
        unlearned: The unlearning run whose model it evaluates; None where it evaluates none.
        expected: Sizes that are stated for its cost.
        attacked: The unlearning runs that an experiment is about.
    """

    kind: str
    name: str
    settings: Nested
    place: Place
    pair: Pair
    score: Row | None = None
    unlearned: Row | None = None
    expected: Expected = field(default=Expected())
    attacked: tuple[Row, ...] = ()

    @property
    def parents(self) -> tuple[Row, ...]:
        """The runs that it builds on."""
        return tuple(row for row in (self.score, self.unlearned, *self.attacked) if row is not None)

    def config(self, links: Links | None = None, study: str | None = None) -> RunConfig:
        """Return the configuration of the run.

        Args:
            links: What it builds on; None for a score run, and where those are yet to be made.
            study: Name that an unlearning run carries in its configuration.

        Raises:
            pydantic.ValidationError: A setting is no good.
        """
        kind = kind_named(self.kind)
        if self.score is None:
            own = {"model": self.pair.model, "forget_set": self.pair.forget_set} | self.settings
            return kind.config.model_validate(merged(SCORE.base(own), own))
        if links is None:
            planned = self.score.config()
            assert isinstance(planned, ScoreConfig)
            attacked = tuple(PLANNED / str(number) for number in range(len(self.attacked)))
            links = Links(PLANNED, planned, PLANNED if self.unlearned else None, attacked)
        return kind.config.model_validate(merged(self._base(links, study), self.settings))

    def _base(self, links: Links, study: str | None) -> Nested:
        """Return what follows from the runs that it builds on."""
        linked = kind_named(self.kind).on_scores(links.scored, self.settings) | {"score_run": links.score_run}
        if self.kind == "unlearn":
            return linked | {"study": study}
        if self.kind == "evaluate":
            if links.unlearn_run is None:
                return linked | {"model": self.pair.model}
            wishes = {name: value for name, value in self.pair.model.items() if name in WISHES}
            return linked | {"model": wishes, "unlearn_run": links.unlearn_run}
        if self.kind in experiments():
            linked |= {ATTACKED: links.attacked} if links.attacked else {}
            return links.scored.model_dump(include={"model", "forget_set", "estimator"}) | linked
        return linked


def rows_of(study: Study) -> list[Row]:
    """Return the runs of a study: score runs, then those that unlearn, evaluations, readings, experiments.

    Raises:
        UserError: A setting is not known or no good; says where it stands.
    """
    rows: list[Row] = []
    scores = _told_apart(list(_scores(study)))
    for row in scores:
        _check(study, row)
    for section in (_unlearnings, _evaluations, _readings, _experiments):
        rows += _told_apart(section(study, scores, rows))
    for row in rows:
        _check(study, row)
    rows = [*scores, *rows]
    seen: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row.kind, row.config().model_dump_json(), row.pair.name, *map(id, row.parents))
        if key in seen:
            raise study.refusal(row.place, None, f"It asks for “{row.name}” twice", "Take one of them out.")
        seen[key] = row
    return rows


def _told_apart(rows: list[Row]) -> list[Row]:
    """Return rows whose names differ: those of one name are told apart by the table that they are of."""
    counts = Counter(row.name for row in rows)
    return [replace(row, name=f"{row.name}, {spelt(row.place)}") if counts[row.name] > 1 else row for row in rows]


def _pairs(study: Study) -> Iterator[Pair]:
    content = study.content
    several = len(content.models) * len(content.forget_sets) > 1
    for (model, about_model), (samples, about_samples) in itertools.product(
        content.models.items(), content.forget_sets.items()
    ):
        expected = _expected(study, about_model, ("models", model))
        lengths = _expected(study, about_samples, ("forget_sets", samples))
        stated = expected.model_dump(exclude_none=True) | lengths.model_dump(exclude_none=True)
        beside = {name: about_samples[name] for name in (RETAIN, HELD_OUT) if name in about_samples}
        yield Pair(
            name=f"{samples} on {model}" if several else "",
            model=_in_full(study, _without(about_model, EXPECTS), ModelConfig, ("models", model)),
            forget_set=_in_full(
                study, _without(about_samples, EXPECTS, *beside), ForgetSetConfig, ("forget_sets", samples)
            ),
            companions={
                name: _in_full(
                    study,
                    {"source": each} if isinstance(each, str) else each,
                    ForgetSetConfig,
                    ("forget_sets", samples, name),
                )
                for name, each in beside.items()
            },
            expected=Expected.model_validate(stated),
        )


def _scores(study: Study) -> Iterator[Row]:
    for pair in _pairs(study):
        for place, combination in _combinations(study, "score", ScoreConfig):
            yield Row("score", _name("Scores", pair, combination.varied), combination.settings, place, pair)


def _unlearnings(study: Study, scores: list[Row], _before: list[Row]) -> list[Row]:
    rows = []
    for score in scores:
        for place, combination in _combinations(study, "unlearn", UnlearnConfig):
            settings = combination.settings
            if RETAIN in score.pair.companions:
                retain = {"samples": score.pair.companions[RETAIN]} | settings.get(RETAIN, {})
                settings = settings | {RETAIN: retain}
            row = Row("unlearn", "", settings, place, score.pair, score)
            called = _validated(study, row)
            assert isinstance(called, UnlearnConfig)
            # What the name of such a run says anyway.
            said = ("method", "curriculum", "curriculum.sampler", "curriculum.column", "seed")
            varied = _without(combination.varied, *said)
            rows.append(replace(row, name=_name(called.name, score.pair, varied, score)))
    return rows


def _evaluations(study: Study, scores: list[Row], before: list[Row]) -> list[Row]:
    rows = []
    for number, table in enumerate(study.content.evaluate):
        place: Place = ("evaluate", number)
        subjects = table.get(OF, [ORIGINAL, UNLEARNED])
        if not isinstance(subjects, list) or not all(each in (ORIGINAL, UNLEARNED) for each in subjects):
            raise study.refusal((*place, OF), subjects, "Name the original, the unlearned, or both", "Correct it.")
        expected = _expected(study, table, place)
        for combination in _products(study, place, _without(table, OF, EXPECTS), EvaluateConfig):
            for score in scores:
                made = [row for row in before if row.score is score and UNLEARNED in subjects]
                for unlearned in [None, *made] if ORIGINAL in subjects else made:
                    settings = dict(combination.settings)
                    if settings.get("suite", "custom") == "custom" and "data" not in settings:
                        settings = dict(score.pair.companions) | settings
                    row = Row("evaluate", "", settings, place, score.pair, score, unlearned, expected)
                    config = _validated(study, row)
                    assert isinstance(config, EvaluateConfig)
                    suite = suites()[config.suite].title
                    subject = unlearned.name if unlearned else _name("the original", score.pair, {}, score)
                    varied = _without(combination.varied, "suite")
                    rows.append(replace(row, name=f"{suite} on {subject}{_in_brackets(varied)}"))
    return rows


def _readings(study: Study, scores: list[Row], _before: list[Row]) -> list[Row]:
    if not study.content.characteristics:
        return []
    kind = kind_named("characteristics")
    return [
        Row(kind.name, _name(kind.label, score.pair, made.varied, score), made.settings, place, score.pair, score)
        for score in scores
        for place, made in _combinations(study, kind.name, kind.config)
    ]


def _experiments(study: Study, scores: list[Row], before: list[Row]) -> list[Row]:
    rows = []
    for number, table in enumerate(study.content.experiment):
        place: Place = ("experiment", number)
        name = table.get("kind")
        if name not in tuple(experiments()):
            reason = f"There is no such experiment; there are {', '.join(experiments())}"
            raise study.refusal((*place, "kind"), name, reason, "Name one of them as its `kind`.")
        kind = kind_named(str(name))
        for combination in _products(study, place, _without(table, "kind"), kind.config):
            for score in scores:
                settings = combination.settings
                if RETAIN in score.pair.companions and RETAIN in kind.config.model_fields:
                    settings = {RETAIN: score.pair.companions[RETAIN]} | settings
                called = _name(kind.label, score.pair, combination.varied, score)
                attacked: tuple[Row, ...] = ()
                if ATTACKED in kind.config.model_fields:
                    attacked = tuple(row for row in before if row.kind == "unlearn" and row.score is score)
                    if not attacked:
                        reason = "The study unlearns nothing that it could be about"
                        raise study.refusal((*place, "kind"), name, reason, "Add a table `unlearn`.")
                rows.append(Row(kind.name, called, settings, place, score.pair, score, attacked=attacked))
    return rows


def _combinations(study: Study, section: str, kind: type[RunConfig]) -> Iterator[tuple[Place, Combination]]:
    for number, table in enumerate(getattr(study.content, section)):
        for combination in _products(study, (section, number), table, kind):
            yield (section, number), combination


def _products(study: Study, place: Place, table: Nested, kind: type[RunConfig]) -> list[Combination]:
    for name in (*LINKS, "kind"):
        if name in table:
            raise study.refusal((*place, name), None, "The study itself says what builds on what", "Take it out.")
    made = product(table, kind)
    if not made:
        raise study.refusal(place, None, "One of its lists is empty, so it stands for no run", "Fill the list.")
    for each in made:
        _require_tables(study, place, each.settings, kind)
    return [each._replace(settings=with_paths(each.settings, kind, study.path.parent)) for each in made]


def _require_tables(study: Study, place: Place, settings: Nested, config: Model) -> None:
    """Refuse a value in the place of settings."""
    for name, value in settings.items():
        info = config.model_fields.get(name)
        nested = nested_in(info) if info is not None else None
        if nested is not None and not isinstance(value, dict):
            reason = f"It has settings of its own: {', '.join(nested.model_fields)}"
            raise study.refusal((*place, name), value, reason, "Name the one that is meant.")
        if nested is not None:
            _require_tables(study, (*place, name), value, nested)


def _check(study: Study, row: Row) -> None:
    """Refuse what would be refused when the run is asked for."""
    config = _validated(study, row)
    for place in _settled(row):
        reason = "What it builds on says which model and which samples"
        raise study.refusal((*row.place, *place), None, reason, "Take it out; others have their place at the top.")
    if isinstance(config, UnlearnConfig):
        try:
            require_retain(config)
        except UserError as error:
            raise study.refusal(row.place, None, f"{error.what} {error.why.rstrip('.')}", error.fix) from error


def _settled(row: Row) -> list[Place]:
    """Return what a row says of its model and its samples though the runs that it builds on have settled it."""
    of_model: set[str] = set(row.settings.get("model", {}))
    if row.kind in experiments():
        own = of_model - set(WISHES)
    elif row.kind == "evaluate":
        own = of_model & {"source", "adapter", *(FORM if row.unlearned else ())}
    else:
        return []
    return [("model", name) for name in sorted(own)] + [("forget_set",)] * ("forget_set" in row.settings)


def _validated(study: Study, row: Row) -> RunConfig:
    try:
        return row.config()
    except ValidationError as error:
        raise study.invalid(error, row.place) from error
    except UserError as error:
        raise study.refusal(row.place, None, f"{error.what} {error.why.rstrip('.')}", error.fix) from error


def _expected(study: Study, table: Nested, place: Place) -> Expected:
    try:
        return Expected.model_validate(table.get(EXPECTS, {}))
    except ValidationError as error:
        raise study.invalid(error, (*place, EXPECTS)) from error


def _in_full(study: Study, settings: Nested, config: type[Frozen], place: Place) -> Nested:
    """Return the settings of a model or of samples with their paths in full, once they are known to be good."""
    try:
        config.model_validate(settings)
    except ValidationError as error:
        raise study.invalid(error, place) from error
    return with_paths(settings, config, study.path.parent)


def _without(table: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}


def _name(what: str, pair: Pair, varied: Mapping[str, Any], score: Row | None = None) -> str:
    """Return what people call a run of a pair, and which of several score runs of it it builds on."""
    of_score = score.name.partition(" (")[2].rstrip(")") if score is not None else ""
    about = f"{what}: {pair.name}" if pair.name else what
    return about + _in_brackets(varied, of_score)


def _in_brackets(varied: Mapping[str, Any], *others: str) -> str:
    parts = [*(f"{name} {value}" for name, value in varied.items()), *filter(None, others)]
    return f" ({', '.join(parts)})" if parts else ""
