"""The files of a characteristics run, and how its features came about."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.characteristics.config import CharacteristicsConfig
from mrd_core.errors import UserError
from mrd_core.runs.files import Artifact, RunDirectory, write_atomically, write_frame
from mrd_core.runs.records import Record, RunSummary
from mrd_core.settings.configuration import Frozen

_METADATA_KEY = b"mrd_characteristics"


class About(Frozen):
    """How a set of features came about.

    Attributes:
        pipeline: Name and version of the spaCy pipeline.
        pipeline_reason: Why that one.
        scheme: Label scheme of its parser: UD or CLEAR.
        attachment: Its unlabelled and labelled attachment scores, where it states them.
        config: The settings of the run.
        corpus_rows: Rows of the training corpus; None without one.
        features: For each feature its title, unit, bins, direction, help and group.
        undefined: For each feature the number of samples that it is undefined for.
        training_averages: For some features the mean over the training corpus.
        complexity_parts: The parts of the complexity index.
        complexity_left_out: The others, each with the reason.
        complexity_length_correlation: Spearman correlation of the index with the number of words.
        foreign: For each other language the number of samples in it, which were not read.
        cut: Samples that were too long to be read whole.
        cautions: What a reader of the criteria should know, in sentences.
        seconds: What the reading took [s].
    """

    pipeline: str
    pipeline_reason: str
    scheme: str
    attachment: tuple[float, float] | None
    config: CharacteristicsConfig
    corpus_rows: int | None
    features: dict[str, dict[str, str]]
    undefined: dict[str, int]
    training_averages: dict[str, float]
    complexity_parts: tuple[str, ...]
    complexity_left_out: dict[str, str]
    complexity_length_correlation: float | None
    foreign: dict[str, int]
    cut: int
    cautions: tuple[str, ...]
    seconds: float

    @property
    def warnings(self) -> list[str]:
        """The cautions, and which texts were not read, or not to their end."""
        warnings = list(self.cautions)
        if self.foreign:
            languages = ", ".join(f"{language} {count}" for language, count in self.foreign.items())
            warnings.append(
                f"{sum(self.foreign.values())} sample(s) are not in '{self.config.reading.language}' "
                f"({languages}): they were not read."
            )
        if self.cut:
            warnings.append(f"{self.cut} sample(s) are too long to be read whole: only their beginning was.")
        return warnings


class ClaimFigures(Record):
    """What became of a claim of the paper under the run's own score, by the paper's threshold.

    Attributes:
        criterion: What the claim is about, for people.
        verdict: agrees, disagrees or cannot tell.
        remains: Whether, with length held, something is left of it: the interval of its coefficient excludes 0,
            on the side that the claim names.
    """

    criterion: str
    verdict: str
    remains: bool


class CharacteristicsSummary(RunSummary):
    """The figures of a reading.

    Attributes:
        pipeline: That read the texts.
        corpus: Where the training corpus was read from; None without one.
        foreign_samples: Samples in another language, which were not read.
        claims: What the set shows of the paper's claims; None in readings of earlier versions.
    """

    pipeline: str = ""
    corpus: str | None = None
    foreign_samples: int = 0
    claims: list[ClaimFigures] | None = None


@dataclass(frozen=True)
class CharacteristicsFiles(RunDirectory):
    """What the directory of a characteristics run holds, by name; of `exports` those that were asked for."""

    noun: ClassVar[str] = "characteristics run"
    results: ClassVar[tuple[str, ...]] = ("spans", "features")

    features = Artifact("features.parquet", "A row per sample: pipeline, foreign, cut and every feature.")
    spans = Artifact("spans.parquet", "A row per marked stretch of text: sample_id, kind, start, end, depth.")
    # Runs of earlier versions have no such folder until somebody looks at them.
    judgements = Artifact("judgements", "Folder of what was judged by resampling, a file for each choice.")
    samples_csv = Artifact("samples.csv", "Samples with scores and features, for a spreadsheet.")
    samples = Artifact("samples.parquet", "The same as Parquet.")
    strata = Artifact("strata.csv", "Which samples are in which group of each criterion.")
    claims = Artifact("claims.csv", "The paper's claims with their verdicts.")
    claims_json = Artifact("claims.json", "The same as JSON.")
    groups = Artifact("groups.csv", "Mean MRD of each group with its interval.")
    regression = Artifact("regression.csv", "MRD by all characteristics together.")
    # Written by earlier versions, and deleted with the run.
    report = Artifact("report.html", "A report of earlier versions; `mrd-lens report` makes one.")

    def write(self, features: pd.DataFrame, spans: pd.DataFrame, about: About) -> None:
        """Write both, `about` in the schema of the features."""
        write_frame(self.spans, spans)
        table = pa.Table.from_pandas(features, preserve_index=False)
        metadata = (table.schema.metadata or {}) | {_METADATA_KEY: about.model_dump_json().encode()}

        def write(stream: io.BufferedWriter) -> None:
            pq.write_table(table.replace_schema_metadata(metadata), stream)

        write_atomically(self.features, write)

    def read_features(self) -> tuple[pd.DataFrame, About]:
        """Return the features and how they came about."""
        if not self.features.exists():
            raise UserError(
                f"The characteristics in {self.directory}",
                "are gone: somebody removed the file by hand.",
                "Read the texts again.",
            )
        table = pq.ParquetFile(self.features).read()
        return table.to_pandas(), About.model_validate_json(table.schema.metadata[_METADATA_KEY])

    def read_spans(self, sample_id: str) -> pd.DataFrame:
        """Return the marked stretches of one sample."""
        return pd.read_parquet(self.spans, filters=[("sample_id", "==", sample_id)])
