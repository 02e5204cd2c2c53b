"""What a reading of a scored forget set is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from analysis.text.config import ReadingConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import Nested
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.fields import RunPath
from mrd_core.settings.options import DATA_SET, DEMO


def of_corpus(corpus: Nested | None) -> Nested:
    """Return the settings that follow from a corpus: rows of another than the demo's may be skipped."""
    is_demo = corpus is None or corpus.get("source", DEMO) == DEMO
    return {} if is_demo else {"corpus": {"invalid_rows": "skip"}}


def on_scores(scored: ScoreConfig, settings: Nested) -> Nested:
    """Return what follows from the score run: the corpus of the demo for its model, where none is named."""
    if "corpus" in settings:
        return of_corpus(settings["corpus"])
    return {"corpus": {"source": DEMO}} if scored.model.source == DEMO else {}


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
