"""Selection bias (Feng et al., Fig. 2): methods are compared on several selections of the forget set."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product, starmap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.experiments.config import Arm, UnlearningExperimentConfig
from mrd_core.experiments.experiment import UNLEARNING_COLUMNS, Column, Done, Experiment, Material, Part
from mrd_core.experiments.files import Row
from mrd_core.experiments.learning_rates import SHARED, Case, LearningRates
from mrd_core.experiments.passes import ALONE, TRIED_ALONE, TRIED_TOGETHER, searched, unlearning_passes
from mrd_core.model.encoding import IntArray
from mrd_core.scoring.columns import MRD_ANSWER_MEAN, SCORE_COLUMNS
from mrd_core.scoring.measures import MEASURES
from mrd_core.unlearning.config import MOST_RETAIN_MEASURED, MethodName

if TYPE_CHECKING:
    from mrd_core.experiments.unlearner import UnlearningResult
    from mrd_core.runs import JobContext

SCHEMES = ("random", "balanced")
# What samples can be balanced by.
_NUMBERS = {column.name for column in SCORE_COLUMNS if column.dtype != "str"} | set(MEASURES)
# Other single samples, and other groups, that a learning rate is found by.
OTHER_SINGLES, OTHER_GROUPS = 5, 2
# So that a single sample and a group differ, and a third of the samples is one at least.
FEWEST = 4


SELECTION = Part(
    "selection",
    UNLEARNING_COLUMNS
    | {
        "scheme": Column("text", "How samples were chosen: random, or balanced by difficulty."),
        "size": Column("number", "Samples of the selection."),
        "selection": Column("number", "Its number among those of a scheme and size."),
        "sample_ids": Column("list", "Its samples."),
        "mean_mrd": Column("number", "Mean over them of the column that selections are balanced by."),
        "forget_accuracy": Column("number", "Their mean MA at the end; None where it diverged."),
        "forget_nll": Column("number", "Their NLL at the end [nats per answer token]."),
        "retain_accuracy": Column("number", "Mean MA on the retain set; None without one."),
        "retain_nll": Column("number", "Mean NLL on the retain set [nats per answer token]."),
    },
)


class SelectionConfig(UnlearningExperimentConfig):
    """Methods are compared on several random selections: does the choice of samples change who wins?"""

    kind: Literal["selection"] = "selection"
    selections: int = Field(
        5, ge=2, description="Random selections of each kind, and as many that are balanced by difficulty."
    )
    size: int = Field(
        40,
        ge=2,
        description="Samples of a group; single samples are selected too.",
        json_schema_extra={"unit": "samples"},
    )
    column: str = Field(MRD_ANSWER_MEAN, description="Column of the scores that selections are balanced by.")

    @field_validator("column")
    @classmethod
    def _is_a_number(cls, column: str) -> str:
        if column not in _NUMBERS:
            raise ValueError(f"there is no such number of the scores; {MRD_ANSWER_MEAN} is one")
        return column

    @field_validator("methods")
    @classmethod
    def _can_be_compared(cls, methods: tuple[MethodName, ...]) -> tuple[MethodName, ...]:
        if len(methods) < 2:
            raise ValueError("name two methods at least")
        return methods


def passes(config: SelectionConfig, n_samples: int) -> float:
    """Return the forward passes of one sample that the experiment takes on a forget set of `n_samples`."""
    size, schemes = min(config.size, max(n_samples // 2, 1)), len(SCHEMES)
    alone = ALONE * (schemes * config.selections + searched(config, TRIED_ALONE))
    together = size * (schemes * config.selections + searched(config, TRIED_TOGETHER))
    looks = MOST_RETAIN_MEASURED * 2 * schemes * config.selections * len(config.arms) if config.retain else 0
    return looks + (alone + together) * sum(unlearning_passes(config, method) for method, _ in config.arms)


class Selection:
    """Random selections and selections balanced by difficulty are unlearned. See `experiment.Study`."""

    def __init__(self, config: SelectionConfig, material: Material, context: JobContext) -> None:
        from mrd_core.experiments.unlearner import Unlearner

        self._config = config
        self._unlearner = Unlearner(config, material, context)
        self._warnings: list[str] = []
        if config.column not in material.scores:
            raise UserError(
                f"The column {config.column}",
                "is not among the scores.",
                f"Balance by another, such as {MRD_ANSWER_MEAN}.",
            )
        values = material.scores[config.column].loc[list(self._unlearner.forget.sample_ids)]
        # What selections are balanced by, of each forget sample, shape (N,).
        self._difficulty: FloatArray = values.to_numpy(dtype=np.float64)
        self._pool = self._scored()
        # What is forgotten before the first update takes none at any learning rate, and tells nothing of them.
        known = self._pool[self._unlearner.start.accuracy[self._pool] >= config.accuracy]
        self._telling = known if len(known) >= FEWEST else self._pool
        self._size = self._group_size()
        self._before = self._unlearner.retained()
        cases = list(starmap(Case, product(config.arms, (1, self._size))))
        self._rates = LearningRates(
            config, cases, self._unlearner.parameters, self._calibrate, others=self._others_in_words
        )
        # First the search for learning rates, then selection after selection, the same ones for every method.
        self.measurements = self._rates.measurements | {
            f"{scheme} {size} {number} {arm.method} {arm.optimiser}": partial(
                self._measured, scheme, size, number, arm
            )
            for scheme, size, number, arm in product(
                SCHEMES, (1, self._size), range(config.selections), config.arms
            )
        }

    def _measured(self, scheme: str, size: int, number: int, arm: Arm, done: Done) -> list[Row]:
        """Unlearn a selection."""
        rate = self._rates.rate(Case(arm, size), done)
        chosen = self._chosen(scheme, size, number)
        ended = self._unlearner.unlearn(arm, rate, chosen, scheme, size, number)
        retained = None if ended.diverged else self._unlearner.retained()
        return [
            SELECTION.row(
                scheme=scheme,
                size=size,
                selection=number,
                **arm._asdict(),
                learning_rate=rate,
                sample_ids=[self._unlearner.forget.sample_ids[i] for i in chosen],
                mean_mrd=float(self._difficulty[chosen].mean()),
                **ended.row,
                forget_accuracy=ended.accuracy,
                forget_nll=ended.nll,
                retain_accuracy=retained and retained[0],
                retain_nll=retained and retained[1],
            )
        ]

    def facts(self, done: Done) -> dict[str, Any]:
        """Return what was chosen and why, and MA and NLL of the retain set before unlearning."""
        # Where learning rates are found by samples that are studied.
        apart = all(map(self._is_apart, (1, self._size))) or self._config.learning_rate != "auto"
        shared = [] if apart else [SHARED]
        return {
            "reasons": self._unlearner.reasons | self._rates.reasons(done),
            "warnings": self._unlearner.warnings + self._warnings + shared + self._rates.warnings(done),
            "learning_rates": self._rates.listed(done),
            "size": self._size,
            "retain_accuracy_before": self._before and self._before[0],
            "retain_nll_before": self._before and self._before[1],
        }

    def _scored(self) -> IntArray:
        """Return the samples whose difficulty is defined, in the ascending order of the column."""
        order = np.argsort(self._difficulty, kind="stable")
        pool: IntArray = order[np.isfinite(self._difficulty[order])]
        if len(pool) < FEWEST:
            raise UserError(
                "The forget set",
                f"has {len(pool)} samples whose {self._config.column} is defined: too few to select from.",
                f"Use a forget set of {FEWEST} samples at least, or another column.",
            )
        if len(pool) < len(order):
            self._warnings.append(
                f"{len(order) - len(pool)} of {len(order)} samples are never selected: their "
                f"{self._config.column} is undefined."
            )
        return pool

    def _group_size(self) -> int:
        wanted, most = self._config.size, len(self._pool) // 2
        if wanted > most:
            self._warnings.append(
                f"Groups have {most} samples and not {wanted}: of {len(self._pool)} samples, selections of more "
                "than half would be nearly the same."
            )
        return min(wanted, most)

    def _chosen(self, scheme: str, size: int, selection: int) -> IntArray:
        generator = np.random.default_rng(self._config.seed_of(scheme, size, selection))
        return (balanced if scheme == "balanced" else unbiased)(self._pool, size, generator)

    def _others_in_words(self, case: Case) -> str:
        assert case.size is not None
        count, what = len(self._other(case.size)), "samples" if case.size == 1 else "groups"
        return f"{count} {'other' if self._is_apart(case.size) else 'of the studied'} {what}"

    def _left(self, size: int) -> IntArray:
        """Return the samples that have something to forget and are in no studied selection of this size."""
        studied = [
            self._chosen(scheme, size, selection)
            for scheme, selection in product(SCHEMES, range(self._config.selections))
        ]
        left: IntArray = np.setdiff1d(self._telling, np.concatenate(studied))
        return left

    def _is_apart(self, size: int) -> bool:
        return len(self._left(size)) >= _wanted(size) * size

    def _other(self, size: int) -> list[IntArray]:
        """Return selections that are not studied or, where too few samples are left for that, any."""
        wanted = _wanted(size)
        pool = self._left(size) if self._is_apart(size) else self._telling
        generator = np.random.default_rng(self._config.seed_of("other", size))
        drawn = generator.permutation(pool)[: wanted * size]
        return [drawn[start : start + size] for start in range(0, len(drawn), size)]

    def _calibrate(self, case: Case, rate: float) -> Iterator[tuple[dict[str, Any], UnlearningResult]]:
        assert case.size is not None  # each case of this experiment has one
        for number, chosen in enumerate(self._other(case.size)):
            ended = self._unlearner.unlearn(case.arm, rate, chosen, "other", case.size, number)
            yield {"selection": number}, ended


def _wanted(size: int) -> int:
    return OTHER_SINGLES if size == 1 else OTHER_GROUPS


def unbiased(pool: IntArray, size: int, generator: np.random.Generator) -> IntArray:
    """Return `size` of `pool` at random, without replacement."""
    chosen: IntArray = generator.choice(pool, size, replace=False)
    return chosen


def balanced(ranked: IntArray, size: int, generator: np.random.Generator) -> IntArray:
    """Return one sample of each of `size` consecutive blocks, or a single one of the middle third.

    Args:
        ranked: Samples in the order of their difficulty, at least `size`.
        size: How many to choose.
        generator: Of the draws.
    """
    if size == 1:
        third = len(ranked) // 3
        return generator.choice(ranked[third : len(ranked) - third], 1)
    return np.array([generator.choice(block) for block in np.array_split(ranked, size)])


EXPERIMENT = Experiment(
    SelectionConfig, figure="Fig. 2", place=3, parts=(SELECTION,), passes=passes, study=Selection
)
