"""Which model is read, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mrd_core.settings.configuration import Frozen
from mrd_core.settings.fields import Place


class ModelConfig(Frozen):
    """Which model is scored and how it is read."""

    source: Place = Field("demo", description="`demo`, a local folder, or a hub id. Safetensors only.")
    adapter: Place | None = Field(None, description="LoRA adapter (peft) merged into the model before scoring.")
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

    @property
    def title(self) -> str:
        """What people call it, within a sentence."""
        return "the demo model" if self.source == "demo" else Path(self.source).name
