"""A score run and all that a report can rest on, as directories that no store knows, with known figures."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.files import About, CharacteristicsFiles
from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import write_config
from mrd_core.runs.files import write_frame, write_json
from mrd_core.samples import ForgetSet
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles
from tests.support.evaluations import write_evaluation
from tests.support.evidence_experiments import VALIDITY, experiment, sample_table, validity_rows
from tests.support.once import made_once
from tests.support.scored_demo import copied, scored_demo

SCORE, UNLEARNED, BEFORE, AFTER, VALIDITY_RUN = NAMES = ("scored", "unlearned", "before", "after", "validity")


@cache
def reported(base: Path) -> Path:
    """Return the folder of the runs by the names in `NAMES`; `base` is the temporary folder of this process."""
    return made_once(base, "reported", lambda home: _make(home, scored_demo(base)))


def copies(home: Path, to: Path) -> list[Path]:
    """Copy all of them, the links between them as they were, and return their directories."""
    copied(home, to)
    return [to / name for name in NAMES]


def _make(home: Path, scored: Path) -> None:
    home.mkdir(exist_ok=True)
    score = copied(scored, home / SCORE)
    samples = ForgetSet.load(ScoreFiles(score).samples)
    _read(score, samples.frame)
    _unlearn(home / UNLEARNED, score, samples)
    for name, level, method in ((BEFORE, 0.95, None), (AFTER, 0.3, "ga")):
        known = np.clip(np.random.default_rng(1).normal(level, 0.05, len(samples)), 0, 1)
        values = {
            ("forget", "rouge"): known,
            ("forget", "probability"): known,
            ("retain", "probability"): known**0.1,
        }
        ids = {"forget": list(samples.frame["sample_id"])}
        write_evaluation(home / name, values, method=method, ids=ids, score_run=score)
    table = sample_table(24)
    settings = VALIDITY.model_copy(update={"score_run": score})
    experiment(home / VALIDITY_RUN, settings, table, validity_rows(table, methods=("ga",), repeats=1))


def _read(score: Path, samples: pd.DataFrame) -> None:
    """Write what was read of the texts: features of which two go with the order of the samples."""
    files = CharacteristicsFiles(ScoreFiles(score).readings / "reading")
    files.directory.mkdir(parents=True)
    config = CharacteristicsConfig(score_run=score)
    write_config(files.directory, config)
    chance, n = np.random.default_rng(2), len(samples)
    features = pd.DataFrame(
        {
            "sample_id": samples["sample_id"],
            "semantic_complexity": np.arange(n) + chance.normal(size=n),
            "rare_words": chance.poisson(3, n).astype(float),
            "initial_probability": chance.beta(5, 2, n),
        }
    )
    titles = {
        "semantic_complexity": "Complexity",
        "rare_words": "Rare words",
        "initial_probability": "Probability",
    }
    about: dict[str, Any] = {
        **{"pipeline": "none 1.0", "pipeline_reason": "a test's own", "scheme": "UD", "attachment": None},
        **{"config": config, "corpus_rows": None, "undefined": {}, "training_averages": {}, "foreign": {"de": 3}},
        **{"complexity_parts": (), "complexity_left_out": {}, "complexity_length_correlation": None},
        **{"cut": 0, "cautions": (), "seconds": 1.0},
        "features": {name: {"title": title, "unit": ""} for name, title in titles.items()},
    }
    files.write(features, pd.DataFrame({"sample_id": [], "kind": []}), About.model_validate(about))
    write_json(files.summary, {"n_samples": n, "seconds": 1.0})


def _unlearn(directory: Path, score: Path, samples: ForgetSet) -> None:
    """Write an unlearning run that forgot every other sample and damaged the retain set."""
    directory.mkdir()
    files, n = UnlearningFiles(directory), len(samples)
    retain = ForgetSetConfig(source="demo")
    settings = {"score_run": score, "model": ModelConfig(), "method": "ga", "retain": {"samples": retain}}
    write_config(directory, UnlearnConfig.model_validate(settings))
    samples.save(files.samples)
    samples.subset(pd.Series(np.arange(n) < 5)).save(files.retain)
    ids, odd = samples.frame["sample_id"], np.arange(n) % 2 == 1
    scores = pd.read_parquet(ScoreFiles(score).scores)[["sample_id", "mrd_answer_mean"]]
    write_frame(files.curriculum, scores.assign(weight=1.0, share=1 / n))
    outcome = {
        **{"sample_id": ids, "updates": 2, "draws": 2, "forgotten_step": pd.array([1] * n, dtype="Int64")},
        **{"forgotten_at_end": odd, "accuracy_before": 1.0, "accuracy_after": np.where(odd, 0.2, 0.9)},
        **{"nll_before": 0.02, "nll_after": np.where(odd, 4.0, 0.1), "own_answer_after": "Nobody"},
    }
    write_frame(files.outcome, pd.DataFrame(outcome))
    steps = [{"step": at + 1, "trained": [True, True], "forgotten": [ids[at]]} for at in range(n)]
    files.steps.write_text("".join(f"{json.dumps(step)}\n" for step in steps), encoding="utf-8")
    (directory / "model").mkdir()
    (directory / "model" / "model.safetensors").write_bytes(b"weights")
    figures = {
        **{"n_samples": n, "label": "GA", "method": "ga", "sampler": "uniform", "column": "mrd_answer_mean"},
        **{"stop_reason": "max-steps", "thresholds": {"source": "absolute", "accuracy": 0.5}, "updates": 2 * n},
        **{"forgotten_at_end": int(odd.sum()), "retain_accuracy_before": 1.0, "retain_accuracy": 0.4},
        **{"retain_nll_before": 0.1, "retain_nll": 3.0, "warnings": ["The run ended early."]},
    }
    write_json(files.summary, figures)
