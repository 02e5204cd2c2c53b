"""What foretells which samples come back, over several models and methods: the outcome that was registered.

    python -m benchmarks.returns EXPERIMENT

Within each unlearned model Spearman's ρ of a measure with the gain in MA of the samples that it had forgotten,
less the gain of the retrained reference; and the partial ρ with the level, MA left held. Averaged over the models
of a method, then over methods. Intervals are percentiles of a bootstrap of samples, the same ones in all models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from analysis.evidence.league import LENGTH, short_title
from analysis.evidence.measurements import Measurements, read_measurements
from analysis.evidence.return_league import AFTER, outcomes_of
from analysis.evidence.returns import courses_of
from mrd_core.arrays import FloatArray
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import REFERENCE
from mrd_core.runs.files import read_json
from mrd_core.scoring.measures import MEASURES

REPLICATES, SEED = 1000, 20261129
# With fewer forgotten samples a model says nothing of their order.
LEAST = 10

app = typer.Typer(add_completion=False)


class Model(NamedTuple):
    """An unlearned model after an attack: its method, and a row per sample that it had forgotten, by id."""

    method: str
    table: pd.DataFrame


class Averages(NamedTuple):
    """ρ with the gain and partial ρ with the level, averaged over models and methods."""

    gain: float
    level: float


@app.command()
def main(
    experiment: Annotated[Path, typer.Argument(help="Directory of a durability experiment.")],
    attack: Annotated[str, typer.Option(help="Attack: jogging, benign or control.")] = "benign",
    first: Annotated[int, typer.Option(help="Measures that are shown, MRD and length always.")] = 12,
) -> None:
    """Rank all measures by what they say of the gain."""
    measurements = read_measurements(experiment)
    models = models_of(measurements, attack)
    console = Console(width=150, highlight=False)
    for method in dict.fromkeys(model.method for model in models):
        own = [model for model in models if model.method == method]
        counts = ", ".join(
            f"{len(model.table)} forgotten, {model.table['back'].mean():.0%} back, "
            f"MA {model.table['gain'].mean():+.3f} ({model.table['excess_gain'].mean():+.3f})"
            for model in own
        )
        console.print(f"{method}: {counts}")
    models = [model for model in models if len(model.table) >= LEAST]
    names = [name for name in (*MEASURES, *AFTER) if all(name in model.table for model in models)]
    names = [name for name in names if all(model.table[name].nunique() > 1 for model in models)]
    found = {name: averages(models, name) for name in names}
    ordered = sorted(names, key=lambda name: -abs(found[name].gain))
    shown = list(dict.fromkeys([*ordered[:first], measurements.mrd_column, LENGTH]))
    replicates: dict[str, list[Averages]] = {name: [] for name in shown}
    for drawn in resampled(models):
        for name in shown:
            replicates[name].append(averages(drawn, name))
    table = Table("measure", "ρ with the gain", "ρ with the level, MA left held", box=None, pad_edge=False)
    for name in shown:
        values = np.array(replicates[name])
        cells = [
            f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" if np.isfinite(value) else "–"
            for value, (low, high) in zip(found[name], np.percentile(values, [2.5, 97.5], axis=0).T, strict=True)
        ]
        table.add_row(AFTER[name][0] if name in AFTER else short_title(name), *cells)
    console.print(table)


def models_of(measurements: Measurements, attack: str) -> list[Model]:
    """Return the unlearned models after an attack."""
    told = read_json(ExperimentFiles(measurements.directory).unlearned)
    labels = {entry["model"]: entry["summary"]["label"] for entry in told}
    courses = courses_of(measurements)
    return [
        Model(labels[course.model], outcomes_of(course, courses, measurements).set_index("sample_id"))
        for course in courses
        if course.attack == attack and course.model != REFERENCE
    ]


def averages(models: list[Model], measure: str) -> Averages:
    """Return the averages of a measure: over the models of each method, then over methods."""
    rows = []
    for model in models:
        ranks = model.table[[measure, "excess_gain", "excess_end", "start"]].rank().to_numpy(np.float64)
        rows.append((model.method, *_correlations(ranks)))
    table = pd.DataFrame(rows, columns=["method", "gain", "level"]).groupby("method").mean()
    return Averages(float(table["gain"].mean()), float(table["level"].mean()))


def resampled(models: list[Model]) -> list[list[Model]]:
    """Return the models with samples drawn with replacement, the same ones in all, so many times."""
    ids = sorted({sample_id for model in models for sample_id in model.table.index})
    generator = np.random.default_rng(SEED)
    replicates = []
    for _ in range(REPLICATES):
        drawn = pd.Index(generator.choice(ids, len(ids)))
        replicates.append(
            [model._replace(table=model.table.loc[drawn[drawn.isin(model.table.index)]]) for model in models]
        )
    return replicates


def _correlations(ranks: FloatArray) -> tuple[float, float]:
    """Return ρ of the first column with the second, and with the third with the fourth held."""
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.corrcoef(ranks, rowvar=False)
        # MA left itself has nothing left where it is held.
        held = (r[0, 2] - r[0, 3] * r[2, 3]) / np.sqrt((1 - r[0, 3] ** 2) * (1 - r[2, 3] ** 2))
    return float(r[0, 1]), float(held)


if __name__ == "__main__":
    app()
