"""The job behind `python -m analysis run` for a characteristics run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.characteristics import About, CharacteristicsFiles
from analysis.complexity import COMPLEXITY, Complexity, complexity_index
from analysis.corpus import Corpus
from analysis.features import Feature, Material, features
from analysis.features.rare_words import common_words
from analysis.pipeline.loading import Pipeline, load
from analysis.reading import TextRow, read_texts
from mrd_core.config import CharacteristicsConfig, Scope
from mrd_core.errors import UserError
from mrd_core.runs import JobContext
from mrd_core.samples import ForgetSet
from mrd_core.scoring.files import RunFiles, json_value


def characteristics_job(config: CharacteristicsConfig, context: JobContext) -> dict[str, Any]:
    """Read the texts of a score run, write `features.parquet` and `spans.parquet`, and return a summary.

    Raises:
        UserError: There is no such score run, pipeline or corpus.
        Cancelled: The run was asked to stop.
    """
    began = time.monotonic()
    material = _material(config, context)
    pipeline = load(config.reading.pipeline, config.reading.language)
    context.event("info", f"pipeline: {pipeline.name} {pipeline.version} ({pipeline.reason})")
    rows = list(_read(material, pipeline, context))
    table = _text_features(rows, material.samples, pipeline)
    averages = _add_set_features(table, material, context)
    complexity = _add_complexity(table)
    about = _about(table, rows, pipeline, material, averages, complexity, config, time.monotonic() - began)
    for warning in _warnings(about):
        context.event("warning", warning)
    CharacteristicsFiles(context.directory).write(table, _spans(rows, material.samples), about)
    return _summary(about, len(table))


def _material(config: CharacteristicsConfig, context: JobContext) -> Material:
    """Read everything but the texts themselves; a bad corpus is told before any work is done."""
    files = RunFiles(config.score_run)
    if not files.scores.exists():
        raise UserError(str(config.score_run), "holds no finished score run.", "Score the forget set first.")
    samples = ForgetSet.load(files.samples).frame
    context.progress(0, len(samples), message="Loading the pipeline")
    hidden_states = np.load(files.hidden_states, allow_pickle=False) if files.hidden_states.exists() else None
    scores = pd.read_parquet(files.scores)
    return Material(
        samples=samples,
        settings=config.reading,
        corpus=Corpus.read(config.corpus) if config.corpus else None,
        hidden_states=hidden_states,
        scores=scores.set_index("sample_id").loc[samples["sample_id"]].reset_index(),
    )


def _read(material: Material, pipeline: Pipeline, context: JobContext) -> Iterator[TextRow]:
    settings, samples = material.settings, material.samples
    texts = samples["answer"]
    if settings.text is Scope.FULL:
        texts = (samples["prompt"] + "\n" + samples["answer"]).str.lstrip("\n")
    common = common_words(settings.language, settings.common_words)
    read = read_texts(texts, pipeline, settings, _read_from_text(), common)
    for done, row in enumerate(read, start=1):
        context.check_cancelled()
        context.progress(done, len(samples), message="Reading")
        yield row


def _read_from_text() -> list[Feature]:
    return [feature for feature in features() if feature.of]


def _text_features(rows: Sequence[TextRow], samples: pd.DataFrame, pipeline: Pipeline) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": samples["sample_id"],
            "pipeline": f"{pipeline.name} {pipeline.version}",
            "foreign": [row.foreign for row in rows],
            "cut": [row.cut for row in rows],
        }
        | {feature.name: [row.values[feature.name] for row in rows] for feature in _read_from_text()}
    )


def _add_set_features(table: pd.DataFrame, material: Material, context: JobContext) -> dict[str, float]:
    """Add the features that need the whole set, and return the training averages of those that have one."""
    averages = {}
    for feature in features():
        if feature.over is None:
            continue
        context.check_cancelled()
        context.progress(len(table), len(table), message=feature.title)
        computed = feature.over(material)
        if computed is not None:
            table[feature.name] = computed.values
        if computed is not None and computed.training_average is not None:
            averages[feature.name] = computed.training_average
    return averages


def _add_complexity(table: pd.DataFrame) -> Complexity:
    parts = [feature.name for feature in _read_from_text() if feature.group == COMPLEXITY.group]
    complexity = complexity_index(table, parts, table["n_words"])
    table[COMPLEXITY.name] = complexity.values
    return complexity


def _spans(rows: Sequence[TextRow], samples: pd.DataFrame) -> pd.DataFrame:
    found = [
        (sample_id, *span) for sample_id, row in zip(samples["sample_id"], rows, strict=True) for span in row.spans
    ]
    return pd.DataFrame(found, columns=["sample_id", "kind", "start", "end", "depth"]).astype({"sample_id": "str"})


def _about(
    table: pd.DataFrame,
    rows: Sequence[TextRow],
    pipeline: Pipeline,
    material: Material,
    averages: dict[str, float],
    complexity: Complexity,
    config: CharacteristicsConfig,
    seconds: float,
) -> About:
    present = [feature for feature in (*features(), COMPLEXITY) if feature.name in table]
    return About(
        pipeline=f"{pipeline.name} {pipeline.version}",
        pipeline_reason=pipeline.reason,
        scheme=pipeline.scheme,
        attachment=pipeline.attachment,
        config=config,
        corpus_rows=None if material.corpus is None else len(material.corpus.rows),
        features={feature.name: feature.described() for feature in present},
        undefined={feature.name: int(table[feature.name].isna().sum()) for feature in present},
        training_averages=averages,
        complexity_parts=complexity.parts,
        complexity_left_out=complexity.left_out,
        complexity_length_correlation=json_value(complexity.length_correlation),
        foreign=Counter(row.foreign for row in rows if row.foreign),
        cut=sum(row.cut for row in rows),
        seconds=round(seconds, 3),
    )


def _warnings(about: About) -> list[str]:
    found = []
    if about.foreign:
        languages = ", ".join(f"{language} {count}" for language, count in about.foreign.items())
        found.append(
            f"{sum(about.foreign.values())} sample(s) are not in '{about.config.reading.language}' ({languages}): "
            "they were not read."
        )
    if about.cut:
        found.append(f"{about.cut} sample(s) are too long to be read whole: only their beginning was.")
    return found


def _summary(about: About, n_samples: int) -> dict[str, Any]:
    return {
        "n_samples": n_samples,
        "pipeline": about.pipeline,
        "corpus": about.config.corpus.source if about.config.corpus else None,
        "foreign_samples": sum(about.foreign.values()),
        "seconds": about.seconds,
        "warnings": _warnings(about),
    }
