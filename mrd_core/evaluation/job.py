"""The job behind `mrd_core run` for an evaluation: set after set, each kept as soon as it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from mrd_core.evaluation.aggregating import (
    FORGET_QUALITY,
    aggregates,
    as_results,
    membership_values,
    without_power,
)
from mrd_core.evaluation.answering import measure_answers
from mrd_core.evaluation.asking import measure_choices, measure_completions, measure_prompts, measure_texts
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import ANSWER_COLUMNS, VALUE_COLUMNS, EvaluationFiles
from mrd_core.evaluation.interchange import write_results
from mrd_core.evaluation.metrics import METRICS
from mrd_core.evaluation.records import EvaluationSummary
from mrd_core.evaluation.reference import held_against, questions_of
from mrd_core.evaluation.request import completed, copy_sets
from mrd_core.evaluation.sets import EvaluationSet, Kind, Sets
from mrd_core.evaluation.soundness import caution, flaws_in
from mrd_core.evaluation.subject import NO_ANSWERS, Measured, Subject
from mrd_core.evaluation.suites import suites
from mrd_core.model import loading as models
from mrd_core.model.processes import Team, team
from mrd_core.runs import JobContext
from mrd_core.runs.files import json_value, read_json, write_frame, write_json
from mrd_core.scoring.encoded import stored_samples

REFERENCE, HARNESS = "reference", "harness"

Part = Callable[[], Measured]


def evaluate_job(config: EvaluateConfig, context: JobContext) -> dict[str, Any]:
    """Carry out an evaluation and return the run's summary; sets that are done are not asked again.

    In a process that follows the worker of the run it takes its part in the asking, and returns nothing.

    Raises:
        UserError: Bad settings, sets or model, or another process of the run is gone.
        Cancelled: The run was asked to stop; finished sets stay.
        Parted: The worker that this process follows is gone.
    """
    files = EvaluationFiles(context.directory)
    if not files.summary.exists():
        with team(config.processes, context.directory, config.model.device) as workers:
            if not workers.leads:
                _follow(config, files, context, workers)
                return {}
            _carry_out(config, files, context, workers)
    # Also where the summary was written and the process killed right after it.
    files.remove_scaffolding()
    return dict(files.read_summary())


def _follow(config: EvaluateConfig, files: EvaluationFiles, context: JobContext, workers: Team) -> None:
    """Ask what the worker of the run asks, and leave it to that one to write."""
    workers.await_file(files.catalogue)
    models.set_threads(workers.seat.count)
    config = completed(config)
    subject, _ = _subject(config, context, workers)
    for name, part in _parts(config, Sets.load(files), subject, files).items():
        # The worker writes that a part is done when every process has done it.
        if name != HARNESS and not (files.parts / f"{name}.done.json").exists():
            part()


def _carry_out(config: EvaluateConfig, files: EvaluationFiles, context: JobContext, workers: Team) -> None:
    config = completed(config)
    if not files.catalogue.exists():
        copy_sets(config, files)
    suite = Sets.load(files)
    began = time.monotonic()
    threads = models.set_threads(workers.seat.count)
    context.progress(0, 1, message="Loading the model")
    subject, reasons = _subject(config, context, workers)
    loaded = time.monotonic() - began
    parts = _parts(config, suite, subject, files)
    for number, (name, part) in enumerate(parts.items()):
        context.check_cancelled()
        context.progress(number, len(parts), message=f"Asking: {name.replace('_', ' ')}")
        # Unless an earlier attempt has done it; the notes are written last.
        done = files.parts / f"{name}.done.json"
        if not done.exists():
            began_part = time.monotonic()
            measured = part()
            write_frame(files.parts / f"{name}.values.parquet", measured.values)
            write_frame(files.parts / f"{name}.answers.parquet", measured.answers)
            if measured.tokens is not None:
                write_frame(files.reference_tokens, measured.tokens)
            seconds = round(time.monotonic() - began_part, 3)
            write_json(done, {"notes": list(measured.notes), "seconds": seconds})
    context.progress(len(parts), len(parts), message="Asking")
    summary = _summary(config, suite, files, list(parts))
    # Of all attempts, each part once.
    seconds = round(loaded + sum(summary.seconds_by_set.values()), 3)
    summary = summary.model_copy(update={"reasons": {"threads": threads.stated} | reasons, "seconds": seconds})
    for note in summary.notes:
        context.event("info", note)
    write_json(files.summary, summary.as_json())


def _subject(config: EvaluateConfig, context: JobContext, workers: Team) -> tuple[Subject, dict[str, str]]:
    """Load the model, and return it with the reasons of what was chosen, once all processes have it."""
    model = models.load(config.model.model_copy(update={"device": workers.device}))
    workers.require_one_device(model.network)
    encoder = model.encoder(config.model, stored_samples(config.score_run, model.tokenizer, config.model))
    batch_tokens = model.reader(config.batch_tokens).batch_tokens
    if config.batch_tokens == "auto" and model.device.type == "cuda":
        # The batches of one GPU are so large that a set may be one of them, and the others would have none.
        batch_tokens //= config.processes
    subject = Subject(
        model=model,
        encoder=encoder,
        batch_tokens=batch_tokens,
        max_new_tokens=config.max_new_tokens or suites()[config.suite].max_new_tokens,
        k_percent=config.k_percent,
        before_batch=context.check_cancelled,
        processes=workers.meet(context),
    )
    choices = model.choices | {"template": encoder.template}
    return subject, {name: choice.stated for name, choice in choices.items()}


def _parts(config: EvaluateConfig, suite: Sets, subject: Subject, files: EvaluationFiles) -> dict[str, Part]:
    """Return the units of work by name, in their order."""
    measures: dict[Kind, Callable[[Subject, EvaluationSet], Measured]] = {
        "answers": partial(
            measure_answers, extraction=config.extraction_likelihood, embedding_model=config.embedding_model
        ),
        "choices": measure_choices,
        "completions": measure_completions,
        "prompts": partial(measure_prompts, classifier=config.toxicity_model),
        "texts": measure_texts,
    }
    parts: dict[str, Part] = {}
    if config.reference is not None:
        # The first, since a reference that cannot be loaded should not be found out at the end.
        parts[REFERENCE] = partial(_reference, config, suite, subject)
    parts |= {asked.name: partial(measures[asked.kind], subject, asked) for asked in suite.sets}
    if config.harness_tasks:
        parts[HARNESS] = partial(_harness, config, subject, files)
    return parts


def _reference(config: EvaluateConfig, suite: Sets, subject: Subject) -> Measured:
    return held_against(config, questions_of(config, suite), subject)


def _harness(config: EvaluateConfig, subject: Subject, files: EvaluationFiles) -> Measured:
    from mrd_core.evaluation.harness import run_tasks

    tasks = run_tasks(subject, config.harness_tasks, config.data, config.limit)
    # Of a model that has broken down a task may be no number.
    write_json(
        files.parts / f"{HARNESS}.json",
        {task: {name: json_value(value) for name, value in values.items()} for task, values in tasks.items()},
    )
    # Of a task there is one value, and none of its samples.
    return Measured(pd.DataFrame(columns=VALUE_COLUMNS[1:]), NO_ANSWERS)


def _summary(config: EvaluateConfig, suite: Sets, files: EvaluationFiles, parts: list[str]) -> EvaluationSummary:
    """Put the parts together, write the tables of the run, and return its figures."""
    values = _joined(files, [name for name in parts if name != HARNESS], "values", VALUE_COLUMNS)
    values.loc[values["split"] == REFERENCE, "split"] = "forget"
    values = pd.concat([values, membership_values(values)], ignore_index=True)
    answers = _joined(files, [asked.name for asked in suite.sets], "answers", ANSWER_COLUMNS)
    of_sets = aggregates(values, suite)
    write_frame(files.values, values)
    write_frame(files.answers, answers)
    write_json(files.aggregates, [aggregate.as_json for aggregate in of_sets])
    write_results(files.openunlearning, as_results(values, of_sets))
    done = {name: read_json(files.parts / f"{name}.done.json") for name in parts}
    quality = [each.value for each in of_sets if each.metric == FORGET_QUALITY]
    cautions = [words for p_value in quality if (words := caution(p_value, flaws_in(files)))]
    return EvaluationSummary(
        suite=config.suite,
        n_samples=sum(len(asked.frame) for asked in suite.sets),
        sets={asked.name: len(asked.frame) for asked in suite.sets},
        notes=list(dict.fromkeys([*suite.notes, *(note for part in done.values() for note in part["notes"])])),
        # Most have one reason, which the metric names.
        warnings=[
            f"{aggregate.metric} is undefined on {aggregate.undefined} of {aggregate.n + aggregate.undefined} "
            f"samples of {aggregate.split}."
            for aggregate in of_sets
            if aggregate.undefined and METRICS[aggregate.metric].per_sample
        ]
        + without_power(of_sets)
        + [f"{METRICS[FORGET_QUALITY].title} is no good sign. {words}" for words in cautions],
        seconds_by_set={name: part["seconds"] for name, part in done.items()},
        texts_generated=int(answers["generated"].notna().sum()),
        reference=config.reference,
        harness=read_json(files.parts / f"{HARNESS}.json") if HARNESS in parts else None,
    )


def _joined(files: EvaluationFiles, parts: list[str], kind: str, columns: list[str]) -> pd.DataFrame:
    frames = [pd.read_parquet(files.parts / f"{name}.{kind}.parquet").assign(split=name) for name in parts]
    return pd.concat([frame[columns] for frame in frames], ignore_index=True)
