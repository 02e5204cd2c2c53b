"""The configuration of an unlearning run: `config.json` of its directory."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.columns import MRD_ANSWER_MEAN, MRD_ANSWER_SUM, VARIANTS
from mrd_core.scoring.imported import ENTANGLEMENT_COLUMNS
from mrd_core.scoring.measures import KNOWN
from mrd_core.settings.configuration import Choice, Frozen, RunConfig
from mrd_core.settings.fields import Place, RunPath
from mrd_core.settings.options import DATA_SET
from mrd_core.unlearning.methods import METHODS, parameters_in_words
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.sampling import ENTANGLED, SAMPLERS, WITHOUT_SCORES
from mrd_core.unlearning.stopping import Checks, Limits, Source

# Of the scores these columns come from MRD's draws, and could be measured anew on other weights.
DRAWN_COLUMNS = frozenset(column.name for column in VARIANTS)
ENTANGLEMENT = next(iter(ENTANGLEMENT_COLUMNS))
# Below this many weights a model counts as small; see `OptimiserConfig.learning_rate`.
SMALL_MODEL = 100_000_000
# An adapter is scaled by this over its rank.
LORA_ALPHA = 16
# For as many updates an adapter takes ten times the rate of all weights, or more (docs/LOG.md, “what rate an
# adapter takes”).
LORA_RATE = 10
# Of a larger retain set this many samples, evenly spaced, are measured before and after.
MOST_RETAIN_MEASURED = 200


def _known_method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(f"there is no such method; there are {', '.join(METHODS)}")
    return name


MethodName = Annotated[str, AfterValidator(_known_method), Field(json_schema_extra={"enum": list(METHODS)})]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class RetainConfig(Frozen):
    """What the model is to keep."""

    samples: ForgetSetConfig | None = Field(
        None,
        description="Retain set: file, folder or hub data set; `demo` is the demo's own.",
        json_schema_extra={"option": "retain-set", "prefix": "retain-", "fields": DATA_SET},
    )
    weight: float | None = Field(
        None,
        ge=0,
        description="λ of the retain term; by default that of the method.",
        json_schema_extra={"option": "retain-weight"},
    )
    term: Literal["nll", "kl"] = Field(
        "nll",
        description="Retain term: `nll` of the retain answers, or `kl`, KL(p_ref ‖ p_θ) to the starting model, "
        "which needs a second copy of the weights unless an adapter is trained.",
        json_schema_extra={"option": "retain-term"},
    )

    limit: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        None,
        description="Hold the retain loss here instead of weighing it: λ begins at 0 and grows while the loss is "
        "above (PDU's way, and its default). `auto` is 1.1 times the starting model's, and 0.05 more: 0.05 for a "
        "term that compares with the starting model (`kl`, RMU), which begins at 0.",
        json_schema_extra={"option": "retain-limit", "unit": "nats per token"},
    )
    limit_rate: float = Field(
        1.0,
        gt=0,
        description="η of the limit: how much λ moves for each nat and step.",
        json_schema_extra={"option": "retain-limit-rate"},
    )


class CurriculumConfig(Frozen):
    """Which forget sample is drawn when (Feng et al., Def. 3.3 and 3.4)."""

    sampler: str = Field("uniform", description=f"Order of the forget samples: {', '.join(SAMPLERS)}.")
    column: str = Field(
        MRD_ANSWER_MEAN,
        description=f"Column of the scores, measure or imported column that weighs or sorts the samples, such as "
        f"`{MRD_ANSWER_SUM}`; for orders by entanglement it is `{ENTANGLEMENT}` unless named.",
    )
    recompute_epochs: int | None = Field(
        None,
        ge=1,
        description="Measure MRD anew on the current weights every so many epochs; by default it is kept.",
        json_schema_extra={"unit": "epochs"},
    )
    recompute_pairs: int = Field(
        8,
        ge=1,
        description="Antithetic pairs of such a measurement, two forward evaluations each.",
        json_schema_extra={"unit": "pairs"},
    )
    drop_forgotten: bool = Field(
        True,
        description="Take forgotten samples out of the pool.",
        json_schema_extra={
            "option": "keep-forgotten",
            "flag": "Leave forgotten samples in the pool, and go on training on them.",
        },
    )

    @property
    def uses_draws(self) -> bool:
        """Whether the order depends on what MRD's draws cost."""
        return self.sampler not in WITHOUT_SCORES and self.column in DRAWN_COLUMNS

    @model_validator(mode="before")
    @classmethod
    def _has_its_column(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and settings.get("sampler") in ENTANGLED:
            return {"column": ENTANGLEMENT} | settings
        return settings

    @model_validator(mode="after")
    def _weighs_by_what_it_says(self) -> CurriculumConfig:
        if self.sampler in ENTANGLED and self.column not in ENTANGLEMENT_COLUMNS:
            columns = ", ".join(ENTANGLEMENT_COLUMNS)
            raise ValueError(f"`{self.sampler}` takes a column of entanglement, one of {columns}")
        if self.sampler == "mrd" and self.column not in DRAWN_COLUMNS:
            raise ValueError(f"`mrd` weighs by a variant of MRD; use the sampler `column` for `{self.column}`")
        if self.recompute_epochs and not self.uses_draws:
            raise ValueError("only an order that depends on MRD has anything to measure anew: leave it out")
        return self

    @field_validator("sampler")
    @classmethod
    def _is_known(cls, sampler: str) -> str:
        if sampler not in SAMPLERS:
            raise ValueError(f"there is no such sampler; there are {', '.join(SAMPLERS)}")
        return sampler


class OptimiserConfig(Frozen):
    """How the weights move."""

    name: Literal["adamw_torch", "sgd", "sign_sgd", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw_torch",
        description="Optimiser, by its name in transformers; `sign_sgd` moves by the signs of the gradient. Those "
        "in 8 bits keep a quarter of the state and need bitsandbytes.",
        json_schema_extra={"option": "optimiser"},
    )
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="Learning rate; `auto` is 1e-4 below 100 million weights, else 1e-5, at which single samples "
        f"of three models were forgotten in 9 to 22 updates of GA; for an adapter {LORA_RATE} times as much.",
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Learning rate over the steps."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    batch_size: int = Field(
        4, ge=1, description="Forget samples of one optimiser step.", json_schema_extra={"unit": "samples"}
    )
    micro_batch: int = Field(
        8,
        ge=1,
        description="Most samples in memory at a time; gradients are accumulated and the result stays the same.",
        json_schema_extra={"unit": "samples"},
    )
    mixed_precision: Literal["no", "bf16"] = Field(
        "no",
        description="Precision of the passes that train (autocast); weights and measurements stay as loaded.",
    )
    gradient_checkpointing: bool = Field(False, description="Trade time for memory in the backward pass.")
    lora_rank: int | None = Field(
        None, ge=1, description="Train a LoRA adapter of this rank; by default all weights."
    )
    lora_alpha: int = Field(LORA_ALPHA, ge=1, description="LoRA: the adapter is scaled by α / rank.")
    spread: bool = Field(
        False, description="Spread the layers over all GPUs of the machine, for a model that is larger than one."
    )

    def rate_for(self, weights: int) -> Choice:
        """Return the learning rate of a model with so many weights."""
        if self.learning_rate != "auto":
            return Choice(f"{self.learning_rate:g}", "as asked")
        rate = 1e-4 if weights < SMALL_MODEL else 1e-5
        why = f"the model has {weights / 1e6:,.1f} million weights"
        if self.lora_rank is None:
            return Choice(f"{rate:g}", why)
        return Choice(
            f"{LORA_RATE * rate:g}", f"{why}, and an adapter takes {LORA_RATE} times the rate of all weights"
        )


