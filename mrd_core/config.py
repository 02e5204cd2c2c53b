"""What can be set, declared once: default, unit and help, for the CLI, the pages and the documentation.

Every configuration is frozen and refuses unknown keys, so that a `config.json` read back is either the run
that was launched or an error.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mrd_core.errors import UserError

# Beyond, gradients of single samples take more memory and time than a by-product of scoring should.
MOST_WEIGHTS_FOR_GRADIENTS = 100_000_000


class Frozen(BaseModel):
    """Base of all configurations: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def help_of(config: type[BaseModel], field: str) -> str:
    """Return the help text of `config.field`, with its unit in brackets where it has one."""
    info = config.model_fields[field]
    extra = info.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return f"{info.description} [{unit}]" if unit else str(info.description)


class Choice(NamedTuple):
    """A setting that was decided automatically or as asked, and why."""

    value: str
    reason: str

    @property
    def stated(self) -> str:
        """Both, for people."""
        return f"{self.value} ({self.reason})"


class Layout(StrEnum):
    """Row layouts that are recognised by their columns (METHODS: TOFU, WMDP, WHP, PKU-SafeRLHF)."""

    AUTO = "auto"
    COLUMNS = "columns"
    TOFU = "tofu"
    WMDP_CORPUS = "wmdp-corpus"
    WMDP_QUESTIONS = "wmdp-questions"
    WHP_TEXT = "whp-text"
    WHP_PROMPTS = "whp-prompts"
    SAFE = "safe"


class ColumnMapping(Frozen):
    """Which column of the file plays which part; None means that the file has none (or: guess it)."""

    prompt: str | None = Field(None, description="Column with the prompt or question; empty for plain text.")
    answer: str | None = Field(None, description="Column with the answer, or the text itself.")
    id: str | None = Field(None, description="Column with a unique id; else ids are hashes of the row.")
    split: str | None = Field(None, description="Column that names the split a row belongs to.")
    training_count: str | None = Field(
        None, description="Column that says how often the row occurred in training."
    )


class ForgetSetConfig(Frozen):
    """Where the forget set comes from and how its rows are read."""

    source: str = Field(description="File (CSV, JSON, JSON Lines, Parquet), local folder, or hub data set.")
    subset: str | None = Field(None, description="Configuration name of a hub data set.")
    split: str | None = Field(None, description="Split of a hub data set or of a folder.")
    layout: Layout = Field(Layout.AUTO, description="Row layout; `auto` recognises it from the columns.")
    columns: ColumnMapping = Field(ColumnMapping(), description="Column mapping; empty parts are guessed.")
    duplicates: Literal["keep", "drop"] = Field(
        "keep", description="Identical rows: `keep` them (ids get #2, #3, …) or `drop` all but the first."
    )
    invalid_rows: Literal["refuse", "skip"] = Field(
        "refuse", description="Rows with an empty cell: `refuse` the file, or `skip` and count them."
    )


class ModelConfig(Frozen):
    """Which model is scored and how it is read."""

    source: str = Field("demo", description="`demo`, a local folder, or a hub id. Safetensors only.")
    adapter: str | None = Field(None, description="LoRA adapter (peft) merged into the model before scoring.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = Field(
        "auto",
        description="Precision of the perturbed passes (`auto`, `float32`, `bfloat16`, `float64`); the baseline "
        "is one step finer.",
    )
    template: Literal["auto", "chat", "plain"] = Field(
        "auto",
        description="How prompt and answer become text: the tokenizer's `chat` template, `plain`, or `auto`.",
    )


