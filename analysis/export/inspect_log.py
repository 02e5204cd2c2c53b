"""Evaluations as logs of Inspect (`.eval`), through the writer of `inspect_ai`, which is installed apart."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import evaluated
from analysis.comparison.evaluated import AskedSet, Evaluated
from analysis.comparison.strata import COLUMN
from analysis.difficulty import tercile
from analysis.redaction import LEFT_OUT
from mrd_core import __version__
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.metrics import METRICS
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import json_value, read_json

# Which column of a set is what was asked, and which what was right.
_INPUTS, _TARGETS = ("prompt", "question", "text"), ("answer", "references")
# Of the scores, what a reader of a log wants to know of a sample.
_DIFFICULTY = ("mrd", "mrd_se", "mrd_low", "mrd_high", "mrd_answer_mean", "mrd_answer_sum", "n_tokens")
# What, why and the way out.
NOT_INSTALLED = (
    "A log of Inspect",
    "is written by inspect_ai, which is not installed.",
    "Install it: `pip install inspect-ai` (requirements-inspect.txt names the version).",
)
# Inspect makes ids the names of files within the log.
_NAME = re.compile(r"[\w.-]{1,100}")


def available() -> bool:
    """Tell whether Inspect is installed."""
    return importlib.util.find_spec("inspect_ai") is not None


def inspect_logs(directories: Iterable[Path], *, texts: bool = True) -> dict[str, Callable[[], bytes]]:
    """Return for the name of each log, as Inspect names them, what makes its content.

    Args:
        directories: Of finished evaluations.
        texts: Whether prompts, answers and what the model wrote are in it.

    Raises:
        UserError: Inspect is not installed, or one of them is no finished evaluation.
    """
    if not available():
        raise UserError(*NOT_INSTALLED)
    evaluations = [_Evaluation(directory) for directory in directories]
    return {each.file_name: partial(_content, each, texts=texts) for each in evaluations}


class _Evaluation:
    """A finished evaluation, with what a log says of it as a whole.

    Attributes:
        config: Of the run.
        files: What its directory holds.
        asked: What it found.
        began: When, in UTC; `ended` when it was done.
        id: The same for the same evaluation, whenever it is exported.
    """

    def __init__(self, directory: Path) -> None:
        self.config = read_config(directory, EvaluateConfig)
        self.files = EvaluationFiles.finished(directory)
        self.asked = evaluated.read(directory)
        self.ended = datetime.fromtimestamp(self.files.summary.stat().st_mtime, UTC).replace(microsecond=0)
        self.began = self.ended - timedelta(seconds=round(self.asked.cost["evaluation_seconds"]))
        named = f"{directory.resolve()} {self.asked.group} {self.asked.seed}"
        self.id = hashlib.blake2b(named.encode(), digest_size=11).hexdigest()

    @property
    def file_name(self) -> str:
        """Time, task and id."""
        return f"{self.began:%Y-%m-%dT%H-%M-%S}+00-00_{self.config.suite}_{self.id}.eval"


def _content(evaluation: _Evaluation, *, texts: bool) -> bytes:
    from inspect_ai.log import EvalLog, EvalPlan, EvalStats, write_eval_log

    samples = list(_samples(evaluation, texts=texts))
    log = EvalLog(
        status="success",
        eval=_spec(evaluation, [sample.id for sample in samples], texts=texts),
        plan=EvalPlan(),
        results=_results(evaluation, len(samples)),
        stats=EvalStats(started_at=evaluation.began.isoformat(), completed_at=evaluation.ended.isoformat()),
        samples=samples,
    )
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as apart:
        path = Path(folder) / evaluation.file_name
        # It brings an event loop of its own, and whoever asks may be within another.
        apart.submit(write_eval_log, log, path, format="eval").result()
        return path.read_bytes()


def _spec(evaluation: _Evaluation, ids: Sequence[str], *, texts: bool) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalSpec

    config, asked = evaluation.config, evaluation.asked
    began_with = Path(asked.settings["model.source"]).name
    return EvalSpec(
        eval_id=evaluation.id,
        run_id=evaluation.id,
        task_id=evaluation.id,
        created=evaluation.began.isoformat(),
        task=config.suite,
        dataset=EvalDataset(
            name=config.suite, location=config.data, samples=len(ids), sample_ids=list(ids), shuffled=False
        ),
        model=f"{began_with}, {asked.name}",
        model_args={"path": config.model.source, "adapter": list(config.model.adapter)},
        config=EvalConfig(limit=config.limit),
        tags=[asked.label],
        packages={"mrd-lens": __version__},
        metadata={
            "label": asked.label,
            "seed": asked.seed,
            "settings": dict(asked.settings),
            "notes": list(asked.notes),
            "harness": asked.harness,
            "texts": texts,
        },
    )


def _results(evaluation: _Evaluation, count: int) -> Any:
    """Return a score for each metric: its value in each set, under the name of the set."""
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore

    values, aggregates = evaluation.asked.values, read_json(evaluation.files.aggregates)
    names = dict.fromkeys([*values["metric"], *(each["metric"] for each in aggregates)])
    scores = []
    for name in names:
        own = values.loc[values["metric"] == name, "value"]
        of_sets = {each["split"]: each for each in aggregates if each["metric"] == name}
        known = METRICS.get(name)
        scores.append(
            EvalScore(
                name=name,
                scorer=name,
                scored_samples=int(own.notna().sum()),
                unscored_samples=int(own.isna().sum()),
                metrics={
                    split: EvalMetric(name=split, value=np.nan if each["value"] is None else each["value"])
                    for split, each in of_sets.items()
                },
                metadata=known and {"title": known.title, "forgotten": known.forget, "kept": known.retain},
            )
        )
    return EvalResults(total_samples=count, completed_samples=count, scores=scores)


@dataclass(frozen=True)
class _Texts:
    """What was asked of a sample, what is right, and what the model wrote, by the way of asking."""

    input: str
    target: str | list[str]
    choices: list[str] | None
    written: Mapping[str, Mapping[str, str | None]]

    @property
    def output(self) -> str | None:
        """What it wrote when it was first asked; None where it was not, or could write nothing."""
        first = next(iter(self.written.values()), None)
        return None if first is None else first["generated"]


def _samples(evaluation: _Evaluation, *, texts: bool) -> Iterator[Any]:
    """Yield the samples of every set, in the order in which they were asked."""
    values = {
        key: dict(zip(group["metric"], group["value"], strict=True))
        for key, group in evaluation.asked.values.groupby(["split", "sample_id"], sort=False)
    }
    difficulty = _difficulty(evaluation.asked)
    for asked in evaluation.asked.sets:
        of_samples = _texts(evaluation.files, asked.name)
        for name, sample_id in zip(_names(asked), asked.sample_ids, strict=True):
            metadata = {"sample_id": sample_id, "set": asked.name, "role": asked.role}
            if asked.role == "forget":
                metadata |= difficulty.get(sample_id, {})
            own = of_samples[sample_id] if texts else _left_out(of_samples[sample_id])
            yield _sample(name, own, values.get((asked.name, sample_id), {}), metadata)


def _sample(name: str, texts: _Texts, values: Mapping[str, float], metadata: Mapping[str, Any]) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    messages: list[Any] = [ChatMessageUser(content=texts.input)]
    output = ModelOutput()
    if texts.output is not None:
        messages.append(ChatMessageAssistant(content=texts.output))
        output = ModelOutput.from_content("", texts.output)
    return EvalSample(
        id=name,
        epoch=1,
        input=texts.input,
        choices=texts.choices,
        target=texts.target,
        messages=messages,
        output=output,
        # The list of samples shows the answer of a score.
        scores={
            metric: Score.unscored(reason="undefined", answer=texts.output)
            if np.isnan(value)
            else Score(value=float(value), answer=texts.output)
            for metric, value in values.items()
        },
        metadata={**metadata, **{way: dict(written) for way, written in list(texts.written.items())[1:]}},
    )


def _names(asked: AskedSet) -> list[str]:
    """Return ids that are the names of files: those of the samples where all are, else their places."""
    if all(map(_NAME.fullmatch, asked.sample_ids)):
        return [f"{asked.name}-{sample_id}" for sample_id in asked.sample_ids]
    return [f"{asked.name}-{place}" for place in range(1, len(asked.sample_ids) + 1)]


def _texts(files: EvaluationFiles, split: str) -> dict[str, _Texts]:
    """Return the texts of a set by sample.

    Raises:
        UserError: The rows that were asked are gone.
    """
    path = files.sets / f"{split}.parquet"
    if not path.exists():
        raise UserError(
            f"The evaluation in {files.directory}",
            f"has the rows of its set {split} no longer.",
            "Evaluate the model anew.",
        )
    rows = pd.read_parquet(path).astype({"sample_id": str})
    answers = pd.read_parquet(files.answers, filters=[("split", "==", split)]).astype({"sample_id": str})
    written: dict[str, dict[str, dict[str, str | None]]] = {}
    for row in answers.to_dict("records"):
        generated = None if pd.isna(row["generated"]) else str(row["generated"])
        texts = {"prompt": str(row["prompt"]), "reference": str(row["reference"]), "generated": generated}
        written.setdefault(row["sample_id"], {})[str(row["asked"])] = texts
    return {row["sample_id"]: _of_row(row, written.get(row["sample_id"], {})) for row in rows.to_dict("records")}


def _of_row(row: Mapping[Any, Any], written: Mapping[str, Mapping[str, str | None]]) -> _Texts:
    choices = list(map(str, row["choices"])) if "choices" in row else None
    target = next((row[name] for name in _TARGETS if name in row), "")
    if choices is not None:
        target = ascii_uppercase[int(row["right"])]
    return _Texts(
        input=next(str(row[name]) for name in _INPUTS if name in row),
        target=target if isinstance(target, str) else list(map(str, target)),
        choices=choices,
        written=written,
    )


def _left_out(texts: _Texts) -> _Texts:
    """Return the same without a text; which were there is still seen."""
    written = {
        way: {name: text if text is None else LEFT_OUT for name, text in each.items()}
        for way, each in texts.written.items()
    }
    return _Texts(LEFT_OUT, LEFT_OUT, None, written)


def _difficulty(asked: Evaluated) -> dict[str, dict[str, Any]]:
    """Return what the score run says of each sample: its figures, None where undefined, and its third by MRD."""
    if asked.scores is None:
        return {}
    figures = asked.scores[[name for name in _DIFFICULTY if name in asked.scores]]
    by_sample = {
        str(sample_id): {str(name): json_value(value) for name, value in row.items()}
        for sample_id, row in zip(asked.scores["sample_id"], figures.to_dict("records"), strict=True)
    }
    if COLUMN in figures:
        ranked = asked.scores.dropna(subset=[COLUMN]).sort_values(COLUMN, kind="stable")["sample_id"]
        for rank, sample_id in enumerate(ranked):
            by_sample[sample_id]["difficulty"] = tercile(rank, len(ranked))
    return by_sample
