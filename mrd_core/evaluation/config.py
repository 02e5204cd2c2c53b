"""The configuration of an evaluation: `config.json` of its directory. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mrd_core.evaluation.suites import NAMES, suites
from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.fields import Place, RunPath
from mrd_core.settings.options import DATA_SET

# How many of the tokens Min-k% looks at [%], as OpenUnlearning sets it for TOFU.
K_PERCENT = 40.0


class EvaluateConfig(RunConfig):
    """One evaluation of one model: what it still knows of the forget set, and what it has kept."""

    kind: Literal["evaluate"] = "evaluate"
    suite: str = Field("custom", description=f"What is asked: {', '.join(NAMES)}.")
    data: Place | None = Field(
        None,
        description="Folder with the files of the suite, `demo`, or a hub data set; `custom` looks for the files "
        "`forget`, `retain` and `held_out` in a folder.",
    )
    model: ModelConfig = Field(
        ModelConfig(),
        description="The model: `demo`, a local folder, a GGUF file or a hub id. Not with an unlearning run, "
        "which has one.",
    )
    unlearn_run: RunPath | None = Field(
        None,
        description="The unlearning run that made the model: its directory, or its id.",
        json_schema_extra={"option": "unlearned"},
    )
    score_run: RunPath | None = Field(
        None,
        description="Score run whose MRD stands beside the values of each sample: its directory, or its id.",
        json_schema_extra={"option": "scores"},
    )
    forget: ForgetSetConfig | None = Field(
        None,
        description="Forget set of `custom`; by default that of the unlearning or of the score run.",
        json_schema_extra={"option": "forget-set", "prefix": "forget-set-", "fields": DATA_SET},
    )
    retain: ForgetSetConfig | None = Field(
        None,
        description="Retain set of `custom`; by default that of the unlearning run.",
        json_schema_extra={"option": "retain-set", "prefix": "retain-set-", "fields": DATA_SET},
    )
    held_out: ForgetSetConfig | None = Field(
        None,
        description="Samples of `custom` that the model was never trained on, for membership inference.",
        json_schema_extra={"option": "held-out-set", "prefix": "held-out-set-", "fields": DATA_SET},
    )
    forget_split: str = Field("forget10", description="Which forget set of TOFU: forget01, forget05 or forget10.")
    reference: Place | None = Field(
        None,
        description="Retrained reference for forget quality, FADE and membership: a model that never saw the "
        "forget set, or the directory of its evaluation, which is not enough for FADE.",
    )
    fade_texts: int = Field(
        4,
        ge=0,
        description="Texts that the model and the reference each draw for a question of the forget set, for FADE; "
        "0 leaves it out.",
        json_schema_extra={"unit": "texts"},
    )
    fade_tokens: int = Field(
        64, ge=1, description="Most tokens of such a text.", json_schema_extra={"unit": "tokens"}
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="Most samples of a set, evenly spaced; by default all.",
        json_schema_extra={"unit": "samples"},
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens that the model writes for a sample; by default 200, and 300 in `whp`.",
        json_schema_extra={"unit": "tokens"},
    )
    k_percent: float = Field(
        K_PERCENT,
        gt=0,
        le=100,
        description="Share of the least likely tokens that Min-k% looks at.",
        json_schema_extra={"unit": "%"},
    )
    extraction_likelihood: bool = Field(
        False, description="Also measure EL, which costs about one forward pass for each answer token."
    )
    harness_tasks: tuple[str, ...] = Field(
        (), description="Tasks of lm-evaluation-harness to run besides, such as `piqa`; it is installed apart."
    )
    embedding_model: Place | None = Field(
        None,
        description="Sentence-embedding model, a folder or a hub id, such as all-MiniLM-L6-v2: by it accuracy "
        "against perturbed answers is told besides ROUGE-L.",
    )
    toxicity_model: Place | None = Field(
        None, description="Text-classification model for `safe`, a folder or a hub id; such as Toxic-BERT."
    )
    processes: int = Field(
        1,
        ge=1,
        description="Processes of this machine that read and write the texts of each set together, each on a GPU "
        "of its own; in the same batches the values are those of one.",
        json_schema_extra={"unit": "processes"},
    )
    batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Padded tokens per batch.", json_schema_extra={"unit": "tokens"}
    )

    def as_asked(self) -> EvaluateConfig:
        """Return it without the model that an unlearning run has made."""
        if self.unlearn_run is None:
            return self
        model = ModelConfig(device=self.model.device, dtype=self.model.dtype)
        return self.model_copy(update={"model": model})

    @property
    def title(self) -> str:
        """Return a title for people: `TOFU on my-llama`."""
        return f"{suites()[self.suite].title} on {self.subject}"

    @property
    def subject(self) -> str:
        """Return what is evaluated, in a few words."""
        return f"the result of {self.unlearn_run.name}" if self.unlearn_run else self.model.title

    @field_validator("suite")
    @classmethod
    def _is_a_suite(cls, name: str) -> str:
        if name not in NAMES:
            raise ValueError(f"choose one of {', '.join(NAMES)}")
        return name

    @model_validator(mode="after")
    def _has_what_it_asks(self) -> EvaluateConfig:
        if self.suite != "custom":
            if self.data is None:
                raise ValueError(
                    f"the suite `{self.suite}` needs `data`: the folder or hub data set with its files"
                )
            if self.forget or self.retain or self.held_out:
                raise ValueError("own forget, retain and held-out sets belong to the suite `custom`")
        elif not (self.data or self.forget or self.unlearn_run or self.score_run):
            raise ValueError("the suite `custom` needs a forget set: give `data`, `forget`, or a run that has one")
        return self
