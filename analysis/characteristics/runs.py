"""The characteristics of a scored forget set: asking for them, where they lie, and reading them back.

A characteristics run reads the texts of a score run. Its directory lies in that of the score run and is named
for its settings and the pipeline that reads: with the same ones the texts are read once.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.exc import IntegrityError

from analysis import difficulty
from analysis.difficulty import Variant
from analysis.features import VERSION, features
from analysis.statistics.groups import Measured
from analysis.text.pipeline.loading import choose
from mrd_core.characteristics_config import CharacteristicsConfig
from mrd_core.errors import UserError
from mrd_core.runs import Launcher, Run, RunState, RunStore, command_for, submit
from mrd_core.runs import directory as run_directory
from mrd_core.runs.directory import CONFIG_FILE, READINGS, read_config
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import Normalisation, ScoreConfig
from mrd_core.scoring.files import RunFiles, write_atomically
from mrd_core.settings.configuration import Frozen
from mrd_core.settings.installation import Settings

_METADATA_KEY = b"mrd_characteristics"
_KEY_LENGTH = 12


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


@dataclass(frozen=True)
class CharacteristicsFiles:
    """What the directory of a characteristics run holds."""

    directory: Path

    @property
    def features(self) -> Path:
        """One row per sample: sample_id, pipeline, foreign, cut and every feature; written last."""
        return self.directory / "features.parquet"

    @property
    def spans(self) -> Path:
        """One row per marked stretch of text: sample_id, kind, start, end, depth."""
        return self.directory / "spans.parquet"

    def write(self, features: pd.DataFrame, spans: pd.DataFrame, about: About) -> None:
        """Write both, `about` in the schema of the features."""
        write_atomically(self.spans, lambda stream: spans.to_parquet(stream, index=False))
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


@dataclass(frozen=True, eq=False)
class Characterised:
    """A scored forget set with its characteristics.

    Attributes:
        table: One row per sample, hardest first: the columns of `difficulty.ranking`, and every feature.
        about: How the features came about.
        measured: The MRD of the same rows with its draws, in either normalisation.
        variant: The scores that are looked at.
    """

    table: pd.DataFrame
    about: About
    measured: dict[Normalisation, Measured]
    variant: Variant


def characterised(score_run: Path, reading: Path, variant: Variant) -> Characterised:
    """Join the scores of a run with the features of one of its characteristics runs.

    Raises:
        UserError: A file of either is gone.
    """
    measured_features, about = CharacteristicsFiles(reading).read_features()
    ranking = difficulty.ranking(score_run, variant)
    table = ranking.merge(
        measured_features.drop(columns="training_count", errors="ignore"), on="sample_id", how="left"
    )
    measured = {
        normalisation: difficulty.measured(
            score_run, replace(variant, normalisation=normalisation), table["sample_id"]
        )
        for normalisation in Normalisation
    }
    return Characterised(table, about, measured, variant)


def default_config(score_run: Path) -> CharacteristicsConfig:
    """Return the reading that needs no choice; a run of the demo model brings its training corpus."""
    model = read_config(score_run, ScoreConfig).model.source
    corpus = ForgetSetConfig(source="demo") if model == "demo" else None
    return CharacteristicsConfig(score_run=score_run.resolve(), corpus=corpus)


def request(
    config: CharacteristicsConfig, *, store: RunStore, settings: Settings, launcher: Launcher | None = None
) -> Run:
    """Return the characteristics run of these settings: the one there is, or a new one.

    One that ended early goes on, and one whose features are gone is replaced. Without a launcher the caller
    carries the run out.

    Raises:
        UserError: There is no finished score run, or no pipeline that reads the language.
    """
    if not RunFiles(config.score_run).summary.exists():
        raise UserError(str(config.score_run), "holds no finished score run.", "Score the forget set first.")
    directory = reading_directory(config)
    store.reap()
    known = _readable(store.find_by_directory(directory), store)
    if known is None:
        _clear_finished(directory)
        title = f"Characteristics of {read_config(config.score_run, ScoreConfig).title}"
        try:
            return submit(
                config, store=store, settings=settings, directory=directory, title=title, launcher=launcher
            )
        except (OSError, IntegrityError):
            # Somebody else asked for the same at the same moment, and was first.
            known = store.find_by_directory(directory)
            if known is None:
                raise
    if known.state in (RunState.FAILED, RunState.CANCELLED, RunState.LOST):
        known = store.resume(known.id)
        if launcher:
            launcher.launch(known, command_for(known.directory, known.kind))
    return known


def reading_directory(config: CharacteristicsConfig) -> Path:
    """Return where the reading with these settings lies, named for them and the pipeline that would read now.

    Raises:
        UserError: No pipeline reads the language.
    """
    pipeline = choose(config.reading.pipeline, config.reading.language)
    settings = config.model_dump(mode="json", exclude={"score_run"})
    measured = [VERSION, *(feature.name for feature in features())]
    state = json.dumps([settings, measured, pipeline.name, pipeline.version, _corpus_state(config.corpus)])
    return config.score_run / READINGS / hashlib.sha256(state.encode()).hexdigest()[:_KEY_LENGTH]


def _corpus_state(corpus: ForgetSetConfig | None) -> list[list[Any]]:
    """Return what changes when a file of the corpus does; nothing for one that is not on this machine."""
    if corpus is None:
        return []
    source = Path(corpus.source)
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    found = [(path, path.stat()) for path in files if path.is_file()]
    return [[str(path), state.st_size, state.st_mtime_ns] for path, state in found]


def _readable(run: Run | None, store: RunStore) -> Run | None:
    """Return the run, or delete it where it succeeded and somebody removed its features by hand."""
    if run is None or run.state is not RunState.SUCCEEDED or CharacteristicsFiles(run.directory).features.exists():
        return run
    store.delete(run.id)
    return None


def _clear_finished(directory: Path) -> None:
    """Remove a reading that came along with a copy of the score run, and that this store does not know."""
    if CharacteristicsFiles(directory).features.exists() and (directory / CONFIG_FILE).exists():
        run_directory.remove(directory, whole=False)