class StoppingConfig(Frozen):
    """When a sample counts as forgotten (Feng et al., App. C.4; Jang et al. 2023)."""

    source: Source = Field(
        "absolute",
        description="Where the thresholds come from: `absolute` numbers, the `initial-average` over the forget "
        "set (the paper's rule), the average over `held-out` samples, or that of a retrained `reference` model.",
        json_schema_extra={"option": "threshold-source"},
    )
    accuracy: float = Field(
        KNOWN,
        gt=0,
        le=1,
        description="Absolute threshold of memorization accuracy (MA); forgotten is below it. All that three "
        "models had been taught lay above 0.5.",
    )
    margin: float = Field(
        0.0,
        allow_inf_nan=False,
        description="A token counts as remembered where its logit leads all others by more than this: 0 is MA "
        "itself, and below 0 the true token must be clearly beaten.",
        json_schema_extra={"unit": "logits"},
    )
    extraction: bool = Field(
        False,
        description="Also ask for an extraction likelihood (EL) below its threshold; it is measured only where MA "
        "passes, and costs about one forward pass for each answer token.",
    )
    extraction_likelihood: float = Field(0.1, gt=0, le=1, description="Absolute threshold of EL.")
    held_out: ForgetSetConfig | None = Field(
        None,
        description="Samples that the model was never trained on, for the source `held-out`.",
        json_schema_extra={"prefix": "held-out-", "fields": DATA_SET},
    )
    reference: Place | None = Field(
        None, description="Model that was trained without the forget set, for the source `reference`."
    )
    checks: Checks = Field(
        Checks(),
        description="How often a sample is looked at where training does not show its MA (PO trains refusals).",
        json_schema_extra={"prefix": "check-"},
    )
    probe_steps: int = Field(
        25,
        ge=1,
        description="Distance of the looks at the retain set, for its curve and for the utility guard.",
        json_schema_extra={"unit": "steps"},
    )
    probe_samples: int = Field(
        32,
        ge=1,
        description="Retain samples that are looked at then, always the same.",
        json_schema_extra={"unit": "samples"},
    )

    @model_validator(mode="after")
    def _has_what_it_is_taken_from(self) -> StoppingConfig:
        needed = {"held-out": self.held_out, "reference": self.reference}
        if self.source in needed and needed[self.source] is None:
            option = self.source.replace("held-out", "held_out")
            raise ValueError(f"thresholds from `{self.source}` need `{option}`")
        return self


