"""What the runs of a study will cost, before any of them is launched: by the estimates of their kinds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.suites import suites
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.model.config import ModelConfig
from mrd_core.model.weights import parameter_count
from mrd_core.runs import Run
from mrd_core.runs.kind import kind_named
from mrd_core.runs.submission import queue_of
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.cost import (
    CHARACTERS_PER_TOKEN,
    OPERATIONS_PER_SECOND_AND_CORE,
    PLANNING_EVALUATIONS,
    START_UP_SECONDS,
    TEMPLATE_TOKENS,
    passes_of,
    usual_evaluations,
)
from mrd_core.scoring.records import ScoreSummary
from mrd_core.settings.configuration import RunConfig
from mrd_core.studies.catalogue import is_here
from mrd_core.studies.rows import HELD_OUT, RETAIN, Row
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.cost import forward_flops

# What the estimates of other kinds call the pace that they are given here.
PACE_OF_SCORING = "the pace of the score run"
# Of a sample whose answer's length is not stated.
SHARE_OF_THE_ANSWER = 0.5


class Cost(NamedTuple):
    """An estimate.

    Attributes:
        seconds: Probable time [s]; None where it is not known.
        basis: What it rests on, or what is missing, for people.
        memory: What is needed, for people; "" where no estimate says it.
    """

    seconds: float | None
    basis: str
    memory: str = ""


class Size(NamedTuple):
    """How large the work on a forget set is.

    Attributes:
        samples: Of the forget set.
        tokens: Of all samples, prompts included.
        answer_tokens: Of their answers.
        parameters: Weights of the model.
    """

    samples: int
    tokens: int
    answer_tokens: int
    parameters: int


class Costs:
    """The costs of the rows of a study.

    Args:
        past: Runs that succeeded, the newest first, which give the pace.
        pace: Operations per second in the place of theirs; None where nothing is stated.
    """

    def __init__(self, past: Iterable[Run], pace: float | None = None) -> None:
        self._past: list[Run] = []
        self._pace = pace
        self._sizes: dict[int, Size | str] = {}
        self._scores: dict[Row, Cost] = {}
        self.learn(past)

    def learn(self, past: Iterable[Run]) -> None:
        """Go by the pace of these runs from now on, unless one was stated."""
        self._past = [] if self._pace else list(past)

    def of(self, row: Row, config: RunConfig, scored: Run | None = None) -> Cost:
        """Return what a run will cost.

        Args:
            row: Of the study.
            config: Of the run, as far as it is known.
            scored: The score run that it builds on, where that has succeeded.
        """
        size = self._size(row)
        if isinstance(size, str):
            return Cost(None, size)
        if isinstance(config, ScoreConfig):
            return self._score(row, config, size)
        summary = self._summary(row, size, scored)
        estimate = kind_named(row.kind).cost
        if isinstance(config, UnlearnConfig) and estimate:
            cost = estimate(config, summary, size.samples, None, self._past)
            return Cost(cost.seconds, self._basis(f"{cost.updates:,} updates, {cost.basis}"), cost.memory)
        if isinstance(config, ExperimentConfig) and estimate:
            cost = estimate(config, summary, size.samples, self._past)
            return Cost(cost.seconds, self._basis(cost.basis))
        return self._by_earlier(row, config, summary, size)

    def _size(self, row: Row) -> Size | str:
        """Return how large the work of a row is, or what is missing to say so."""
        pair = row.pair
        if id(pair) not in self._sizes:
            model = ModelConfig.model_validate(pair.model)
            samples = ForgetSetConfig.model_validate(pair.forget_set)
            self._sizes[id(pair)] = size_of(row, model, samples)
        return self._sizes[id(pair)]

    def _score(self, row: Row, config: ScoreConfig, size: Size) -> Cost:
        if row not in self._scores:
            self._scores[row] = self._score_anew(config, size)
        return self._scores[row]

    def _score_anew(self, config: ScoreConfig, size: Size) -> Cost:
        model = config.model.location
        estimate = kind_named("score").cost
        if self._pace is None and model and is_here(config.forget_set.source) and estimate:
            cost = estimate(read(config.forget_set), model, config.estimator, self._past)
            return Cost(cost.seconds, f"{cost.evaluations} evaluations, {cost.basis}")
        evaluations = usual_evaluations(config.estimator)
        passes = sum(passes_of(config.estimator, size.samples, evaluations).values())
        work = passes * forward_flops(size.parameters, size.tokens)
        return Cost(START_UP_SECONDS + work / self._usual_pace, self._basis(f"{evaluations} evaluations"))

    def _summary(self, row: Row, size: Size, scored: Run | None) -> ScoreSummary:
        """Return the figures of the score run, or those that it will probably have."""
        real = ScoreSummary.of(scored) if scored is not None else None
        if real is not None and self._pace is None:
            return real
        assert row.score is not None  # score runs have a cost of their own
        config = row.score.config()
        assert isinstance(config, ScoreConfig)
        evaluations = usual_evaluations(config.estimator)
        expected = ScoreSummary(
            n_samples=size.samples,
            tokens=size.tokens,
            scored_tokens=size.answer_tokens,
            model_parameters=size.parameters,
            evaluations=evaluations,
        )
        pace = self._pace or self._pace_of_scoring(row.score, config, size)
        if pace is None:
            return expected
        seconds = (evaluations + PLANNING_EVALUATIONS) * forward_flops(size.parameters, size.tokens) / pace
        return expected.model_copy(update={"seconds": seconds, "device": queue_of(config.device)})

    def _pace_of_scoring(self, row: Row, config: ScoreConfig, size: Size) -> float | None:
        """Return operations per second of what a score run is expected to take; None where that is not known."""
        seconds = self._score(row, config, size).seconds
        if seconds is None or seconds <= START_UP_SECONDS:
            return None
        passes = sum(passes_of(config.estimator, size.samples, usual_evaluations(config.estimator)).values())
        return passes * forward_flops(size.parameters, size.tokens) / (seconds - START_UP_SECONDS)

    def _by_earlier(self, row: Row, config: RunConfig, summary: ScoreSummary, size: Size) -> Cost:
        """Return the cost of a run whose kind has no estimate: by an earlier one, or by an evaluation's work."""
        samples = _asked(row, config, size) if isinstance(config, EvaluateConfig) else size.samples
        for run in self._past:
            done = run.summary or {}
            is_alike = run.kind == row.kind and run.model == _called(row)
            if is_alike and done.get("seconds") and done.get("n_samples"):
                return Cost(float(done["seconds"]) / done["n_samples"] * samples, f"the pace of run {run.id}")
        if not isinstance(config, EvaluateConfig):
            return Cost(None, "nothing of the kind has been run here yet")
        suite = suites()[config.suite]
        # Of choices only the likelihoods are read.
        written = 0 if suite.kind == "choices" else config.max_new_tokens or suite.max_new_tokens
        read_tokens = 2 * (row.expected.tokens or size.tokens / size.samples)
        work = forward_flops(size.parameters, round(samples * (read_tokens + written)))
        basis = f"{samples:,} samples, up to {written} written tokens each, by operations: writing takes longer"
        pace = self._usual_pace
        if summary.seconds:
            evaluations = summary.evaluations + PLANNING_EVALUATIONS
            pace = evaluations * forward_flops(size.parameters, size.tokens) / summary.seconds
        return Cost(START_UP_SECONDS + work / pace, self._basis(basis))

    @property
    def _usual_pace(self) -> float:
        return self._pace or OPERATIONS_PER_SECOND_AND_CORE * (os.cpu_count() or 1)

    def _basis(self, basis: str) -> str:
        if self._pace is None:
            return basis
        stated = f"{self._pace:.3g} operations/s"
        return basis.replace(PACE_OF_SCORING, stated) if PACE_OF_SCORING in basis else f"{basis}, {stated}"


