"""Directories of experiments with simulated rows, whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.parameter_change import ParameterChangeConfig
from mrd_core.experiments.kinds.selection import SelectionConfig
from mrd_core.experiments.kinds.sensitivity import SensitivityConfig
from mrd_core.experiments.kinds.theorem import TheoremConfig
from mrd_core.experiments.kinds.validity import ValidityConfig
from mrd_core.runs.directory import write_config
from mrd_core.runs.files import write_json
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.measures import ENTANGLEMENT_MEASURES, GRADIENT_MEASURES, MRD_MEASURES, PLAIN_MEASURES

Rows = list[dict[str, Any]]
DEMO = ForgetSetConfig(source="demo")
CAP = 200
VALIDITY = ValidityConfig(forget_set=DEMO, methods=("ga", "simnpo"))


def sample_table(n: int, seed: int = 0) -> pd.DataFrame:
    """Return measures of n samples, all independent but for MRD summed, which is MRD times length."""
    generator = np.random.default_rng(seed)
    names = [*MRD_MEASURES, *PLAIN_MEASURES, *GRADIENT_MEASURES, "relative_se"]
    table = pd.DataFrame(np.exp(generator.normal(size=(n, len(names)))), columns=names)
    table["answer_tokens"] = generator.permutation(np.arange(10, 10 + n)).astype(float)
    table["mrd_answer_sum"] = table["mrd_answer_mean"] * table["answer_tokens"]
    table["training_count"] = np.nan
    table["relative_se"] = 0.03
    table.insert(0, "sample_id", [f"s{at:03d}" for at in range(n)])
    return table


def experiment(
    folder: Path, config: ExperimentConfig, table: pd.DataFrame, rows: Sequence[dict[str, Any]], done: bool = True
) -> Path:
    """Write the directory of an experiment: finished, or running, when the rows are in the log alone."""
    folder.mkdir(parents=True)
    write_config(folder, config)
    files = ExperimentFiles(folder)
    ids = table[["sample_id"]]
    ids.assign(prompt="Who?", answer="<b>Nobody</b>", training_count=np.nan).to_parquet(files.samples)
    table[["sample_id", *MRD_MEASURES, "relative_se"]].to_parquet(files.scores)
    table[["sample_id", *PLAIN_MEASURES, *GRADIENT_MEASURES]].to_parquet(files.measures)
    write_json(files.scored, {"sigma": 1e-3, "evaluations": 24, "title": "Demo"})
    files.append("unit", rows)
    if done:
        files.write_rows(list(rows))
        write_json(files.summary, {})
    return folder


def unlearned(
    sample_id: str, updates: float, method: str = "ga", repeat: int = 0, diverged: bool = False, **own: Any
) -> dict[str, Any]:
    """Return a row of predictive validity; at the cap nothing was forgotten."""
    return {
        **{"part": "unlearning", "method": method, "optimiser": "adamw", "learning_rate": 3e-5},
        **{"sample_id": sample_id, "repeat": repeat, "updates": int(updates), "forgotten": updates < CAP},
        **{"diverged": diverged, "accuracy": 0.4, "nll": 3.0},
        "trace": [round(value, 4) for value in np.linspace(1, 0.49 if updates < CAP else 0.6, int(updates) + 1)],
        **own,
    }


def validity_rows(
    table: pd.DataFrame,
    driver: str = "mrd_answer_mean",
    noise: float = 0.5,
    methods: Sequence[str] = ("ga",),
    repeats: int = 1,
) -> Rows:
    """Return unlearnings whose updates fall with a measure, up to noise; many end at the cap if it is small."""
    generator = np.random.default_rng(1)
    rows = []
    for method in methods:
        own = np.exp(3.5 - 0.7 * np.log(table[driver]) + noise * generator.normal(size=len(table)))
        for repeat in range(repeats):
            updates = np.clip(np.round(own * np.exp(0.1 * generator.normal(size=len(table)))), 1, CAP)
            pairs = zip(table["sample_id"], updates, strict=True)
            rows += [unlearned(name, count, method, repeat) for name, count in pairs]
    return rows


def collateral_rows(unlearnings: Rows, kept: int = 8, sign: float = 1.0, noise: float = 0.1) -> Rows:
    """Return what gradients foretell of a retain set, and unlearnings after which it comes true, up to noise."""
    generator = np.random.default_rng(3)
    before = np.exp(generator.normal(size=kept))
    ids = list(dict.fromkeys(row["sample_id"] for row in unlearnings))
    # Fragile retain samples lose more, whatever is forgotten.
    products = generator.normal(size=(len(ids), kept)) + generator.normal(size=(len(ids), 1)) + np.arange(kept)
    foretold = [
        {
            **{"part": "entanglement", "sample_id": sample_id, "products": list(own), "nearest": ["r1", "r0"]},
            **{name: float(own.mean()) for name in ENTANGLEMENT_MEASURES},
        }
        for sample_id, own in zip(ids, products, strict=True)
    ]
    after = dict(zip(ids, before + sign * products + noise * generator.normal(size=products.shape), strict=True))
    return [
        *({"part": "retain", "sample_id": f"r{at}", "nll": float(nll)} for at, nll in enumerate(before)),
        *foretold,
        *(row | {"retain_nll": None if row["diverged"] else list(after[row["sample_id"]])} for row in unlearnings),
    ]


def change_rows(table: pd.DataFrame, n: int = 40, censored: Callable[[int], bool] = lambda _: False) -> Rows:
    """Return composites of which those with a small mean MRD move the weights further."""
    generator = np.random.default_rng(2)
    mrd = table.set_index("sample_id")["mrd_answer_mean"]
    rows = []
    for at in range(n):
        ids = list(generator.choice(table["sample_id"], 8))
        change = 1e-4 / mrd[ids].mean() * np.exp(0.1 * generator.normal())
        rows.append(
            {
                **{"part": "composite", "composite": at, "method": "ga", "optimiser": "adamw"},
                **{"learning_rate": 1e-4, "sample_ids": ids, "joined": at % 4 > 0, "updates": 10 + at},
                **{
                    "forgotten": not censored(at),
                    "diverged": False,
                    "mean_absolute_change": change,
                    "accuracy": 0.4,
                },
            }
        )
    return rows


def selection_rows(results: dict[tuple[str, int, str], Sequence[float]], retain: bool = True) -> Rows:
    """Return runs whose retain MA is given for each scheme, size and method, selection by selection."""
    return [
        {
            **{"part": "selection", "scheme": scheme, "size": size, "selection": at, "method": method},
            **{"optimiser": "adamw", "learning_rate": 1e-4, "sample_ids": ["s000"] * size, "mean_mrd": 0.1},
            **{"updates": 10 + at, "forgotten": True, "diverged": False, "forget_accuracy": 0.4},
            **{
                "forget_nll": 2.0,
                "retain_accuracy": value if retain else None,
                "retain_nll": 1.0 if retain else None,
            },
        }
        for (scheme, size, method), values in results.items()
        for at, value in enumerate(values)
    ]


def sensitivity_rows(table: pd.DataFrame, sigmas: Sequence[float], evaluations: int = 48) -> Rows:
    """Return MRD with a floor and a quartic term, and draws whose first-order noise pairs cancel."""
    generator = np.random.default_rng(3)
    curvature = np.exp(generator.normal(size=len(table)))
    rows: Rows = []
    for dtype, floor in (("float32", 1e-9), ("bfloat16", 1e-5)):
        rounding = floor * np.exp(generator.normal(size=len(table)))
        for name, extra in zip(table["sample_id"], rounding, strict=True):
            rows.append(
                {"part": "floor", "dtype": dtype, "sample_id": name, "floor_mean": extra, "floor_sum": 20 * extra}
            )
        for sigma in sigmas:
            scores = curvature * sigma**2 * (1 + 5e3 * sigma**2) + rounding
            for name, score in zip(table["sample_id"], scores, strict=True):
                errors = {"mrd_mean_se": 0.05 * score, "mrd_sum_se": score}
                both = {"mrd_mean": score, "mrd_sum": 20 * score} | errors
                rows.append({"part": "sigma", "dtype": dtype, "sigma": sigma, "sample_id": name, **both})
    for mode, repeated in (("plain", 1), ("antithetic", 2)):
        first = generator.normal(size=(evaluations // repeated, len(table)))
        first = first if repeated == 1 else np.stack([first, -first], axis=1).reshape(-1, len(table))
        relative = 20 * (curvature + 5 * first + 0.2 * generator.normal(size=first.shape))
        rows += [
            {
                "part": "draws",
                "mode": mode,
                "sigma": 1e-3,
                "evaluation": at,
                "sample_id": name,
                "relative": value,
                "n_tokens": 20,
            }
            for at, values in enumerate(relative)
            for name, value in zip(table["sample_id"], values, strict=True)
        ]
    return rows


def theorem_rows(n: int = 12, factor: float = 1.0) -> Rows:
    """Return traces of −2, −4, … and MRD/σ² of `factor` times their half, each with a little noise."""
    generator = np.random.default_rng(4)
    rows: Rows = []
    for at in range(n):
        trace = -2.0 * (at + 1)
        for probe in range(16):
            noisy = {"probe": probe, "pair": None, "value": trace * (1 + 0.05 * generator.normal())}
            rows.append({"part": "trace", "sample_id": f"s{at:03d}", "n_tokens": 20, **noisy})
            noisy = {"probe": None, "pair": probe, "value": -factor * trace / 2 * (1 + 0.05 * generator.normal())}
            rows.append({"part": "mrd", "sample_id": f"s{at:03d}", "n_tokens": 20, **noisy})
    return rows


CHANGE = ParameterChangeConfig(forget_set=DEMO, composites=40, size=8)
SELECTION = SelectionConfig(forget_set=DEMO, size=4)
SENSITIVITY = SensitivityConfig(forget_set=DEMO)
THEOREM = TheoremConfig(forget_set=DEMO)
SIGMAS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 3e-2)
RANDOM_AND_BALANCED = {
    ("random", 4, "ga"): [0.9, 0.8, 0.7, 0.6, 0.5],
    ("random", 4, "simnpo"): [0.8, 0.9, 0.6, 0.5, 0.4],
    ("balanced", 4, "ga"): [0.70, 0.71, 0.72, 0.73, 0.74],
    ("balanced", 4, "simnpo"): [0.60, 0.61, 0.62, 0.63, 0.64],
}


def every_experiment(folder: Path) -> list[Path]:
    """Write a finished experiment of each kind."""
    table = sample_table(40)
    return [
        experiment(
            folder / "validity", VALIDITY, table, validity_rows(table[:20], methods=("ga", "simnpo"), repeats=2)
        ),
        experiment(folder / "change", CHANGE, table, change_rows(table)),
        experiment(folder / "selection", SELECTION, table, selection_rows(RANDOM_AND_BALANCED)),
        experiment(folder / "sensitivity", SENSITIVITY, table, sensitivity_rows(table, SIGMAS)),
        experiment(folder / "theorem", THEOREM, table, theorem_rows()),
    ]