class EvaluationDuringConfig(Frozen):
    """How what is forgotten and what is kept is measured on the way; training is the same with and without it."""

    every_steps: int | None = Field(
        None,
        ge=1,
        description="Evaluate every so many steps, before the first and after the last; by default never.",
        json_schema_extra={"unit": "steps", "option": "evaluate-every"},
    )
    samples: int = Field(
        24,
        ge=1,
        description="Forget samples that are evaluated then, and as many retain samples, evenly spaced.",
        json_schema_extra={"unit": "samples", "option": "evaluate-samples"},
    )
    max_new_tokens: int = Field(
        64,
        ge=1,
        description="Most tokens that the model writes for each of them.",
        json_schema_extra={"unit": "tokens", "option": "evaluate-tokens"},
    )
    keep_best: bool = Field(
        True,
        description="Keep the weights of the best evaluation on the way in the folder `best`, beside the model at "
        "the end: the mean of what is forgotten and what is retained, by extraction strength.",
        json_schema_extra={
            "option": "no-best",
            "flag": "Do not keep the weights of the best evaluation on the way beside those at the end.",
        },
    )


class UnlearnConfig(RunConfig):
    """One unlearning run."""

    kind: Literal["unlearn"] = "unlearn"
    score_run: RunPath = Field(
        description="Score run, its directory or its id: forget set, and scores for the curriculum.",
        json_schema_extra={"option": "scores", "required": True},
    )
    stratum: Path | None = Field(
        None, description="Saved stratum: of the scored samples only those in this file are unlearned."
    )
    model: ModelConfig = Field(
        description="The model that is to forget; by default that of the score run.",
        json_schema_extra={
            "help": {"dtype": "Precision of the weights; `auto` is float32, which small steps need."}
        },
    )
    method: MethodName = Field("graddiff", description=f"Unlearning method: {', '.join(METHODS)}.")
    parameters: dict[str, float | str] = Field(
        {},
        description=f"Settings of the method; by default its own ({parameters_in_words()}).",
        json_schema_extra={"option": "parameter"},
    )
    refusals: Path | None = Field(
        None,
        description="Refusal answers for PO and DPO, one a line or a row; by default those that ship with the "
        "project.",
    )
    retain: RetainConfig = RetainConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    stopping: StoppingConfig = StoppingConfig()
    evaluation: EvaluationDuringConfig = EvaluationDuringConfig()
    limits: Limits = Limits(max_epochs=20)
    processes: int = Field(
        1,
        ge=1,
        description="Processes of this machine that work on each batch together, each on a GPU of its own; the "
        "order of the samples is that of one and, in the same micro-batches, so are the numbers.",
        json_schema_extra={"unit": "processes"},
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Seed of the curriculum, of the retain partners and of the refusals."
    )
    checkpoint_steps: int = Field(
        100, ge=1, description="Distance of checkpoints.", json_schema_extra={"unit": "steps"}
    )
    answers: int = Field(
        100,
        ge=0,
        description="Most samples whose own answers are written before and after.",
        json_schema_extra={"unit": "samples"},
    )
    gradient_steps: int = Field(
        10,
        ge=0,
        description="Measure every so many steps how much of the gradient each drawn sample makes up, to see who "
        "gets it; 0 never. It changes nothing in the training.",
        json_schema_extra={"unit": "steps"},
    )
    report_to: tuple[Tracker, ...] = Field((), description="Experiment trackers; each must be installed.")
    study: str | None = Field(None, description="Comparison that the run is a part of.")

    @model_validator(mode="after")
    def _has_an_end(self) -> UnlearnConfig:
        limits = self.limits
        if limits.max_steps is None and limits.max_epochs is None:
            raise ValueError("a run needs an end: set `max_steps` or `max_epochs`")
        guarded = limits.max_retain_loss_rise is not None or limits.min_retain_accuracy is not None
        if guarded and self.retain.samples is None:
            raise ValueError("a utility guard watches the retain set: name one, or leave the guard out")
        if self.curriculum.recompute_epochs and self.optimiser.lora_rank:
            raise ValueError("MRD cannot be measured anew while a LoRA adapter is trained: keep it")
        if self.retain.limit is not None and (self.retain.samples is None or self.retain.weight is not None):
            raise ValueError("a limit of the retain loss needs a retain set, and takes the place of its weight")
        if self.retain.term == "kl" and METHODS[self.method].steers:
            raise ValueError(f"the method {self.method} keeps hidden states: it has a retain term of its own")
        if self.retain.limit is not None and METHODS[self.method].retain == "none":
            raise ValueError(f"the method {self.method} has no retain term that could be held at a limit")
        if self.optimiser.spread and self.processes > 1:
            raise ValueError(
                "layers are spread over the GPUs by a single process: leave `spread` or `processes` out"
            )
        parsed(METHODS[self.method], self.parameters)
        return self

    @property
    def most_gpus(self) -> int | None:
        """How many GPUs it works on: one for each process; None: all, which its layers lie on."""
        return None if self.optimiser.spread else self.processes

    @property
    def retain_limit(self) -> float | Literal["auto"] | None:
        """Where the retain loss is held; None where it is weighed."""
        holds = METHODS[self.method].holds_retain and self.retain.weight is None
        return self.retain.limit or ("auto" if holds else None)

    @property
    def retain_term(self) -> Literal["nll", "kl", "states"]:
        """What the retain term is made of: of the hidden states, where the method steers those."""
        return "states" if METHODS[self.method].steers else self.retain.term

    @property
    def needs_starting_model(self) -> bool:
        """Whether the loss needs what the starting model predicts, beside what is trained."""
        by_kl = self.retain.term == "kl" and bool(self.retain_weight)
        return by_kl or METHODS[self.method].needs_starting_model

    @property
    def retain_weight(self) -> float:
        """λ of the retain term: 0 where the method has none, or there is no retain set."""
        method = METHODS[self.method]
        if method.retain == "none" or self.retain.samples is None:
            return 0.0
        if self.retain.limit is not None:
            return 1.0
        return method.default_retain_weight if self.retain.weight is None else self.retain.weight

    @property
    def label(self) -> str:
        """What tables call it: `GradDiff`, `GradDiff + MRD`, `GA, easy-to-hard`, `NPO (retain held)`."""
        name, curriculum = METHODS[self.method].label, self.curriculum
        name += " (retain held)" if self.retain.limit is not None else ""
        says_column = curriculum.column in DRAWN_COLUMNS or curriculum.sampler in ENTANGLED | WITHOUT_SCORES
        by = curriculum.sampler + ("" if says_column else f" {curriculum.column}")
        label = {"uniform": name, "mrd": f"{name} + MRD"}.get(curriculum.sampler, f"{name}, {by}")
        return label + (" anew" if curriculum.recompute_epochs else "")

    @property
    def setting(self) -> str:
        """A digest of all that runs must share to differ in nothing but seed and curriculum."""
        apart = {"seed", "study", "answers", "evaluation", "checkpoint_steps", "report_to", "processes"}
        apart |= {"gradient_steps"}
        rest = self.model_dump(mode="json", exclude=apart)
        rest["curriculum"] = rest["curriculum"]["drop_forgotten"]
        # Where the layers lie is no setting of what is learnt.
        del rest["optimiser"]["spread"]
        # Runs of before there was a margin have the digest of those without one.
        if not self.stopping.margin:
            del rest["stopping"]["margin"]
        return hashlib.blake2b(json.dumps(rest, sort_keys=True).encode(), digest_size=6).hexdigest()

    def micro_batch(self, processes: int = 1) -> int:
        """Return the most samples in memory at a time, where so many processes share a batch.

        As many processes as the configuration says, or fewer, have the micro-batches of each other, so that a run
        may go on with another number of them.
        """
        optimiser = self.optimiser
        return min(optimiser.micro_batch, math.ceil(optimiser.batch_size / max(self.processes, processes)))

    def most_steps(self, samples: int) -> int:
        """Return where a run on so many samples ends at the latest [steps]."""
        limits, most = self.limits, []
        if limits.max_steps is not None:
            most.append(limits.max_steps)
        if limits.max_epochs is not None:
            most.append(math.ceil(limits.max_epochs * samples / min(self.optimiser.batch_size, samples)))
        return min(most)

    @property
    def title(self) -> str:
        """Return a title for people."""
        return f"Unlearn: {self.name}"

    @property
    def name(self) -> str:
        """What people call the model that it makes: `GA + MRD, seed 0`."""
        return f"{self.label}, seed {self.seed}"
