"""Where samples come from, how their rows are read, and which of their tokens count."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from mrd_core.settings.configuration import Frozen
from mrd_core.settings.fields import Place


class Layout(StrEnum):
    """Row layouts that are recognised by their columns (TOFU, WMDP, WHP, PKU-SafeRLHF, Alpaca)."""

    AUTO = "auto"
    COLUMNS = "columns"
    TOFU = "tofu"
    WMDP_CORPUS = "wmdp-corpus"
    WMDP_QUESTIONS = "wmdp-questions"
    WHP_TEXT = "whp-text"
    WHP_PROMPTS = "whp-prompts"
    SAFE = "safe"
    ALPACA = "alpaca"


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

    source: Place = Field(description="File (CSV, JSON, Parquet, Arrow, text), local folder, or hub data set.")
    subset: str | None = Field(None, description="Configuration name of a hub data set.")
    split: str | None = Field(None, description="Split of a hub data set, a folder or the rows of a file.")
    layout: Layout = Field(Layout.AUTO, description="Row layout; `auto` recognises it from the columns.")
    columns: ColumnMapping = Field(
        ColumnMapping(),
        description="Column mapping; empty parts are guessed.",
        json_schema_extra={"suffix": "-column"},
    )
    duplicates: Literal["keep", "drop"] = Field(
        "keep", description="Identical rows: `keep` them (ids get #2, #3, …) or `drop` all but the first."
    )
    invalid_rows: Literal["refuse", "skip"] = Field(
        "refuse", description="Rows with an empty cell: `refuse` the file, or `skip` and count them."
    )


class Scope(StrEnum):
    """Which tokens of a sample are scored."""

    ANSWER = "answer"
    FULL = "full"
