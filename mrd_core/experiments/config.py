"""The configurations of experiments, one kind of run each: `config.json` of its directory. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.columns import MRD_ANSWER_MEAN
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.fields import RunPath
from mrd_core.settings.options import DATA_SET
from mrd_core.unlearning.config import MethodName
from mrd_core.unlearning.methods import METHODS, parsed

Optimiser = Literal["adamw", "sgd", "normalised-sgd"]
Methods = Annotated[
    tuple[MethodName, ...], Field(min_length=1, description=f"Unlearning methods: {', '.join(METHODS)}.")
]

OPTIMISERS: dict[Optimiser, str] = {
    "adamw": "AdamW",
    "sgd": "SGD",
    "normalised-sgd": "Normalised SGD",
}


class ExperimentConfig(RunConfig):
    """What all experiments share.

    Attributes:
        name: Its name on the command line.
        figure: Where the paper has it.
    """

    name: ClassVar[str]
    figure: ClassVar[str]
    score_run: RunPath | None = Field(
        None,
        description="Score run whose samples and scores are used: its directory, or its id. Without one the "
        "forget set is scored first.",
        json_schema_extra={"option": "scores"},
    )
    forget_set: ForgetSetConfig = Field(
        description="The forget set: file, folder or hub data set. Not with a score run, which has its own."
    )
    model: ModelConfig = Field(
        ModelConfig(),
        description="The model: `demo`, a local folder, or a hub id. Not with a score run, which has its own.",
    )
    estimator: EstimatorConfig = Field(
        EstimatorConfig(),
        description="How MRD is measured; as in the score run where there is one.",
        json_schema_extra={"option": None},
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything that is drawn at random.")

    @property
    def device(self) -> str:
        """The device of the model."""
        return self.model.device

    @property
    def title(self) -> str:
        """Return a title for people."""
        scored = ScoreConfig(forget_set=self.forget_set, model=self.model)
        return f"{self.name.replace('-', ' ').capitalize()}: {scored.title}"


class UnlearningExperimentConfig(ExperimentConfig):
    """What the experiments share that unlearn samples, each time from the same starting weights."""

    methods: Methods = ("ga", "simnpo")
    optimisers: tuple[Optimiser, ...] = Field(
        ("adamw",), min_length=1, description=f"Optimisers: {', '.join(OPTIMISERS)}."
    )
    parameters: dict[str, float | str] = Field({}, description="Settings of the methods; by default their own.")
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="One learning rate for all methods and optimisers; `auto` finds one for each of them by the "
        "number of updates that other samples take, before any difficulty is looked at.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight decay.")
    accuracy: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Samples count as forgotten when their memorization accuracy (MA) is below this, of several "
        "the mean.",
    )
    max_updates: int = Field(
        200,
        ge=2,
        description="Most updates; what is not forgotten by then is censored.",
        json_schema_extra={"unit": "updates"},
    )
    retain: ForgetSetConfig | None = Field(
        None,
        description="Retain set: file, folder or hub data set; `demo` is the demo's own.",
        json_schema_extra={"option": "retain-set", "prefix": "retain-", "fields": DATA_SET},
    )

    @field_validator("methods", "optimisers")
    @classmethod
    def _are_different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("one is named twice")
        return names

    @model_validator(mode="after")
    def _has_what_its_methods_need(self) -> UnlearningExperimentConfig:
        needy = [METHODS[name].label for name in self.methods if METHODS[name].needs_retain]
        if needy and self.retain is None:
            raise ValueError(f"{needy[0]} needs a retain set: name one, or choose methods that do without")
        known = {parameter.name for name in self.methods for parameter in METHODS[name].parameters}
        unknown = next((name for name in self.parameters if name not in known), None)
        if unknown is not None:
            raise ValueError(f"no chosen method has a parameter {unknown}")
        for name in self.methods:
            self.parameters_of(name)
        return self

    def parameters_of(self, name: str) -> dict[str, Any]:
        """Return a value for every parameter of a method."""
        own = {parameter.name for parameter in METHODS[name].parameters}
        return parsed(METHODS[name], {key: value for key, value in self.parameters.items() if key in own})

    def retain_weight(self, name: str) -> float:
        """Return λ of a method's retain term: 0 where it has none, or there is no retain set."""
        method = METHODS[name]
        return 0.0 if method.retain == "none" or self.retain is None else method.default_retain_weight

    def is_random(self, name: str) -> bool:
        """Tell whether chance has a part in unlearning with a method: retain partners, refusals."""
        return METHODS[name].needs_refusals or self.retain_weight(name) > 0

    @property
    def arms(self) -> list[tuple[MethodName, Optimiser]]:
        """Every method with every optimiser."""
        return [(method, optimiser) for method in self.methods for optimiser in self.optimisers]