class Scope(StrEnum):
    """Which tokens of a sample are scored."""

    ANSWER = "answer"
    FULL = "full"


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
        description="`recommended`: antithetic pairs, calibrated σ, stops when precise enough. "
        "`paper`: plain draws at σ = 1e-5, K = 200, as published; expect a ranking that is mostly noise.",
    )
    mode: Literal["antithetic", "plain"] = Field(
        "antithetic",
        description="`antithetic`: noise in pairs (δ, −δ). `plain`: independent draws, as published.",
    )
    sigma: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = Field(
        "auto",
        description="Standard deviation σ of the noise; `auto` lets a pilot choose the largest σ that is "
        "still in the quadratic regime.",
    )
    draws: int = Field(
        192,
        ge=4,
        le=100_000,
        description="Cap on perturbed forward evaluations; an antithetic pair is two.",
        json_schema_extra={"unit": "evaluations"},
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the noise.")
    stop: Literal["precision", "reliability", "never"] = Field(
        "precision",
        description="Stop before the cap when the errors are small (`precision`), when the ranking is reliable "
        "(`reliability`), or `never`.",
    )
    median_relative_se: float = Field(0.03, gt=0, description="Precision target: median over samples of SE / MRD.")
    p90_relative_se: float = Field(
        0.06, gt=0, description="Precision target: 90th percentile over samples of SE / MRD."
    )
    reliability: float = Field(
        0.9, gt=0, lt=1, description="Reliability target (Spearman–Brown of split halves), when chosen."
    )
    scope: Scope = Field(Scope.ANSWER, description="Score the answer tokens and EOS, or every token.")
    normalisation: Normalisation = Field(
        Normalisation.MEAN, description="Mean over the scored tokens, or their sum."
    )
    batch_tokens: int | Literal["auto"] = Field(
        "auto", description="Padded tokens per batch.", json_schema_extra={"unit": "tokens"}
    )
    workers: int | Literal["auto"] = Field(
        "auto", description="Processes that share out the draws; the result does not depend on it."
    )
    gradient_norms: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Also measure the norm of each sample's gradient (`yes`, `no`): as long as a few evaluations, "
        "and memory for the gradients of several samples; `auto`: up to 100 million weights.",
    )
    time_floor: bool = Field(
        False, description="Also time a few passes of the bare model, to compare the run with its floor."
    )

    @property
    def evaluations_per_unit(self) -> int:
        """Forward evaluations of one independent unit: two for an antithetic pair."""
        return 2 if self.mode == "antithetic" else 1

    def gradients_of(self, weights: int) -> Choice:
        """Return whether gradient norms of a model of so many weights are measured, `yes` or `no`, and why."""
        if self.gradient_norms != "auto":
            return Choice(self.gradient_norms, "as asked")
        few = weights <= MOST_WEIGHTS_FOR_GRADIENTS
        bound = f"{'at most' if few else 'more than'} {MOST_WEIGHTS_FOR_GRADIENTS / 1e6:.0f} million"
        return Choice("yes" if few else "no", f"{weights / 1e6:.1f} million weights, {bound}")

    @classmethod
    def recommended(cls, **changes: Any) -> EstimatorConfig:
        """Return the default estimator, with `changes`."""
        return cls(**changes)

    @classmethod
    def paper(cls, **changes: Any) -> EstimatorConfig:
        """Return the paper's published setting (σ = 1e-5, K = 200, plain Monte Carlo), with `changes`."""
        published: dict[str, Any] = {
            "preset": "paper",
            "mode": "plain",
            "sigma": 1e-5,
            "draws": 200,
            "stop": "never",
        }
        return cls(**(published | changes))


class RunConfig(Frozen):
    """What a run does: `config.json` of its directory. Each kind of run has its own.

    Attributes:
        package: The package whose command line carries the run out.
        steps: What its progress counts.
    """

    package: ClassVar[str] = "mrd_core"
    steps: ClassVar[str] = "evaluations"
    kind: str

    @property
    def device(self) -> str:
        """The device that the run waits for, as it was configured."""
        return "cpu"

    @property
    def title(self) -> str:
        """A title for people."""
        return self.kind.capitalize()


