"""What a score run is told: samples, model, estimator."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.settings.configuration import Frozen, RunConfig

# Backward passes of each part that share one forward pass of a unit of sign probes, in each scope.
SIGNS = 2


class Normalisation(StrEnum):
    """Sum over the scored tokens (the authors' code) or mean over them (the paper's text)."""

    MEAN = "mean"
    SUM = "sum"


class Formula(StrEnum):
    """Variants of the score; all are computed from the same stored draws."""

    MRD = "mrd"
    MEAN_ABSOLUTE = "mean_absolute"
    INITIAL = "initial"


class EstimatorConfig(Frozen):
    """How MRD is estimated (Feng et al., Eq. 4 and Algorithm 1)."""

    preset: Literal["recommended", "paper"] = Field(
        "recommended",
        description="`recommended`: antithetic pairs and sign probes, calibrated σ, stops when good enough. "
        "`paper`: plain draws at σ = 1e-5, K = 200, as published; expect a ranking that is mostly noise.",
    )
    mode: Literal["antithetic", "plain"] = Field(
        "antithetic", description="`antithetic`: noise in pairs (δ, −δ). `plain`: independent draws, as published."
    )
    sigma: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = Field(
        "auto",
        description="Standard deviation σ of the noise; `auto` lets a pilot choose one in the quadratic regime: "
        "so small that it does not bias the sign probes, or the largest where there are none. In fp32 that regime "
        "reached from 1e-5 to 1e-3 on a small model and on one of 135 million weights.",
    )
    draws: int = Field(
        192,
        ge=4,
        le=100_000,
        description="Cap on perturbed forward evaluations; an antithetic pair is two.",
        json_schema_extra={"unit": "evaluations"},
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the noise.")
    probes: bool = Field(
        True,
        description="Measure the largest part of MRD, the speed of the log-odds, by backward passes with random "
        "signs instead of by noise (antithetic mode only): on three models a ranking is as reliable for a third "
        "to three fifths of the passes.",
    )
    preview: bool = Field(
        False,
        description="Rank by speed + spread, two of the three parts of MRD, by sign probes alone: no noise, no σ, "
        "no pilot. Not MRD.",
    )
    stop: Literal["auto", "precision", "reliability", "never"] = Field(
        "auto",
        description="Stop before the cap when the errors are small (`precision`), when the ranking is reliable "
        "(`reliability`), or `never`. `auto`: when it is reliable, or the errors are half of what they may be; "
        "with fewer than 20 samples when the errors are small.",
    )
    median_relative_se: float = Field(0.03, gt=0, description="Precision target: median over samples of SE / MRD.")
    p90_relative_se: float = Field(
        0.06, gt=0, description="Precision target: 90th percentile over samples of SE / MRD."
    )
    reliability: float = Field(
        0.95, gt=0, lt=1, description="Reliability target (Spearman–Brown of split halves), when chosen."
    )
    scope: Scope = Field(Scope.ANSWER, description="Score the answer tokens and EOS, or every token.")
    normalisation: Normalisation = Field(
        Normalisation.MEAN,
        description="Mean over the scored tokens, or their sum, which on three models ranked by length (ρ = 0.88 "
        "to 0.98).",
    )
    batch_tokens: int | Literal["auto"] = Field(
        "auto", description="Padded tokens per batch.", json_schema_extra={"unit": "tokens"}
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Processes that share out the draws, on GPUs each on one of its own; the result does not "
        "depend on it.",
    )
    device_memory: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Most memory of the device for the weights and their noise; by default what is free. Where it "
        "does not hold a second copy of the weights, noise is made a layer at a time, for all batches at once.",
        json_schema_extra={"unit": "GiB"},
    )
    compile: bool = Field(
        False,
        description="Compile the model for the draws (torch.compile). Takes a minute in each process and saves a "
        "tenth of an evaluation on a CPU, so it pays from several hundred evaluations on.",
    )
    gradient_norms: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Also measure the norm of each sample's gradient, which takes one backward pass. `auto`: yes.",
    )
    time_floor: bool = Field(
        False,
        description="Also time a few passes of the bare model, to compare the run with its floor.",
        json_schema_extra={"option": None},
    )

    @property
    def evaluations_per_unit(self) -> int:
        """Forward evaluations of one independent unit: two for an antithetic pair."""
        return 2 if self.mode == "antithetic" else 1

    @property
    def backward_passes_per_unit(self) -> int:
        """Backward passes of a unit of sign probes: of the speed, in a preview of the spread, too.

        In the full scope of the answer and of the prompt by itself.
        """
        parts = 2 if self.preview else 1
        return SIGNS * parts * (1 if self.scope is Scope.ANSWER else 2)

    @property
    def has_probes(self) -> bool:
        """Whether sign probes are asked for; plain draws have none."""
        return self.probes and self.mode == "antithetic"

    @field_validator("preview")
    @classmethod
    def _previews_without_noise(cls, preview: bool, others: ValidationInfo) -> bool:
        chosen = others.data
        if preview and not (chosen.get("probes", True) and chosen.get("mode") == "antithetic"):
            raise ValueError("a preview is made of sign probes: leave it out, or what excludes them")
        for name in ("sigma", "draws"):
            if preview and chosen.get(name) != cls.model_fields[name].default:
                raise ValueError(f"a preview draws no noise: leave it out, or `{name}`")
        return preview

    @classmethod
    def paper(cls, **changes: Any) -> EstimatorConfig:
        """Return the paper's published setting (σ = 1e-5, K = 200, plain Monte Carlo), with `changes`."""
        published = {
            "preset": "paper",
            "mode": "plain",
            "probes": False,
            "sigma": 1e-5,
            "draws": 200,
            "stop": "never",
        }
        return cls.model_validate(published | changes)


class ScoreConfig(RunConfig):
    """One score run."""

    kind: Literal["score"] = "score"
    forget_set: ForgetSetConfig = Field(json_schema_extra={"required": True})
    forget_set_digest: str | None = Field(
        None,
        description="Digest of the samples the run was launched with; a run refuses others.",
        json_schema_extra={"option": None},
    )
    model: ModelConfig = Field(
        ModelConfig(),
        description="The model: `demo`, a local folder (safetensors only), a GGUF file, or a hub id.",
        json_schema_extra={"required": True},
    )
    estimator: EstimatorConfig = EstimatorConfig()
    check: bool = Field(
        False,
        description="Go on with a short check, a run of its own, whether small MRD foretells many updates on this "
        "model: 40 samples are unlearned alone by gradient ascent.",
    )

    @model_validator(mode="after")
    def _has_mrd_to_check(self) -> ScoreConfig:
        if self.check and self.estimator.preview:
            raise ValueError("a preview has no MRD that could be checked: leave out the check or the preview")
        return self

    @property
    def most_gpus(self) -> int | None:
        """How many GPUs share out the draws; None: all."""
        return None if self.estimator.workers == "auto" else self.estimator.workers

    @property
    def title(self) -> str:
        """Return a title for people: `forget10.jsonl on my-llama`."""
        source = self.forget_set.source
        return f"{'Demo forget set' if source == 'demo' else Path(source).name} on {self.model.title}"
