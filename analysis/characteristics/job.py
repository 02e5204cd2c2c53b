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
from analysis.characteristics.files import About, CharacteristicsFiles, CharacteristicsSummary
from analysis.characteristics.judgement import claim_figures, judged
from analysis.characteristics.reading import TextRow, read_texts
from analysis.characteristics.runs import characterised
from analysis.difficulty import ScoredRun, Variant
from analysis.features import Feature, Material, features
from analysis.features.rare_words import common_words
from analysis.text.config import ReadingConfig
from analysis.text.corpus import Corpus
from analysis.text.pipeline.loading import Pipeline, load
from mrd_core.errors import UserError
from mrd_core.runs import JobContext
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import json_value
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import ScoreConfig

# Of a table that may have no row.
SPAN_TYPES = {"sample_id": "str", "kind": "str", "start": "int64", "end": "int64", "depth": "int64"}
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
    run = ScoredRun(config.score_run)
    if not run.files.scores.exists():
        raise UserError(str(config.score_run), "holds no finished score run.", "Score the forget set first.")
    samples = run.samples
    context.progress(0, len(samples), message="Loading the pipeline")
    pipeline = load(config.reading.pipeline, config.reading.language)
    context.event("info", f"pipeline: {pipeline.name} {pipeline.version} ({pipeline.reason})")
    # First, because hidden states and the memory of the parser would be too much together.
    set_features = _set_features(config, run, context)
    single = [feature for feature in features() if feature.of]
    rows = list(_read(samples, config.reading, pipeline, single, context))
    table, complexity = _table(rows, samples, pipeline, single, set_features)
    about = _about(table, rows, pipeline, set_features, complexity, config, time.monotonic() - began)
    for warning in about.warnings:
        context.event("warning", warning)
    marks = [(name, *span) for name, row in zip(samples["sample_id"], rows, strict=True) for span in row.spans]
    spans = pd.DataFrame(marks, columns=list(SPAN_TYPES)).astype(SPAN_TYPES)
    CharacteristicsFiles(context.directory).write(table, spans, about)
    context.progress(len(samples), len(samples), message="Judging the claims")
    estimator = read_config(config.score_run, ScoreConfig).estimator
    variant = Variant(estimator.scope, estimator.normalisation)
    judgement = judged(characterised(config.score_run, context.directory, variant), {}, context.directory)
    summary = CharacteristicsSummary(
        n_samples=len(table),
        pipeline=about.pipeline,
        corpus=config.corpus.source if config.corpus else None,
        foreign_samples=sum(about.foreign.values()),
        claims=claim_figures(judgement),
        seconds=about.seconds,
        warnings=list(about.warnings),
    )
    return summary.as_json()


def _set_features(config: CharacteristicsConfig, run: ScoredRun, context: JobContext) -> _SetFeatures:
    hidden_states = run.files.hidden_states
    material = Material(
        samples=run.samples,
        settings=config.reading,
        corpus=Corpus.read(config.corpus) if config.corpus else None,
        hidden_states=np.load(hidden_states, allow_pickle=False) if hidden_states.exists() else None,
        scores=run.scores.set_index("sample_id").loc[run.samples["sample_id"]].reset_index(),
    )
    values, averages = {}, {}
    for feature in features():
        if feature.over is None:
            continue
        context.check_cancelled()
        context.progress(0, len(run.samples), message=feature.title)
        computed = feature.over(material)
        if computed is not None:
            values[feature.name] = computed.values
        if computed is not None and computed.training_average is not None:
            averages[feature.name] = computed.training_average
    return _SetFeatures(values, averages, len(material.corpus.rows) if material.corpus else None)


def _read(
    samples: pd.DataFrame,
    settings: ReadingConfig,
    pipeline: Pipeline,
    single: Sequence[Feature],
    context: JobContext,
) -> Iterator[TextRow]:
    texts, total = samples["answer"], len(samples)
    if settings.text is Scope.FULL:
        texts = (samples["prompt"] + "\n" + samples["answer"]).str.lstrip("\n")
    common = common_words(settings.language, settings.common_words)
    # Rows come in bursts, and the first of a burst stands for the time that all before it took.
    for done, row in enumerate(read_texts(texts, pipeline, settings, single, common)):
        context.check_cancelled()
        context.progress(done, total, message="Reading")
        yield row
    context.progress(total, total, message="Reading")


def _table(
    rows: Sequence[TextRow],
    samples: pd.DataFrame,
    pipeline: Pipeline,
    single: Sequence[Feature],
    set_features: _SetFeatures,
) -> tuple[pd.DataFrame, Complexity]:
    """Return a row per sample with every feature, and how the complexity index in it came about."""
    table = pd.DataFrame(
        {
            "sample_id": samples["sample_id"],
            "pipeline": f"{pipeline.name} {pipeline.version}",
            "foreign": pd.Series([row.foreign for row in rows], dtype="str"),
            "cut": [row.cut for row in rows],
        }
        | {feature.name: [row.values[feature.name] for row in rows] for feature in single}
    ).assign(**set_features.values)
    # Texts that were not read say nothing about which measures suit the others.
    read = table[table["foreign"].isna()]
    parts = [feature.name for feature in single if feature.group == COMPLEXITY.group]
    complexity = complexity_index(read, parts, read["n_words"])
    table[COMPLEXITY.name] = complexity.values
    return table, complexity


def _about(
    table: pd.DataFrame,
    rows: Sequence[TextRow],
    pipeline: Pipeline,
    set_features: _SetFeatures,
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
        corpus_rows=set_features.corpus_rows,
        features={feature.name: feature.described() for feature in present},
        undefined={feature.name: int(table[feature.name].isna().sum()) for feature in present},
        training_averages=set_features.averages,
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
