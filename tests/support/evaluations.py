"""Finished evaluations, in memory or written as runs, without a model: each measured what the test says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.comparison.evaluated import AGGREGATE_COLUMNS, COSTS, ORIGINAL, AskedSet, Evaluated
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import ANSWER_COLUMNS, EvaluationFiles
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import write_config
from mrd_core.runs.files import write_frame, write_json
from mrd_core.unlearning.config import CurriculumConfig, OptimiserConfig, UnlearnConfig
from mrd_core.unlearning.methods import METHODS

ROLES = {
    "forget": "forget",
    "retain": "retain",
    "held_out": "unseen",
    "bio": "forget",
    "cyber": "forget",
    "seen": "forget",
    "unseen_prompts": "forget",
    "safe_prompts": "forget",
}
KINDS = {"bio": "choices", "cyber": "choices", "mmlu": "choices", "texts": "texts", "seen": "completions"}

Values = Mapping[tuple[str, str], npt.ArrayLike]


def write_evaluation(
    directory: Path,
    values: Values,
    *,
    suite: str = "custom",
    method: str | None = None,
    sampler: str = "uniform",
    seed: int = 0,
    learning_rate: float = 1e-4,
    model: str = "/models/full",
    ids: Mapping[str, Sequence[str]] | None = None,
    mrd: npt.ArrayLike | None = None,
    aggregates: Mapping[tuple[str, str], float | None] | None = None,
    harness: Mapping[str, Mapping[str, float]] | None = None,
    notes: Sequence[str] = (),
    options: int = 4,
    **settings: Any,
) -> Path:
    """Write a finished evaluation and return its directory.

    Args:
        directory: Where; made if need be.
        values: By set and metric, one for each sample.
        suite: What was asked.
        method: Of the unlearning run that made the model; without one nothing was unlearned.
        sampler: Of its curriculum.
        seed: Of it.
        learning_rate: Of it.
        model: What was evaluated, or what unlearning began with.
        ids: Of the samples of a set; by default `NAME-0`, `NAME-1`, …
        mrd: Of the forget samples, in `scores.parquet`.
        aggregates: Besides, by set and metric.
        harness: Metrics by task.
        notes: On the sets.
        options: Of each question that has any.
        settings: Of EvaluateConfig.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = EvaluationFiles(directory)
    named = {split: _ids(split, np.size(found), ids or {}) for (split, _), found in values.items()}
    config = EvaluateConfig(
        suite=suite,  # type: ignore[arg-type]
        model=ModelConfig(source=model if method is None else str(directory / "model")),
        unlearn_run=None if method is None else Path(f"/runs/{directory.name}"),
        **{"data": "/data"} | settings,
    )
    write_config(directory, config)
    _write_sets(files, named, notes, options)
    write_frame(files.values, _frame(values, named))
    write_frame(files.answers, pd.DataFrame(_answers(named), columns=ANSWER_COLUMNS))
    if mrd is not None:
        write_frame(files.scores, _scores(named["forget"], mrd))
    if method is not None:
        write_json(files.unlearned, _unlearned(method, sampler, seed, learning_rate, model))
    rows = [
        {"split": split, "metric": name, "value": value, "n": 1, "undefined": 0}
        for (split, name), value in (aggregates or {}).items()
    ]
    write_json(files.aggregates, rows)
    summary = {"suite": suite, "notes": list(notes), "warnings": [], "seconds": 12.0, "harness": harness}
    write_json(files.summary, summary)
    return directory


def evaluated(
    values: Values,
    *,
    suite: str = "custom",
    method: str | None = None,
    sampler: str = "uniform",
    seed: int = 0,
    learning_rate: float = 1e-4,
    model: str = "/models/full",
    ids: Mapping[str, Sequence[str]] | None = None,
    mrd: npt.ArrayLike | None = None,
    harness: Mapping[str, Mapping[str, float]] | None = None,
) -> Evaluated:
    """Return what `analysis.comparison.evaluated.read` makes of what `write_evaluation` wrote, without files.

    Arguments as there; the settings are those alone that are given here.
    """
    named = {split: _ids(split, np.size(found), ids or {}) for (split, _), found in values.items()}
    settings = {"suite": suite, "model.source": model}
    label = ORIGINAL
    if method is not None:
        label = METHODS[method].label + (" + MRD" if sampler == "mrd" else "")
        rate = {"optimiser.learning_rate": str(learning_rate)}
        settings |= {"method": method, "curriculum.sampler": sampler, **rate}
    return Evaluated(
        source=Path(label),
        label=label,
        group=f"{label} {settings}",
        seed=None if method is None else seed,
        suite=suite,
        settings=settings,
        values=_frame(values, named),
        aggregates=pd.DataFrame(columns=AGGREGATE_COLUMNS),
        sets=tuple(AskedSet(**known, sample_ids=tuple(named[known["name"]])) for known in _catalogue(named)),
        scores=None if mrd is None else _scores(named["forget"], mrd),
        cost=dict.fromkeys(COSTS, 100.0 + seed) if method else {},
        harness=harness,
    )


