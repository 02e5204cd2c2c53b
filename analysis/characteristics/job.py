"""The job of a characteristics run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.characteristics.complexity import COMPLEXITY, Complexity, complexity_index
from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.files import About, CharacteristicsFiles
from analysis.characteristics.reading import TextRow, read_texts
from analysis.features import Feature, Material, features
from analysis.features.rare_words import common_words
from analysis.text.config import ReadingConfig
from analysis.text.corpus import Corpus
from analysis.text.pipeline.loading import Pipeline, load
from mrd_core.errors import UserError
from mrd_core.runs import JobContext
from mrd_core.runs.files import json_value
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import Scope
from mrd_core.scoring.files import RunFiles

# Of the file, which may have no row.
_SPAN_TYPES = {"sample_id": "str", "kind": "str", "start": "int64", "end": "int64", "depth": "int64"}


# Fewer parts make an index of whatever the parser does with a fragment.
FEWEST_PARTS = 3
HARDLY_MORE_THAN_LENGTH = 0.9


@dataclass(frozen=True, eq=False)
class _SetFeatures:
    """The features that need the whole set.

    Attributes:
        values: By name, those that could be computed; shape (N,) each.
        averages: By name, the means over the training corpus, where they mean something.
        corpus_rows: Rows of the training corpus; None without one.
    """

    values: dict[str, npt.NDArray[np.float64]]
    averages: dict[str, float]
    corpus_rows: int | None


def characteristics_job(config: CharacteristicsConfig, context: JobContext) -> dict[str, Any]:
    """Read the texts of a score run, write `features.parquet` and `spans.parquet`, and return a summary.

    Raises:
        UserError: There is no such score run, pipeline or corpus.
        Cancelled: The run was asked to stop.
    """
    began = time.monotonic()
    samples = _samples(config)
    context.progress(0, len(samples), message="Loading the pipeline")
    pipeline = load(config.reading.pipeline, config.reading.language)
    context.event("info", f"pipeline: {pipeline.name} {pipeline.version} ({pipeline.reason})")
    # First, because hidden states and the memory of the parser would be too much together.
    of_set = _set_features(config, samples, context)
    rows = list(_read(samples, config.reading, pipeline, context))
    table = _text_features(rows, samples, pipeline).assign(**of_set.values)
    complexity = _add_complexity(table)
    about = _about(table, rows, pipeline, of_set, complexity, config, time.monotonic() - began)
    for warning in _warnings(about):
        context.event("warning", warning)
    CharacteristicsFiles(context.directory).write(table, _spans(rows, samples), about)
    return _summary(about, len(table))


def _samples(config: CharacteristicsConfig) -> pd.DataFrame:
    files = RunFiles(config.score_run)
    if not files.scores.exists():
        raise UserError(str(config.score_run), "holds no finished score run.", "Score the forget set first.")
    return ForgetSet.load(files.samples).frame


def _set_features(config: CharacteristicsConfig, samples: pd.DataFrame, context: JobContext) -> _SetFeatures:
    material = _material(config, samples)
    values, averages = {}, {}
    for feature in features():
        if feature.over is None:
            continue
        context.check_cancelled()
        context.progress(0, len(samples), message=feature.title)
        computed = feature.over(material)
        if computed is not None:
            values[feature.name] = computed.values
        if computed is not None and computed.training_average is not None:
            averages[feature.name] = computed.training_average
    return _SetFeatures(values, averages, len(material.corpus.rows) if material.corpus else None)


def _material(config: CharacteristicsConfig, samples: pd.DataFrame) -> Material:
    files = RunFiles(config.score_run)
    scores = pd.read_parquet(files.scores)
    return Material(
        samples=samples,
        settings=config.reading,
        corpus=Corpus.read(config.corpus) if config.corpus else None,
        hidden_states=np.load(files.hidden_states, allow_pickle=False) if files.hidden_states.exists() else None,
        scores=scores.set_index("sample_id").loc[samples["sample_id"]].reset_index(),
    )


def _read(
    samples: pd.DataFrame, settings: ReadingConfig, pipeline: Pipeline, context: JobContext
) -> Iterator[TextRow]:
    texts, total = samples["answer"], len(samples)
    if settings.text is Scope.FULL:
        texts = (samples["prompt"] + "\n" + samples["answer"]).str.lstrip("\n")
    common = common_words(settings.language, settings.common_words)
    # Rows come in bursts, and the first of a burst stands for the time that all before it took.
    for done, row in enumerate(read_texts(texts, pipeline, settings, _read_from_text(), common)):
        context.check_cancelled()
        context.progress(done, total, message="Reading")
        yield row
    context.progress(total, total, message="Reading")


def _read_from_text() -> list[Feature]:
    return [feature for feature in features() if feature.of]


def _text_features(rows: Sequence[TextRow], samples: pd.DataFrame, pipeline: Pipeline) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": samples["sample_id"],
            "pipeline": f"{pipeline.name} {pipeline.version}",
            "foreign": pd.Series([row.foreign for row in rows], dtype="str"),
            "cut": [row.cut for row in rows],
        }
        | {feature.name: [row.values[feature.name] for row in rows] for feature in _read_from_text()}
    )


def _add_complexity(table: pd.DataFrame) -> Complexity:
    parts = [feature.name for feature in _read_from_text() if feature.group == COMPLEXITY.group]
    # Texts that were not read say nothing about which measures suit the others.
    read = table[table["foreign"].isna()]
    complexity = complexity_index(read, parts, read["n_words"])
    table[COMPLEXITY.name] = complexity.values
    return complexity


def _spans(rows: Sequence[TextRow], samples: pd.DataFrame) -> pd.DataFrame:
    found = [
        (sample_id, *span) for sample_id, row in zip(samples["sample_id"], rows, strict=True) for span in row.spans
    ]
    return pd.DataFrame(found, columns=list(_SPAN_TYPES)).astype(_SPAN_TYPES)


def _about(
    table: pd.DataFrame,
    rows: Sequence[TextRow],
    pipeline: Pipeline,
    of_set: _SetFeatures,
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
        corpus_rows=of_set.corpus_rows,
        features={feature.name: feature.described() for feature in present},
        undefined={feature.name: int(table[feature.name].isna().sum()) for feature in present},
        training_averages=of_set.averages,
        complexity_parts=complexity.parts,
        complexity_left_out=complexity.left_out,
        complexity_length_correlation=json_value(complexity.length_correlation),
        foreign=Counter(row.foreign for row in rows if row.foreign),
        cut=sum(row.cut for row in rows),
        cautions=tuple(_cautions(table, complexity)),
        seconds=round(seconds, 3),
    )


def _cautions(table: pd.DataFrame, complexity: Complexity) -> Iterator[str]:
    if "occurrences" in table and not (table["occurrences"] > 0).any():
        yield "No sample of the forget set occurs in the training corpus: it may not be the right one."
    if table[COMPLEXITY.name].notna().any() and len(complexity.parts) < FEWEST_PARTS:
        yield f"The complexity index has {len(complexity.parts)} part(s) only: the texts are too short for more."
    if abs(complexity.length_correlation) > HARDLY_MORE_THAN_LENGTH:
        yield (
            f"The complexity index goes with length (Spearman {complexity.length_correlation:+.2f}), so it says "
            "hardly more than length does."
        )


def _warnings(about: About) -> list[str]:
    found = list(about.cautions)
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
