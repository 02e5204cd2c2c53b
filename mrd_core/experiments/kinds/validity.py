"""Predictive validity (Feng et al., Fig. 4): samples are unlearned one by one, and their updates are counted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from mrd_core.arrays import BoolArray
from mrd_core.experiments.config import Arm, UnlearningExperimentConfig
from mrd_core.experiments.experiment import SAMPLE_ID, UNLEARNING_COLUMNS, Column, Done, Experiment, Material, Part
from mrd_core.experiments.files import Row
from mrd_core.experiments.learning_rates import SHARED, Case, LearningRates
from mrd_core.experiments.passes import ALONE, FISHER_SAMPLES, TRIED_ALONE, UPDATE, searched, unlearning_passes
from mrd_core.model.encoding import IntArray
from mrd_core.runs.files import json_value
from mrd_core.scoring.entanglement import entanglement, nearest
from mrd_core.scoring.measures import ENTANGLEMENT_MEASURES

if TYPE_CHECKING:
    from mrd_core.experiments.unlearner import UnlearningResult
    from mrd_core.runs import JobContext

# Other samples that a learning rate is found by.
OTHERS = 5
UNLEARNING = Part(
    "unlearning",
    UNLEARNING_COLUMNS
    | {
        "sample_id": SAMPLE_ID,
        "repeat": Column("number", "Which repeat it is, from 0."),
        "accuracy": Column("number", "Mean MA at the end; None where it diverged."),
        "nll": Column("number", "NLL at the end [nats per answer token]; None where it diverged."),
        "trace": Column("list", "MA before each update and after the last."),
        "retain_nll": Column(
            "list",
            "NLL of the retain samples at the end, in the order of the rows `retain` [nats per answer token]; "
            "None without any, and where it diverged.",
        ),
    },
)
RETAIN = Part(
    "retain",
    {
        "sample_id": Column("text", "A retain sample."),
        "nll": Column("number", "NLL before [nats per answer token]."),
    },
)
ENTANGLEMENT = Part(
    "entanglement",
    {
        "sample_id": SAMPLE_ID,
        "products": Column("list", "g_i·g_r with each retain sample, in the order of the rows `retain`."),
        "nearest": Column("list", "Retain samples of the largest cosine, at most three."),
        **{measure.name: Column("number", measure.help) for measure in ENTANGLEMENT_MEASURES.values()},
    },
)

FISHER = Part(
    "fisher",
    {
        "sample_id": SAMPLE_ID,
        "fisher_norm": Column("number", "gᵀ(F + λ)⁻¹g, F that of the retain set; None where it is undefined."),
    },
)


class ValidityConfig(UnlearningExperimentConfig):
    """Each of n samples is unlearned alone: does difficulty say how many updates that takes?"""

    kind: Literal["validity"] = "validity"
    samples: int = Field(60, ge=4, description="Samples, drawn at random.", json_schema_extra={"unit": "samples"})
    repeats: int = Field(
        3, ge=1, description="Repeats where something is random (retain partner, refusal); else there is one."
    )
    retain_samples: int = Field(
        40,
        ge=0,
        description="Retain samples, evenly spaced, whose loss is held against what is foretold; 0 for none.",
        json_schema_extra={"unit": "samples"},
    )

    def repeats_of(self, name: str) -> int:
        """Return how often a method unlearns each sample."""
        return self.repeats if self.is_random(name) else 1


def passes(config: ValidityConfig, n_samples: int) -> float:
    """Return the forward passes of one sample that the experiment takes on a forget set of `n_samples`."""
    samples = min(config.samples, n_samples)
    passes = ALONE * sum(
        unlearning_passes(config, method) * (samples * config.repeats_of(method) + searched(config, TRIED_ALONE))
        for method, _optimiser in config.arms
    )
    if config.retain:
        passes += ALONE * UPDATE * (samples + FISHER_SAMPLES)
    if config.retain and config.retain_samples:
        # A forward and a backward pass of each of the two sets, and a look after each unlearning.
        looks = samples * sum(config.repeats_of(method) for method, _optimiser in config.arms)
        passes += UPDATE * (samples + config.retain_samples) + looks * config.retain_samples
    return passes


class Validity:
    """Each of n samples is unlearned alone, by every method with every optimiser. See `experiment.Study`."""

    def __init__(self, config: ValidityConfig, material: Material, context: JobContext) -> None:
        from mrd_core.experiments.unlearner import Unlearner

        self._config = config
        self._unlearner = Unlearner(config, material, context)
        order = shuffled(len(self._unlearner.forget), config.seed_of("samples"))
        self._studied = order[: config.samples]
        known = self._unlearner.start.accuracy >= config.accuracy
        self._others, self._on_studied = others(order, config.samples, OTHERS, known)
        source = f"{len(self._others)} {'studied' if self._on_studied else 'other'} samples"
        cases = [Case(arm) for arm in config.arms]
        self._rates = LearningRates(
            config, cases, self._unlearner.parameters, self._calibrate, others=lambda _case: source
        )
        self._kept = config.retain_samples if self._unlearner.retain is not None else 0
        # First the search for learning rates, then sample after sample: what is done first is a sample too.
        self.measurements = ({"retain set": self._entangled} if self._kept else {}) | self._rates.measurements
        for sample, arm in product(map(int, self._studied), config.arms):
            for repeat in range(config.repeats_of(arm.method)):
                name = f"unlearning {self._id(sample)} {arm.method} {arm.optimiser} {repeat}"
                self.measurements[name] = partial(self._measured, sample, arm, repeat)
        if self._unlearner.retain is not None:
            self.measurements["fisher"] = self._fisher

    def _measured(self, sample: int, arm: Arm, repeat: int, done: Done) -> list[Row]:
        """Unlearn a sample once."""
        rate = self._rates.rate(Case(arm), done)
        ended = self._unlearn(arm, rate, sample, repeat)
        return [
            UNLEARNING.row(
                **arm._asdict(),
                learning_rate=rate,
                sample_id=self._id(sample),
                repeat=repeat,
                **ended.row,
                accuracy=ended.accuracy,
                nll=ended.nll,
                trace=[round(accuracy, 4) for accuracy in ended.trace],
                retain_nll=self._unlearner.retain_nll(self._kept) if self._kept and not ended.diverged else None,
            )
        ]

    def _fisher(self, done: Done) -> list[Row]:  # noqa: ARG002  (it builds on no measurement)
        """Measure the studied samples' gradients by the Fisher information of the retain set."""
        norms = self._unlearner.fisher_norms(self._studied)
        return [
            FISHER.row(sample_id=self._id(sample), fisher_norm=json_value(norm))
            for sample, norm in zip(map(int, self._studied), norms.tolist(), strict=True)
        ]

    def _entangled(self, _done: Done) -> list[Row]:
        """Foretell what the retain set loses by each sample, and look at what there is to lose."""
        pairs = self._unlearner.products(self._studied, self._kept)
        retain_ids = self._unlearner.retain_samples(self._kept).sample_ids
        columns = entanglement(pairs.inner, pairs.cosines, pairs.squared)
        near = nearest(pairs.cosines, retain_ids)
        return [
            *(
                RETAIN.row(sample_id=sample_id, nll=nll)
                for sample_id, nll in zip(retain_ids, self._unlearner.retain_nll(self._kept), strict=True)
            ),
            *(
                ENTANGLEMENT.row(
                    sample_id=self._id(sample),
                    products=list(pairs.inner[at]),
                    nearest=near[at],
                    **{name: float(values[at]) for name, values in columns.items()},
                )
                for at, sample in enumerate(map(int, self._studied))
            ),
        ]

    def facts(self, done: Done) -> dict[str, Any]:
        """Return what was chosen and why."""
        repeats = []
        for random, count, why in (
            (True, self._config.repeats, "retain partners or refusals are random"),
            (False, 1, "nothing is random, a repeat would be the same"),
        ):
            arms = [arm.label for arm in self._config.arms if self._config.is_random(arm.method) == random]
            repeats += [f"{count} ({', '.join(arms)}: {why})"] if arms else []
        reasons = self._rates.reasons(done) | {"repeats": ", ".join(repeats)}
        shared = [SHARED] if self._on_studied and self._config.learning_rate == "auto" else []
        return {
            "reasons": self._unlearner.reasons | reasons,
            "warnings": self._unlearner.warnings + shared + self._rates.warnings(done),
            "learning_rates": self._rates.listed(done),
            "studied": len(self._studied),
        }

    def _id(self, sample: int) -> str:
        return self._unlearner.forget.sample_ids[sample]

    def _unlearn(self, arm: Arm, rate: float, sample: int, repeat: int) -> UnlearningResult:
        return self._unlearner.unlearn(arm, rate, np.array([sample]), self._id(sample), repeat)

    def _calibrate(self, case: Case, rate: float) -> Iterator[tuple[dict[str, Any], UnlearningResult]]:
        for sample in map(int, self._others):
            yield {"sample_id": self._id(sample)}, self._unlearn(case.arm, rate, sample, 0)


def shuffled(count: int, seed: int) -> IntArray:
    """Return 0 … count − 1 in random order."""
    return np.random.default_rng(seed).permutation(count)


def others(order: IntArray, studied: int, wanted: int, known: BoolArray) -> tuple[IntArray, bool]:
    """Return a few samples that are not among the first `studied` of `order` and have something to forget.

    One that is forgotten before the first update takes none at any learning rate, and tells nothing of them.

    Args:
        order: Of all N samples.
        studied: How many of them are studied.
        wanted: How many are returned. Where fewer are left, any are taken; the second value says so.
        known: Which samples the model knows before the first update, shape (N,). Where it knows none, all count.
    """
    counting = known if known.any() else np.ones_like(known)
    left = order[studied:][counting[order[studied:]]]
    return (left[:wanted], False) if len(left) >= wanted else (order[counting[order]][-wanted:], True)


EXPERIMENT = Experiment(
    ValidityConfig,
    figure="Fig. 4",
    place=1,
    parts=(UNLEARNING, FISHER, RETAIN, ENTANGLEMENT),
    passes=passes,
    study=Validity,
)
