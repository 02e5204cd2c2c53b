"""Does more unlearning keep what comes back away, and what does it cost?

    python -m benchmarks.returning_stops EXPERIMENT

Judges a durability experiment on runs of `durability-stops`, whose stops differ: what is back after each attack of
what each had forgotten, less the share of the reference, and what became of the retain set. Each stop is held
against the first (MA < 0.5) of its method: difference of the shares back, paired by sample and seed, with the
percentile interval of 2,000 draws of samples and seeds. What is asked, and by which rule, is in docs/LOG.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from analysis.evidence.measurements import read_measurements
from analysis.evidence.returns import courses_of
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.experiments.kinds.durability import REFERENCE
from mrd_core.runs.files import read_json
from mrd_core.unlearning.config import StoppingConfig, UnlearnConfig

DRAWS = 2000
FIRST = "MA < 0.5"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(experiment: Annotated[Path, typer.Argument(help="Its directory.")]) -> None:
    """Print what each stop keeps away and costs."""
    rows = returned(experiment)
    runs = rows.drop_duplicates("run")
    table = Table(
        "method", "stop", "forgotten", "updates", "retain MA", "retain NLL", "attack", "back", f"less {FIRST}"
    )
    for (method, stop, attack), own in rows.groupby(["method", "stop", "attack"], sort=False):
        first = rows[(rows["method"] == method) & (rows["stop"] == FIRST) & (rows["attack"] == attack)]
        of_stop = runs[(runs["method"] == method) & (runs["stop"] == stop)]
        ends = "" if stop == FIRST else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference(own, first))
        figures = [
            f"{of_stop[name].mean():.3g}" for name in ("forgotten", "updates", "retain_accuracy", "retain_nll")
        ]
        back = f"{own['back'].mean() - own['of_reference'].iloc[0]:+.3f}"
        table.add_row(str(method), str(stop), *figures, str(attack), back, ends)
    Console(width=200, highlight=False).print(table)


def returned(experiment: Path) -> pd.DataFrame:
    """Return a row a run, attack and sample, with what became of each.

    Columns: run, method, stop, seed, attack, sample_id, back (NaN: was not forgotten); of the run forgotten (at
    the first look), updates, retain_accuracy, retain_nll; of the attack of_reference (share back).
    """
    courses = courses_of(read_measurements(experiment))
    of_reference = {
        course.attack: course.table.loc[course.at_risk, "back"].mean()
        for course in courses
        if course.model == REFERENCE
    }
    told = {entry["model"]: entry for entry in read_json(ExperimentFiles(experiment).unlearned)}
    frames = []
    for course in courses:
        if course.model == REFERENCE:
            continue
        config, summary = UnlearnConfig.model_validate(told[course.model]["config"]), told[course.model]["summary"]
        back = course.table["back"].astype(float).where(course.at_risk)
        about = {name: summary[name] for name in ("updates", "retain_accuracy", "retain_nll")}
        about |= {
            "run": course.model,
            "method": config.method,
            "stop": stop_of(config.stopping),
            "seed": config.seed,
        }
        about |= {"attack": course.attack, "of_reference": of_reference.get(course.attack, 0.0)}
        frames.append(back.rename("back").reset_index().assign(forgotten=int(course.at_risk.sum()), **about))
    return pd.concat(frames, ignore_index=True)


def stop_of(stopping: StoppingConfig) -> str:
    """Return what a stop is called."""
    if stopping.source == "reference":
        return "the retrained level"
    return f"margin {stopping.margin:g}" if stopping.margin else f"MA < {stopping.accuracy:g}"


def difference(own: pd.DataFrame, first: pd.DataFrame) -> tuple[float, float, float]:
    """Return how much more of a stop is back than of the first one: value, low, high."""
    ours, theirs = (_wide(frame) for frame in (own, first))
    samples, seeds = ours.index.intersection(theirs.index), ours.columns.intersection(theirs.columns)
    pair = [frame.loc[samples, seeds].to_numpy() for frame in (ours, theirs)]
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        place = np.ix_(
            generator.integers(len(samples), size=len(samples)), generator.integers(len(seeds), size=len(seeds))
        )
        drawn.append(np.nanmean(pair[0][place]) - np.nanmean(pair[1][place]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(np.nanmean(pair[0]) - np.nanmean(pair[1])), float(low), float(high)


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what is back, a row a sample and a column a seed."""
    return frame.pivot(index="sample_id", columns="seed", values="back")


if __name__ == "__main__":
    app()
