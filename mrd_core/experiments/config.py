"""What the configurations of experiments have in common: `config.json` of a run directory. Loads no torch."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.measures import KNOWN
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.fields import RunPath
from mrd_core.settings.options import DATA_SET
from mrd_core.unlearning.config import LORA_ALPHA, MethodName
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed

Optimiser = Literal["adamw", "sgd", "normalised-sgd", "sign-sgd"]
Methods = Annotated[
    tuple[MethodName, ...], Field(min_length=1, description=f"Unlearning methods: {', '.join(METHODS)}.")
]

OPTIMISERS: dict[Optimiser, str] = {
    "adamw": "AdamW",
    "sgd": "SGD",
    "normalised-sgd": "Normalised SGD",
    "sign-sgd": "signSGD",
}


class Arm(NamedTuple):
    """A method with an optimiser."""

    method: MethodName
    optimiser: Optimiser

    @property
    def label(self) -> str:
        """What people call it: `GradDiff with SGD`."""
        return f"{METHODS[self.method].label} with {OPTIMISERS[self.optimiser]}"


class ExperimentConfig(RunConfig):
    """What all experiments share."""

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
        description="The model: `demo`, a local folder, a GGUF file or a hub id. Not with a score run, which has "
        "its own.",
    )
    estimator: EstimatorConfig = Field(
        EstimatorConfig(),
        description="How MRD is measured; as in the score run where there is one.",
        json_schema_extra={"option": None},
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything that is drawn at random.")

    @property
    def title(self) -> str:
        """Return experiment, samples and model in a few words."""
        scored = ScoreConfig(forget_set=self.forget_set, model=self.model)
        return f"{self.kind.replace('-', ' ').capitalize()}: {scored.title}"

    def seed_of(self, *keys: str | int) -> int:
        """Return a seed below 2⁶³ that depends on that of the experiment and on the names of what it is for."""
        key = "/".join(map(repr, (self.seed, *keys))).encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


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
    lora_rank: int | None = Field(
        None,
        ge=1,
        description=f"Train a fresh LoRA adapter of this rank each time, α = {LORA_ALPHA}; by default all "
        "weights.",
    )
    accuracy: float = Field(
        KNOWN,
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
    def arms(self) -> list[Arm]:
        """Every method with every optimiser."""
        return [Arm(method, optimiser) for method in self.methods for optimiser in self.optimisers]
