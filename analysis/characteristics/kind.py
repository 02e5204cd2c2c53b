"""Characteristics runs, as the rest of the program sees them.

Their directory lies in that of the score run and is named for the settings and the pipeline that reads: with the
same ones the texts are read once.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from analysis.characteristics.config import CharacteristicsConfig, on_scores
from analysis.characteristics.files import CharacteristicsFiles, CharacteristicsSummary
from analysis.features import VERSION, features
from analysis.text.pipeline.loading import choose
from mrd_core.runs.directory import read_config
from mrd_core.runs.kind import Description, Kind, Summary
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles

_KEY_LENGTH = 12


def place(config: CharacteristicsConfig) -> Path:
    """Return where the run of these settings lies, named for them and the pipeline that would read now.

    Raises:
        UserError: There is no finished score run of more than a preview, or no pipeline that reads the language.
    """
    scored = ScoreFiles.with_mrd(config.score_run)
    pipeline = choose(config.reading.pipeline, config.reading.language)
    settings = config.model_dump(mode="json", exclude={"score_run"})
    measured = [VERSION, *(feature.name for feature in features())]
    corpus_state = []
    # Changes when a file of the corpus does; a corpus that is not on this machine has none.
    if config.corpus:
        source = Path(config.corpus.source)
        files = sorted(source.rglob("*")) if source.is_dir() else [source]
        states = [(path, path.stat()) for path in files if path.is_file()]
        corpus_state = [[str(path), state.st_size, state.st_mtime_ns] for path, state in states]
    state = json.dumps([settings, measured, pipeline.name, pipeline.version, corpus_state])
    return scored.readings / hashlib.sha256(state.encode()).hexdigest()[:_KEY_LENGTH]


def title(config: CharacteristicsConfig) -> str:
    """Return a title for people: `Characteristics of forget10.jsonl on my-llama`."""
    return f"Characteristics of {read_config(config.score_run, ScoreConfig).title}"


def headline(summary: Summary) -> str:
    """Return how many texts were read."""
    return f"{CharacteristicsSummary.model_validate(summary).n_samples} texts read"


def describe(directory: Path, summary: Summary) -> Description:
    """Return what was read by what, and where the features lie."""
    figures = CharacteristicsSummary.model_validate(summary)
    return Description(
        (
            f"{figures.n_samples} texts read by {figures.pipeline} in {figures.seconds:.0f} s",
            f"Features: {CharacteristicsFiles(directory).features}",
        )
    )


CHARACTERISTICS = Kind(
    name="characteristics",
    label="Characteristics",
    config=CharacteristicsConfig,
    job="analysis.characteristics.job:characteristics_job",
    files=CharacteristicsFiles,
    counted="texts",
    headline=headline,
    describe=describe,
    title=title,
    on_scores=on_scores,
    place=place,
)
