"""What a reading of a scored forget set is told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from analysis.text.config import ReadingConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.settings.configuration import RunConfig


class CharacteristicsConfig(RunConfig):
    """One reading of a scored forget set; its directory lies in that of the score run."""

    kind: Literal["characteristics"] = "characteristics"
    score_run: Path = Field(description="Directory of the score run.")
    reading: ReadingConfig = ReadingConfig()
    corpus: ForgetSetConfig | None = Field(
        None, description="Training corpus, for occurrence frequency and association; `demo` is the demo's own."
    )
