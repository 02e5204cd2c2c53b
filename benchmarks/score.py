"""Speed and memory of scoring, each beside what it is held against, in one run.

    python -m benchmarks.score [--model PATH --forget-set PATH] [--device cpu] [--samples 100] [--json]

Everything runs in one process with the torch threads that the product gives a worker. What is compared is timed
in turns (A B C A B C …) and the medians are divided, so that a busy machine slows all of them. See
docs/benchmarks.md.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.memory import Peak, peak_of
from benchmarks.passes import bare_pass, synchronise
from benchmarks.published import copy_of_weights, relative_change
from mrd_core import models
from mrd_core.config import EstimatorConfig, ForgetSetConfig, ModelConfig, Normalisation, Scope, ScoreConfig
from mrd_core.draws import FloatArray
from mrd_core.mrd import Estimator
from mrd_core.runs import JobContext
from mrd_core.runs.directory import write_config
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.forget_set import digest_of
from mrd_core.scoring.files import RunFiles
from mrd_core.scoring.job import score_job
from mrd_core.scoring.plan import Prepared, precision, resume, workers_and_threads

SIGMA = 1e-3
ROUNDS = 7
# The published algorithm is timed on this many samples, from the shortest to the longest, and extrapolated.
PUBLISHED_SAMPLES = 12
# Enough plain draws to know their variance: the median over the samples is then good to a few per cent.
PLAIN_DRAWS = 32

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Comparison:
    """One line of the result.

    Attributes:
        what: What is compared.
        ratio: The figure.
        target: What it should be.
        at_most: Whether smaller is better.
        measured: The figures behind the ratio, with units.
    """

    what: str
    ratio: float
    target: float
    at_most: bool
    measured: str

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


@dataclass(frozen=True)
class Targets:
    """What the ratios should be on a kind of device."""

    over_floor: float
    equal_draws: float
    equal_reliability: float = 40.0
    memory: float = 1.0


TARGETS = {"cpu": Targets(over_floor=1.25, equal_draws=4.0), "cuda": Targets(over_floor=1.15, equal_draws=50.0)}


@dataclass(frozen=True)
class Finished:
    """A whole score run that was carried out here."""

    prepared: Prepared
    config: EstimatorConfig
    seconds: float
    summary: dict[str, Any]
    scores: pd.DataFrame


@dataclass(frozen=True)
class Seconds:
    """Median times.

    Attributes:
        floor: One pass of the bare model over the samples [s].
        evaluation: One perturbed evaluation of the samples [s].
        published: The published algorithm, one sample and one draw [s].
    """

    floor: float
    evaluation: float
    published: float


@app.command()
def main(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or `demo`.")] = "demo",
    forget_set: Annotated[str, typer.Option(help="Forget set, or `demo`.")] = "demo",
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    samples: Annotated[int, typer.Option(min=4, help="Samples, spread evenly over the forget set.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure time over the floor, speed against the published algorithm, and peak memory."""
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=forget_set),
        model=ModelConfig(source=model, device=device),
        estimator=EstimatorConfig(sigma=SIGMA, workers=1),
    )
    kind = models.choose_device(device)[0]
    torch.set_num_threads(workers_and_threads(config.estimator, kind)[1])
    with TemporaryDirectory(prefix="mrd-benchmark-") as folder:
        chosen = spread(read(config.forget_set), samples)
        # First, while this process is still small.
        bare, scoring = (
            peak_of("bare", run_directory(Path(folder), "bare", config, chosen)),
            peak_of("scoring", run_directory(Path(folder), "scoring", config, chosen)),
        )
        finished = whole_run(config, run_directory(Path(folder), "run", config, chosen))
    seconds = in_turns(finished.prepared, finished.config)
    comparisons = compare(finished, seconds, (bare, scoring), TARGETS[kind.type])
    (print_json if as_json else print_table)(setting_of(finished), comparisons)


def spread(forget_set: ForgetSet, count: int) -> ForgetSet:
    """Return up to `count` samples, spread evenly over the forget set."""
    places = np.unique(np.linspace(0, len(forget_set) - 1, min(count, len(forget_set))).round().astype(int))
    frame = forget_set.frame.iloc[places].reset_index(drop=True)
    return dataclasses.replace(forget_set, frame=frame, digest=digest_of(frame))


def run_directory(parent: Path, name: str, config: ScoreConfig, forget_set: ForgetSet) -> Path:
    """Make a run directory with config.json and the samples."""
    directory = parent / name
    directory.mkdir()
    write_config(directory, config)
    forget_set.save(RunFiles(directory).samples)
    return directory
