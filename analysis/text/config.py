"""How texts are read for their linguistic features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mrd_core.samples.config import Scope
from mrd_core.settings.configuration import Frozen


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