def answers_of(
    generator: np.random.Generator, level: float, n: int = 40, kept: float = 0.8, spread: float = 0.05
) -> dict[tuple[str, str], npt.ArrayLike]:
    """Return values of a forget and a retain set: what is left of the one is `level`, of the other `kept`."""
    found: dict[tuple[str, str], npt.ArrayLike] = {}
    for split, share in (("forget", level), ("retain", kept)):
        written = np.clip(share + spread * generator.normal(size=n), 0, 1)
        found |= {
            (split, "rouge"): written,
            (split, "rouge_shuffled"): np.full(n, 0.1),
            (split, "answer_match"): (generator.random(n) < share).astype(np.float64),
            (split, "probability"): written**2,
            (split, "mia_min_k"): generator.normal(loc=1 - share, size=n),
            (split, "nll"): -np.log(np.maximum(written, 1e-3)),
            (split, "answer_tokens"): np.full(n, 10.0),
        }
    return found


def _ids(split: str, n: int, given: Mapping[str, Sequence[str]]) -> list[str]:
    return list(given.get(split, [f"{split}-{at}" for at in range(n)]))


def _frame(values: Values, ids: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "split": split,
                "sample_id": ids[split],
                "metric": metric,
                "value": np.asarray(found, dtype=np.float64),
            }
        )
        for (split, metric), found in values.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _scores(ids: Sequence[str], mrd: npt.ArrayLike) -> pd.DataFrame:
    columns = dict.fromkeys(("mrd_answer_mean", "mrd_answer_sum"), np.asarray(mrd, dtype=np.float64))
    return pd.DataFrame({"sample_id": ids, **columns})


def _catalogue(names: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": split,
            "title": split.replace("_", " ").capitalize(),
            "role": ROLES.get(split, "general"),
            "kind": KINDS.get(split, "answers"),
        }
        for split in names
    ]


def _write_sets(
    files: EvaluationFiles, ids: Mapping[str, Sequence[str]], notes: Sequence[str], options: int
) -> None:
    write_json(files.catalogue, {"sets": _catalogue(ids), "notes": list(notes)})
    for split, named in ids.items():
        asked = [f"Who is {name}?" for name in named]
        if KINDS.get(split) == "choices":
            choices = [[str(place) for place in range(options)] for _ in named]
            rows = {"sample_id": named, "question": asked, "choices": choices}
        else:
            rows = {"sample_id": named, "prompt": asked, "answer": list(named)}
        write_frame(files.sets / f"{split}.parquet", pd.DataFrame(rows))


def _answers(ids: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    return [
        (split, name, "question", f"Who is {name}?", name, f"It is {name}.")
        for split, named in ids.items()
        for name in named
    ]


def _unlearned(method: str, sampler: str, seed: int, learning_rate: float, model: str) -> dict[str, Any]:
    config = UnlearnConfig(
        score_run=Path("/runs/score"),
        model=ModelConfig(source=model),
        method=method,  # type: ignore[arg-type]
        curriculum=CurriculumConfig(sampler=sampler),
        optimiser=OptimiserConfig(learning_rate=learning_rate),
        seed=seed,
    )
    weighed = sampler != "uniform"
    summary = {
        "label": config.label,
        "method": method,
        "sampler": sampler,
        "column": config.curriculum.column,
        "seed": seed,
        "setting": config.setting,
        "updates": 100 + seed,
        "steps": 25,
        "seconds": 60.0,
        "seconds_training": 50.0,
        "flops_training": 3e12,
        "flops_checks": 1e12,
        "flops_mrd": 2e12 if weighed else 0,
        "mrd_forward_evaluations": 96 if weighed else 0,
    }
    return {"config": config.model_dump(mode="json"), "summary": summary}
