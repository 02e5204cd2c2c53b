"""What a reading of a scored forget set is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from analysis.text.config import ReadingConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.fields import RunPath
from mrd_core.settings.options import DATA_SET


class CharacteristicsConfig(RunConfig):
    """One reading of a scored forget set; its directory lies in that of the score run."""

    kind: Literal["characteristics"] = "characteristics"
    score_run: RunPath = Field(
        description="Score run: its directory, or its id.",
        json_schema_extra={"option": "run", "argument": True, "required": True},
    )
    reading: ReadingConfig = ReadingConfig()
    corpus: ForgetSetConfig | None = Field(
        None,
        description="Training corpus, for occurrence frequency and association: a file, folder or hub id; `demo` "
        "is the demo's own, `none` leaves it out.",
        json_schema_extra={"prefix": "corpus-", "fields": DATA_SET, "absent": "none"},
    )
