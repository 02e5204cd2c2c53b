"""Which model is read, and how."""

from __future__ import annotations

from datetime import date as Date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mrd_core.demo import MODELS
from mrd_core.model.gguf_file import is_gguf
from mrd_core.settings.configuration import Frozen
from mrd_core.settings.fields import Place
from mrd_core.settings.places import expanded

# What says how prompt and answer become text.
FORM = ("template", "system", "date", "closes_texts")

# What people call the models that ship with the project, within a sentence.
TITLES = {"demo": "the demo model", "demo-retrained": "the demo's retrained reference"}


def _listed(adapter: Any) -> Any:
    """Return one adapter, or none, as several."""
    return (adapter,) if isinstance(adapter, str) else adapter or ()


class ModelConfig(Frozen):
    """Which model is scored and how it is read."""

    source: Place = Field(
        "demo", description="`demo`, a local folder (safetensors only), a GGUF file, or a hub id."
    )
    adapter: Annotated[tuple[Place, ...], BeforeValidator(_listed)] = Field(
        (), description="LoRA adapter (peft) merged into the model before scoring."
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = Field(
        "auto",
        description="Precision of the perturbed passes (`auto`, `float32`, `bfloat16`, `float64`); the baseline "
        "is one step finer.",
    )
    template: Place = Field(
        "auto",
        description="How prompt and answer become text: the tokenizer's `chat` template, `plain`, `auto`, or a "
        "file with a chat template (Jinja).",
        json_schema_extra={"enum": ["auto", "chat", "plain"]},
    )
    system: str | None = Field(
        None,
        description="Text of a system turn before the prompt, for a chat template; by default the template's own.",
    )
    date: Date = Field(
        default_factory=Date.today,
        description="What a chat template takes for today, as YYYY-MM-DD; by default the day on which the run is "
        "asked for.",
    )
    closes_texts: bool = Field(
        False,
        description="Whether a text without a prompt ends with an EOS token, as an answer does.",
        json_schema_extra={"option": "close-texts", "flag": "End texts without a prompt with an EOS token, too."},
    )

    def with_source(self, source: str, adapter: tuple[str, ...] = ()) -> ModelConfig:
        """Return another model that is asked in the same form, on any device."""
        return self.model_copy(update={"source": source, "adapter": adapter, "device": "auto", "dtype": "auto"})

    def beside(self, source: str) -> ModelConfig:
        """Return another model, asked in the same form; a LoRA adapter by itself goes onto this one's base."""
        folder = expanded(source)
        if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
            return self.with_source(self.source, (source,))
        return self.with_source(source)

    @property
    def form(self) -> tuple[object, ...]:
        """How prompt and answer become text."""
        return tuple(getattr(self, name) for name in FORM)

    @property
    def location(self) -> Path | None:
        """The local folder of the model, or its GGUF file; None where it is a hub id, or is gone."""
        path = MODELS.get(self.source) or expanded(self.source)
        return path if path.is_dir() or is_gguf(path) else None

    @property
    def title(self) -> str:
        """What people call it, within a sentence."""
        return TITLES.get(self.source) or Path(self.source).name
