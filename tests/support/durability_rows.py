"""Durability experiments with simulated rows, whose answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import REFERENCE, DurabilityConfig
from mrd_core.runs.files import write_json
from mrd_core.samples.config import ForgetSetConfig
from tests.support.evidence_experiments import Rows, experiment

LOOKS = (0, 1, 2, 4)
ALL_PARTS = ("rate", "start", "course", "round trip", "sampled", "prompted")


def config(runs: Sequence[str] = ("first",), reference: bool = True, **changes: Any) -> DurabilityConfig:
    """Return the configuration of an experiment on runs of these names: four steps, two repeats."""
    settings: dict[str, Any] = {
        **{"forget_set": ForgetSetConfig(source="demo"), "runs": tuple(Path("/nowhere") / run for run in runs)},
        **{"reference": "demo-retrained" if reference else None, "retain": ForgetSetConfig(source="demo")},
        **{"steps": LOOKS[-1], "seeds": 2, "samples": 40},
    }
    return DurabilityConfig.model_validate(settings | changes)


def start(model: str, left: Mapping[str, float]) -> Rows:
    """Return a first look at a model that has so much MA left of each sample."""
    return [
        {"part": "start", "model": model, "sample_id": name, "accuracy": value, "nll": 6 * (1 - value)}
        | {"extraction": value / 2, "rouge": value / 3}
        for name, value in left.items()
    ]


def course(
    model: str,
    attack: str,
    seed: int,
    accuracies: Mapping[str, Sequence[float]],
    trained: Sequence[str] = (),
    retained: Sequence[float | None] = (0.9, 0.9, 0.9, 0.9),
) -> Rows:
    """Return a relearning in which MA took these courses."""
    rows: Rows = [
        {
            "part": "kept",
            "model": model,
            "attack": attack,
            "seed": seed,
            "retain_accuracy": list(retained),
            "loss": 1.0,
        }
    ]
    for name, values in accuracies.items():
        # Answers are written at the ends alone.
        rouge = [values[0] / 3, *(None for _ in values[1:-1]), values[-1] / 3]
        rows.append(
            {"part": "course", "model": model, "attack": attack, "seed": seed, "sample_id": name}
            | {"trained": name in trained, "accuracy_course": list(values), "rouge_course": rouge}
            | {"nll_course": [6 * (1 - value) for value in values]}
            | {"extraction_course": [value / 2 for value in values]}
        )
    return rows


def simulated(table: pd.DataFrame, driver: str = "mrd_answer_mean", runs: Sequence[str] = ("first",)) -> Rows:
    """Return all parts of an experiment on these samples in which those with a large driver come back more.

    The reference learns a little of all samples alike, and the control brings nothing back.
    """
    generator = np.random.default_rng(5)
    ids, place = list(table["sample_id"]), table[driver].rank(pct=True).to_numpy()
    rows: Rows = [{"part": "rate", "learning_rate": 1e-4, "returned": 0.3, "finite": True}]
    growth = np.array(LOOKS) / LOOKS[-1]
    for model in (*runs, REFERENCE):
        left = np.round(0.15 + 0.3 * generator.random(len(ids)), 4)
        # A sample that was never forgotten.
        left[0] = 0.9
        by_id = dict(zip(ids, left.tolist(), strict=True))
        rows += start(model, by_id)
        for attack in ("jogging", "benign", "control"):
            for seed in range(2):
                rise = np.full(len(ids), 0.05) if model == REFERENCE else 0.5 * place
                rise = np.zeros(len(ids)) if attack == "control" else rise
                noise = 0.02 * generator.normal(size=(len(ids), len(LOOKS)))
                noise[:, 0] = 0
                values = np.clip(left[:, None] + rise[:, None] * growth + noise, 0, 1).round(4)
                trained = ids[seed :: len(ids) // 3] if attack == "jogging" else ()
                rows += course(model, attack, seed, dict(zip(ids, values.tolist(), strict=True)), trained)
        for bits, back in ((8, 0.0), (4, 0.2)):
            shift = back if model != REFERENCE else 0.01
            rows += [
                row | {"part": "round trip", "bits": bits, "accuracy": row["accuracy"] + shift}
                for row in start(model, by_id)
            ]
        recalls = generator.random((5, 10)) * (0.2 if model == REFERENCE else 0.6)
        rows += [
            {"part": "sampled", "model": model, "draw": draw, "sample_id": name, "rouge": float(recalls[draw, at])}
            for draw in range(5)
            for at, name in enumerate(ids[:10])
        ]
        rows += [
            {"part": "prompted", "model": model, "given": given, "sample_id": name}
            | {"rouge": None if given == 8 and at == 0 else 0.1 + 0.05 * (given or 3)}
            for given in (1, 8, None)
            for at, name in enumerate(ids)
        ]
    return rows


def durability_experiment(
    folder: Path, wanted: DurabilityConfig, table: pd.DataFrame, rows: Rows, done: bool = True
) -> Path:
    """Write the directory of a durability experiment, with what it keeps of the runs that it attacks."""
    directory = experiment(folder, wanted, table, rows, done)
    files = ExperimentFiles(directory)
    write_json(
        files.unlearned,
        [
            {"model": run.name, "config": {}, "summary": {"label": "GradDiff", "seed": seed}}
            for seed, run in enumerate(wanted.runs)
        ],
    )
    left = {(row["model"], row["sample_id"]): row["accuracy"] for row in rows if row["part"] == "start"}
    generator = np.random.default_rng(6)
    samples = table[["sample_id"]].sort_values("sample_id")
    pd.concat(
        [
            samples.assign(
                model=run.name,
                accuracy_after=[left.get((run.name, name), 0.3) for name in samples["sample_id"]],
                nll_after=generator.random(len(table)),
                updates=generator.integers(1, 20, len(table)),
                draws=generator.integers(20, 40, len(table)),
            )
            for run in wanted.runs
        ],
        ignore_index=True,
    ).to_parquet(files.outcomes)
    return directory