class ValidityConfig(UnlearningExperimentConfig):
    """Each of n samples is unlearned alone: does difficulty say how many updates that takes?"""

    name: ClassVar[str] = "validity"
    figure: ClassVar[str] = "Fig. 4"
    kind: Literal["validity"] = "validity"
    samples: int = Field(60, ge=4, description="Samples, drawn at random.", json_schema_extra={"unit": "samples"})
    repeats: int = Field(
        3, ge=1, description="Repeats where something is random (retain partner, refusal); else there is one."
    )

    def repeats_of(self, name: str) -> int:
        """Return how often a method unlearns each sample."""
        return self.repeats if self.is_random(name) else 1


class ParameterChangeConfig(UnlearningExperimentConfig):
    """Composites of samples are unlearned: how far do the weights move?"""

    name: ClassVar[str] = "parameter-change"
    figure: ClassVar[str] = "Fig. 3"
    kind: Literal["parameter-change"] = "parameter-change"
    methods: Methods = ("ga",)
    composites: int = Field(60, ge=4, description="Composites.")
    size: int = Field(
        40,
        ge=1,
        description="Samples of a composite, drawn with replacement.",
        json_schema_extra={"unit": "samples"},
    )


class SelectionConfig(UnlearningExperimentConfig):
    """Methods are compared on several random selections: does the choice of samples change who wins?"""

    name: ClassVar[str] = "selection"
    figure: ClassVar[str] = "Fig. 2"
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

    @field_validator("methods")
    @classmethod
    def _can_be_compared(cls, methods: tuple[MethodName, ...]) -> tuple[MethodName, ...]:
        if len(methods) < 2:
            raise ValueError("name two methods at least")
        return methods


class SensitivityConfig(ExperimentConfig):
    """MRD is measured at several σ and with many draws: from where to where does it hold?"""

    name: ClassVar[str] = "sensitivity"
    figure: ClassVar[str] = "Fig. 5"
    kind: Literal["sensitivity"] = "sensitivity"
    samples: int = Field(60, ge=4, description="Samples, drawn at random.", json_schema_extra={"unit": "samples"})
    sigmas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2), min_length=2, description="Values of σ."
    )
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = Field(
        ("float32", "bfloat16"), min_length=1, description="Precisions: float32, bfloat16."
    )
    pairs: int = Field(8, ge=2, description="Antithetic pairs at each σ.", json_schema_extra={"unit": "pairs"})
    draws: int = Field(
        100,
        ge=8,
        description="Evaluations of the study of K, plain and in pairs.",
        json_schema_extra={"unit": "evaluations"},
    )
    sigma: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="σ of the study of K; `auto` is that of the scores."
    )


class TheoremConfig(ExperimentConfig):
    """MRD/σ² is held against the trace of the Hessian, which Theorem 3.2 says it is."""

    name: ClassVar[str] = "theorem"
    figure: ClassVar[str] = "Theorem 3.2"
    kind: Literal["theorem"] = "theorem"
    samples: int = Field(12, ge=4, description="Samples, drawn at random.", json_schema_extra={"unit": "samples"})
    probes: int = Field(32, ge=4, description="Random vectors of Hutchinson's estimate for each sample.")
    pairs: int = Field(
        32,
        ge=4,
        description="Antithetic pairs of MRD, with noise of their own.",
        json_schema_extra={"unit": "pairs"},
    )
    sigma: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-4, description="σ of MRD; in double precision it may be small, well inside the quadratic regime."
    )


EXPERIMENTS: dict[str, type[ExperimentConfig]] = {
    config.name: config
    for config in (ValidityConfig, ParameterChangeConfig, SelectionConfig, SensitivityConfig, TheoremConfig)
}
