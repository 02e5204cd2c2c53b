"""Predictive validity (Feng et al., Fig. 4): samples are unlearned one by one, and their updates are counted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from mrd_core.experiments.config import ValidityConfig
from mrd_core.experiments.files import Row
from mrd_core.experiments.job import Done, Material
from mrd_core.experiments.learning_rates import SHARED, Case, LearningRates
from mrd_core.experiments.unlearner import Arm, Unlearner, UnlearningResult, derived_seed
from mrd_core.model.encoding import IntArray
from mrd_core.runs import JobContext

# Other samples that a learning rate is found by.
OTHERS = 5


class _Work(NamedTuple):
    """One unlearning."""

    sample: int
    arm: Arm
    repeat: int


class Validity:
    """Each of n samples is unlearned alone, by every method with every optimiser. See `job.Experiment`."""

    def __init__(self, config: ValidityConfig, material: Material, context: JobContext) -> None:
        self._config = config
        self._unlearner = Unlearner(config, material, context)
        order = shuffled(len(self._unlearner.forget), derived_seed(config.seed, "samples"))
        self._studied = order[: config.samples]
        self._others, self._on_studied = others(order, config.samples, OTHERS)
        self._rates = LearningRates(
            config.learning_rate,
            [Case(Arm(*arm)) for arm in config.arms],
            parameters=self._unlearner.parameters,
            unlearn=self._calibrate,
            others=lambda _case: f"{len(self._others)} {'studied' if self._on_studied else 'other'} samples",
            max_updates=config.max_updates,
        )
        works = [
            _Work(int(sample), arm, repeat)
            for sample, arm in product(self._studied, (Arm(*arm) for arm in config.arms))
            for repeat in range(config.repeats_of(arm.method))
        ]
        self._work = {
            f"unlearning {self._id(work.sample)} {work.arm.method} {work.arm.optimiser} {work.repeat}": work
            for work in works
        }

    @property
    def units(self) -> list[str]:
        """First the search for learning rates, then sample after sample: what is done first is a sample too."""
        return [*self._rates.units, *self._work]

    def measure(self, unit: str, done: Done) -> list[Row]:
        """Try a learning rate, or unlearn a sample once."""
        if unit in self._rates.units:
            return self._rates.measure(unit, done)
        work = self._work[unit]
        rate = self._rates.rate(Case(work.arm), done)
        ended = self._unlearn(work.arm, rate, work.sample, work.repeat)
        return [
            {
                "part": "unlearning",
                **work.arm._asdict(),
                "learning_rate": rate,
                "sample_id": self._id(work.sample),
                "repeat": work.repeat,
                **ended.row,
                "accuracy": ended.accuracy,
                "nll": ended.nll,
                "trace": [round(accuracy, 4) for accuracy in ended.trace],
            }
        ]

    def facts(self, done: Done) -> dict[str, Any]:
        """Return what was chosen and why."""
        reasons = self._rates.reasons(done) | {"repeats": self._repeats_reason()}
        shared = [SHARED] if self._on_studied and self._config.learning_rate == "auto" else []
        return {
            "reasons": self._unlearner.reasons | reasons,
            "warnings": self._unlearner.warnings + shared + self._rates.warnings(done),
            "learning_rates": self._rates.listed(done),
            "studied": len(self._studied),
        }

    def _id(self, sample: int) -> str:
        return self._unlearner.forget.sample_ids[sample]

    def _repeats_reason(self) -> str:
        chance = [Arm(*arm).label for arm in self._config.arms if self._config.is_random(arm[0])]
        rest = [Arm(*arm).label for arm in self._config.arms if not self._config.is_random(arm[0])]
        parts = []
        if chance:
            parts.append(f"{self._config.repeats} ({', '.join(chance)}: retain partners or refusals are random)")
        if rest:
            parts.append(f"1 ({', '.join(rest)}: nothing is random, a repeat would be the same)")
        return ", ".join(parts)

    def _unlearn(self, arm: Arm, rate: float, sample: int, repeat: int) -> UnlearningResult:
        return self._unlearner.unlearn(arm, rate, np.array([sample]), self._id(sample), repeat)

    def _calibrate(self, case: Case, rate: float) -> Iterator[tuple[dict[str, Any], UnlearningResult]]:
        for sample in map(int, self._others):
            yield {"sample_id": self._id(sample)}, self._unlearn(case.arm, rate, sample, 0)


def shuffled(count: int, seed: int) -> IntArray:
    """Return 0 … count − 1 in random order."""
    return np.random.default_rng(seed).permutation(count)


def others(order: IntArray, studied: int, wanted: int) -> tuple[IntArray, bool]:
    """Return a few samples that are not among the first `studied` of `order`.

    Where fewer are left than `wanted`, any are taken; the second value says so.
    """
    left = order[studied:]
    return (left[:wanted], False) if len(left) >= wanted else (order[-wanted:], True)
