"""Parameter change (Feng et al., Fig. 3): composites of samples are unlearned, and the weights move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from mrd_core.experiments.config import Arm, Methods, UnlearningExperimentConfig
from mrd_core.experiments.experiment import UNLEARNING_COLUMNS, Column, Done, Experiment, Material, Part
from mrd_core.experiments.files import Row
from mrd_core.experiments.learning_rates import Case, LearningRates
from mrd_core.experiments.passes import TRIED_TOGETHER, searched, unlearning_passes
from mrd_core.model.encoding import EncodedSample, IntArray
from mrd_core.unlearning.methods import METHODS

if TYPE_CHECKING:
    from mrd_core.experiments.unlearner import UnlearningResult
    from mrd_core.runs import JobContext

# Other composites that a learning rate is found by.
OTHERS = 2
# Samples that follow on one another may lose so much of their MA and still count as the text that was memorised.
MOST_LOST = 0.1


COMPOSITE = Part(
    "composite",
    UNLEARNING_COLUMNS
    | {
        "composite": Column("number", "Number of the composite."),
        "sample_ids": Column("list", "Its samples, each as often as it was drawn."),
        "joined": Column("flag", "Whether they are one text; else a batch."),
        "mean_absolute_change": Column("number", "Mean over all weights of |θ' − θ|; None where it diverged."),
        "accuracy": Column("number", "Mean MA at the end; None where it diverged."),
    },
)


class ParameterChangeConfig(UnlearningExperimentConfig):
    """Composites of samples are unlearned: how far do the weights move?"""

    kind: Literal["parameter-change"] = "parameter-change"
    methods: Methods = ("ga",)
    composites: int = Field(60, ge=4, description="Composites.")
    size: int = Field(
        40,
        ge=1,
        description="Samples of a composite, drawn with replacement.",
        json_schema_extra={"unit": "samples"},
    )


def passes(config: ParameterChangeConfig, _n_samples: int) -> float:
    """Return the forward passes of one sample that the experiment takes on a forget set of any size."""
    unlearnings = config.composites + searched(config, TRIED_TOGETHER)
    return config.size * unlearnings * sum(unlearning_passes(config, method) for method, _ in config.arms)


class ParameterChange:
    """Composites of samples, drawn with replacement, are unlearned. See `experiment.Study`."""

    def __init__(self, config: ParameterChangeConfig, material: Material, context: JobContext) -> None:
        from mrd_core.experiments.unlearner import Unlearner

        self._config = config
        self._unlearner = Unlearner(config, material, context)
        cases, source = [Case(arm) for arm in config.arms], f"{OTHERS} composites drawn apart"
        self._rates = LearningRates(
            config, cases, self._unlearner.parameters, self._calibrate, others=lambda _case: source
        )
        # First the search for learning rates, then composite after composite.
        self.measurements = self._rates.measurements | {
            f"composite {number} {arm.method} {arm.optimiser}": partial(self._measured, number, arm)
            for number, arm in product(range(config.composites), config.arms)
        }

    def _measured(self, composite: int, arm: Arm, done: Done) -> list[Row]:
        """Unlearn a composite."""
        rate = self._rates.rate(Case(arm), done)
        text = self._joined(composite, arm)
        ended = self._unlearn(composite, arm, text, rate)
        return [
            COMPOSITE.row(
                composite=composite,
                **arm._asdict(),
                learning_rate=rate,
                sample_ids=[self._unlearner.forget.sample_ids[i] for i in self._drawn(composite)],
                joined=text is not None,
                **ended.row,
                mean_absolute_change=None if ended.diverged else self._unlearner.mean_absolute_change(),
                accuracy=ended.accuracy,
            )
        ]

    def facts(self, done: Done) -> dict[str, Any]:
        """Return what was chosen and why."""
        rows = [row for rows in done.values() for row in rows if row["part"] == COMPOSITE.name]
        texts, why = sum(bool(row["joined"]) for row in rows), self._why_batches or "a refusal answers one prompt"
        form = "one text each (all fit the context, and the model recalls them)"
        if texts < len(rows):
            form = f"{texts} texts, {len(rows) - texts} batches ({why})" if texts else f"one batch each ({why})"
        warnings = self._unlearner.warnings + self._rates.warnings(done)
        if unmoved := sum(row["updates"] == 0 and row["forgotten"] for row in rows):
            warnings.append(
                f"{unmoved} of {len(rows)} unlearnings took no update, so that no weight moved: before the first "
                "one the composite counts as forgotten. Texts that follow on one another may not be recalled as "
                "each alone is."
            )
        return {
            "reasons": self._unlearner.reasons | self._rates.reasons(done) | {"composites": form},
            "warnings": warnings,
            "learning_rates": self._rates.listed(done),
        }

    def _drawn(self, composite: int) -> IntArray:
        """Return the samples of a composite, drawn with replacement; it has its own seed, whatever its number."""
        generator = np.random.default_rng(self._config.seed_of("composite", composite))
        return generator.integers(len(self._unlearner.forget), size=self._config.size)

    def _joined(self, composite: int, arm: Arm) -> EncodedSample | None:
        """Return a composite as one text; None where it is a batch."""
        # A refusal answers one prompt.
        if METHODS[arm.method].has_refusals or self._why_batches:
            return None
        return self._text(composite)

    def _text(self, composite: int) -> EncodedSample | None:
        samples = [self._unlearner.forget.samples[i] for i in self._drawn(composite)]
        return joined(samples, self._unlearner.context_tokens)

    @cached_property
    def _why_batches(self) -> str:
        """Why no composite is one text, "" where all are: texts and batches could not be compared."""
        for composite in range(self._config.composites + OTHERS):
            text = self._text(composite)
            if text is None:
                return "as one text, some would be longer than the context"
            alone = float(self._unlearner.start.accuracy[self._drawn(composite)].mean())
            if self._unlearner.recalled(text) < alone - MOST_LOST:
                return "as one text, some are not recalled by the model as their samples are"
        return ""

    def _unlearn(self, composite: int, arm: Arm, text: EncodedSample | None, rate: float) -> UnlearningResult:
        texts = self._drawn(composite) if text is None else [text]
        return self._unlearner.unlearn(arm, rate, texts, "composite", composite)

    def _calibrate(self, case: Case, rate: float) -> Iterator[tuple[dict[str, Any], UnlearningResult]]:
        for number in range(self._config.composites, self._config.composites + OTHERS):
            text = self._joined(number, case.arm)
            yield {"composite": number}, self._unlearn(number, case.arm, text, rate)


def joined(samples: Sequence[EncodedSample], context: int) -> EncodedSample | None:
    """Return samples one after the other as one text, with the answers of all scored.

    Args:
        samples: At least one.
        context: Longest text [tokens].

    Returns:
        The text; None where it is longer than the context.
    """
    if sum(len(sample.tokens) for sample in samples) > context:
        return None
    # Nobody asks for the prediction of the next sample's first token.
    answer = np.concatenate([np.append(sample.answer, False) for sample in samples])[:-1]
    return EncodedSample(
        tokens=np.concatenate([sample.tokens for sample in samples]),
        answer=answer,
        pieces=tuple(piece for sample in samples for piece in sample.pieces),
        truncated=any(sample.truncated for sample in samples),
    )


EXPERIMENT = Experiment(
    ParameterChangeConfig, figure="Fig. 3", place=2, parts=(COMPOSITE,), passes=passes, study=ParameterChange
)