def size_of(row: Row, model: ModelConfig, samples: ForgetSetConfig) -> Size | str:
    """Return how large the work on a forget set is, or what is missing to say so.

    What is on this machine is looked at; of what is not, the study has to say it.
    """
    expected, location = row.pair.expected, model.location
    parameters = parameter_count(location) if location else expected.parameters
    if parameters is None:
        return f"the size of {model.source} is not known here: state its expects.parameters"
    if is_here(samples.source):
        return Size(*_lengths(read(samples)), parameters)
    if expected.samples is None or expected.tokens is None:
        return f"the size of {samples.source} is not known here: state its expects.samples and expects.tokens"
    answer = expected.answer_tokens or SHARE_OF_THE_ANSWER * expected.tokens
    return Size(
        expected.samples, round(expected.samples * expected.tokens), round(expected.samples * answer), parameters
    )


def total(costs: Sequence[Cost]) -> Cost:
    """Return what runs cost together, and how many of them are not known."""
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    unknown = len(costs) - len(known)
    return Cost(sum(known), f"and {unknown} of unknown cost" if unknown else "")


def _lengths(samples: ForgetSet) -> tuple[int, int, int]:
    """Return about how many samples, tokens, and tokens of answers there are."""
    characters = [float(samples.frame[name].str.len().sum()) for name in ("prompt", "answer")]
    template = TEMPLATE_TOKENS * len(samples)
    return (
        len(samples),
        round(sum(characters) / CHARACTERS_PER_TOKEN) + template,
        max(1, round(characters[1] / CHARACTERS_PER_TOKEN)),
    )


def _asked(row: Row, config: EvaluateConfig, size: Size) -> int:
    """Return how many samples an evaluation asks, of all its sets."""
    if row.expected.samples is not None:
        return row.expected.samples
    sets = 1 + sum(getattr(config, name) is not None for name in (RETAIN, HELD_OUT))
    return sets * min(size.samples, config.limit or size.samples)


def _called(row: Row) -> str:
    source = ModelConfig.model_validate(row.pair.model).source
    return "the demo model" if source == "demo" else Path(source).name
