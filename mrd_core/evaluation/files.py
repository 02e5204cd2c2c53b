"""The files of an evaluation. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mrd_core.runs.files import Artifact, Column, RunDirectory

VALUES = (
    Column("split", "Set that was asked.", dtype="str"),
    Column("sample_id", "Sample.", dtype="str"),
    Column("metric", "Name of the metric.", dtype="str"),
    Column("value", "Its value for the sample; NaN where undefined."),
)
ANSWERS = (
    Column("split", "Set that was asked.", dtype="str"),
    Column("sample_id", "Sample.", dtype="str"),
    Column("asked", "What the text was generated for.", dtype="str"),
    Column("prompt", "What the model was given.", dtype="str"),
    Column("reference", "What the set says.", dtype="str"),
    Column("generated", "What the model wrote.", dtype="str"),
)
REFERENCE_TOKENS = (
    Column("sample_id", "Sample of the forget set.", dtype="str"),
    Column("place", "Place of the token in its answer; the first is 0.", dtype="int64"),
    Column("piece", "Its text.", dtype="str"),
    Column("log_prob", "log p of it after the true ones before it, under the model.", "nats"),
    Column("log_prob_reference", "The same under the reference.", "nats"),
)
VALUE_COLUMNS = [column.name for column in VALUES]
ANSWER_COLUMNS = [column.name for column in ANSWERS]


@dataclass(frozen=True)
class EvaluationFiles(RunDirectory):
    """What the directory of an evaluation holds, by name."""

    noun: ClassVar[str] = "evaluation"
    results: ClassVar[tuple[str, ...]] = ("values", "aggregates", "catalogue", "summary")

    sets = Artifact("sets", "Folder of the sets that are asked, each its rows as `NAME.parquet`.")
    catalogue = Artifact("sets.json", "What the sets are: name, title, role, kind; and notes on them.")
    parts = Artifact("parts", "Folder of finished parts of the work.", scaffolding=True)
    scores = Artifact("scores.parquet", "MRD of the forget samples, from the score run; absent without one.")
    unlearned = Artifact("unlearned.json", "Settings and summary of the unlearning run that made the model.")
    values = Artifact("values.parquet", "A row per value.", VALUES)
    answers = Artifact("answers.parquet", "A row per text that was generated.", ANSWERS)
    reference_tokens = Artifact(
        "reference_tokens.parquet",
        "A row per answer token of the forget set; only where the reference is a model of the same tokens.",
        REFERENCE_TOKENS,
    )
    aggregates = Artifact("aggregates.json", "For each set and metric: value (null: undefined), n, undefined.")
    openunlearning = Artifact("openunlearning.json", "The same as a result file of OpenUnlearning.")