class ScoreConfig(RunConfig):
    """One score run."""

    kind: Literal["score"] = "score"
    forget_set: ForgetSetConfig
    forget_set_digest: str | None = Field(
        None, description="Digest of the samples the run was launched with; a run refuses others."
    )
    model: ModelConfig = ModelConfig()
    estimator: EstimatorConfig = EstimatorConfig()

    @property
    def device(self) -> str:
        """The device of the model."""
        return self.model.device

    @property
    def title(self) -> str:
        """Return a title for people: `forget10.jsonl on my-llama`."""
        samples, model = self.forget_set.source, self.model.source
        return (
            f"{'Demo forget set' if samples == 'demo' else Path(samples).name} on "
            f"{'the demo model' if model == 'demo' else Path(model).name}"
        )


class ReadingConfig(Frozen):
    """How the texts of a forget set are read for their linguistic features."""

    pipeline: str = Field(
        "auto",
        description="spaCy pipeline that reads the text: `auto` (an installed one of the language, else the one "
        "that ships with the project), `shipped`, or the name of an installed one.",
    )
    language: str = Field(
        "en", description="Language of the texts, as an ISO 639-1 code; texts in another one are left out."
    )
    text: Scope = Field(Scope.ANSWER, description="Read the answers, or prompts and answers.")
    common_words: int = Field(
        30_000, ge=100, description="A word outside this many most frequent words of the language is rare."
    )
    names: Literal["count", "ignore"] = Field(
        "count", description="Whether proper names can be rare words: `count` or `ignore` them."
    )
    numbers: Literal["count", "ignore"] = Field(
        "ignore", description="Whether words with a digit in them can be rare words: `count` or `ignore` them."
    )
    ngram: int = Field(
        2, ge=1, le=5, description="Content words to an n-gram, for corpus frequency and for association."
    )


class CharacteristicsConfig(RunConfig):
    """One reading of a scored forget set; its directory lies in that of the score run."""

    package: ClassVar[str] = "analysis"
    steps: ClassVar[str] = "texts"
    kind: Literal["characteristics"] = "characteristics"
    score_run: Path = Field(description="Directory of the score run.")
    reading: ReadingConfig = ReadingConfig()
    corpus: ForgetSetConfig | None = Field(
        None, description="Training corpus, for occurrence frequency and association; `demo` is the demo's own."
    )


class Settings(Frozen):
    """Settings of this installation, read from the environment."""

    home: Path = Field(description="MRD_HOME: where runs and the store live.")
    store_url: str = Field(description="MRD_STORE_URL: SQLAlchemy URL of the run store.")
    upload_limit_mb: int = Field(50, gt=0, description="MRD_UPLOAD_LIMIT_MB: largest forget set [MB].")
    allowed_roots: tuple[Path, ...] = Field(
        description="MRD_ALLOWED_ROOTS: folders (separated as in PATH) that paths typed in the browser may "
        "lie under; by default the working directory and MRD_HOME."
    )

    @classmethod
    def from_environment(cls) -> Settings:
        """Read MRD_HOME, MRD_STORE_URL, MRD_UPLOAD_LIMIT_MB and MRD_ALLOWED_ROOTS, each with its default.

        Raises:
            UserError: The upload limit is no positive whole number.
        """
        limit = os.environ.get("MRD_UPLOAD_LIMIT_MB") or "50"
        if not limit.isdecimal() or int(limit) == 0:
            raise UserError(
                f"MRD_UPLOAD_LIMIT_MB={limit}",
                "is no positive whole number of megabytes.",
                "Set it to one, such as 200, or unset it for 50.",
            )
        home = Path(os.environ.get("MRD_HOME") or Path.home() / ".mrd-lens").expanduser().resolve()
        roots = os.environ.get("MRD_ALLOWED_ROOTS")
        return cls(
            home=home,
            store_url=os.environ.get("MRD_STORE_URL") or f"sqlite:///{home / 'store.db'}",
            upload_limit_mb=int(limit),
            allowed_roots=tuple(Path(root).expanduser().resolve() for root in roots.split(os.pathsep))
            if roots
            else (Path.cwd(), home),
        )
