"""The configuration of an unlearning run: `config.json` of its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mrd_core.config import ForgetSetConfig, Frozen, ModelConfig, RunConfig
from mrd_core.unlearning.stopping import Checks, Limits

MethodName = Literal["ga", "graddiff", "po", "npo", "wga", "simimp", "satimp", "simnpo"]
SamplerName = Literal["uniform", "mrd", "easy-to-hard", "hard-to-easy", "column"]


class RetainConfig(Frozen):
    """What the model is to keep."""

    samples: ForgetSetConfig | None = Field(None, description="Retain set: file, folder or hub data set; `demo`.")
    weight: float | None = Field(None, ge=0, description="λ of the retain term; by default that of the method.")
    term: Literal["nll", "kl"] = Field(
        "nll",
        description="Retain term: `nll` of the retain answers, or `kl`, KL(p_ref ‖ p_θ) to the starting model.",
    )


class CurriculumConfig(Frozen):
    """Which forget sample is drawn when (Feng et al., Def. 3.3 and 3.4)."""

    sampler: SamplerName = Field("uniform", description="Order of the forget samples.")
    column: str = Field(
        "mrd_answer_mean",
        description="Column of the scores that weighs or sorts the samples, such as `mrd_answer_sum`.",
    )
    drop_forgotten: bool = Field(True, description="Take forgotten samples out of the pool.")


class OptimiserConfig(Frozen):
    """How the weights move."""

    name: Literal["adamw_torch", "sgd"] = Field(
        "adamw_torch", description="Optimiser, by its name in transformers."
    )
    learning_rate: float = Field(1e-5, gt=0, description="Learning rate; small models need more (1e-4 for 4 M).")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Learning rate over the steps."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    batch_size: int = Field(
        4, ge=1, description="Forget samples of one optimiser step.", json_schema_extra={"unit": "samples"}
    )
    micro_batch: int = Field(
        4,
        ge=1,
        description="Samples in memory at a time; the result does not depend on it.",
        json_schema_extra={"unit": "samples"},
    )
    gradient_checkpointing: bool = Field(False, description="Trade time for memory in the backward pass.")
    lora_rank: int | None = Field(None, ge=1, description="Train a LoRA adapter of this rank; None: all weights.")


class StoppingConfig(Frozen):
    """When a sample counts as forgotten."""

    accuracy: float | None = Field(
        None, gt=0, le=1, description="Absolute threshold of MA; None: the initial model's average."
    )
    extraction: bool = Field(
        False, description="Also ask for EL below its initial average (or below `accuracy` where that is given)."
    )
    checks: Checks = Field(Checks(), description="When samples that were not drawn are looked at.")


class UnlearnConfig(RunConfig):
    """One unlearning run."""

    kind: Literal["unlearn"] = "unlearn"
    score_run: Path = Field(description="Directory of the score run: forget set, and scores for the curriculum.")
    model: ModelConfig = Field(description="The model that is to forget; by default that of the score run.")
    method: MethodName = Field("graddiff", description="Unlearning method.")
    parameters: dict[str, float | str] = Field({}, description="Settings of the method; by default its own.")
    retain: RetainConfig = RetainConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    stopping: StoppingConfig = StoppingConfig()
    limits: Limits = Limits(max_epochs=5)
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the curriculum and of the retain partners.")
    checkpoint_steps: int = Field(
        50, ge=1, description="Distance of checkpoints.", json_schema_extra={"unit": "steps"}
    )

    @property
    def device(self) -> str:
        """The device of the model."""
        return self.model.device
