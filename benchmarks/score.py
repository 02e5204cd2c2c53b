"""Speed and memory of scoring, each beside what it is held against, in one run.

    python -m benchmarks.score [--model PATH --forget-set PATH] [--device cpu] [--samples 100]
        [--floor-only] [--json]

Everything runs in one process with the torch threads that the product gives a worker. What is compared is timed
in turns (A B C A B C …) and the medians are divided, so that a busy machine slows all of them. See
docs/benchmarks.md.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.mapped import MappedNorms
from benchmarks.memory import Peak, measure_peak
from benchmarks.passes import bare_pass, synchronise
from benchmarks.published import copy_of_weights, relative_change
from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model import loading as models
from mrd_core.model.config import ModelConfig
from mrd_core.model.gradients import SampleGradients, gradient_norms
from mrd_core.runs import JobContext
from mrd_core.runs.directory import write_config
from mrd_core.samples import ForgetSet, read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.forget_set import digest_of
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.draws import Draws
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.job import score_job
from mrd_core.scoring.mrd import measure_baseline
from mrd_core.scoring.plan import Prepared, Stage, load_stage, precision
from mrd_core.scoring.workers import Workers

SIGMA = 1e-3
ROUNDS = 7
GRADIENT_ROUNDS = 3
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
    summary: dict[str, Any]
    scores: pd.DataFrame


@dataclass(frozen=True)
class Seconds:
    """Median times.

    Attributes:
        floor: One pass of the bare model over the samples [s].
        evaluation: One perturbed evaluation of the samples [s].
        published: The published algorithm, one sample and one draw [s].
        gradients: The gradient norms of all samples [s].
        mapped: The same by `torch.func` [s].
        apart: How far the two may differ, relative.
    """

    floor: float
    evaluation: float
    published: float
    gradients: float
    mapped: float
    apart: float


@app.command()
def main(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or `demo`.")] = "demo",
    forget_set: Annotated[str, typer.Option(help="Forget set, or `demo`.")] = "demo",
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    samples: Annotated[int, typer.Option(min=4, help="Samples, spread evenly over the forget set.")] = 100,
    floor_only: Annotated[bool, typer.Option("--floor-only", help="Time the run over its floor alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure time over the floor, speed against the published algorithm, and peak memory."""
    config = ScoreConfig(
        forget_set=ForgetSetConfig(source=forget_set),
        model=ModelConfig(source=model, device=device),
        estimator=EstimatorConfig(sigma=SIGMA, workers=1, time_floor=True),
    )
    torch.set_num_threads(Workers.of(config.estimator, config.model).threads)
    targets = TARGETS[models.choose_device(device)[0].type]
    with TemporaryDirectory(prefix="mrd-benchmark-") as folder:
        chosen = spread(read(config.forget_set), samples)
        finished = whole_run(config, run_directory(Path(folder), "run", config, chosen))
        if floor_only:
            comparisons = [run_over_floor(finished, targets)]
        else:
            peak = measure_peak(run_directory(Path(folder), "memory", config, chosen))
            comparisons = compare(finished, in_turns(finished), peak, targets)
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
    forget_set.save(ScoreFiles(directory).samples)
    return directory


def whole_run(config: ScoreConfig, directory: Path) -> Finished:
    """Carry out a score run, then load its model once more for what is measured on it."""
    files, context = ScoreFiles(directory), JobContext(directory)
    summary = score_job(config, context)
    forget_set, plan = ForgetSet.load(files.samples), files.read_plan()
    stage = load_stage(config, forget_set, None, context, models.DTYPES[plan.dtype], plan)
    prepared = Prepared(plan, stage, measure_baseline(stage.passes, stage.model.dtype))
    return Finished(prepared, config.estimator, summary, pd.read_parquet(files.scores))


def in_turns(finished: Finished) -> Seconds:
    """Time the bare pass, a perturbed evaluation, the published algorithm and both ways to gradients in turns."""
    stage = finished.prepared.stage
    estimator, published = finished.prepared.estimator(finished.config), Published(stage)
    passes = finished.config.evaluations_per_unit
    with precision(stage.model.dtype):
        floor, unit, rounds = medians(
            stage.model.device,
            ROUNDS,
            lambda _turn: bare_pass(stage),
            estimator.unit,
            lambda _turn: published.one_draw_each(),
        )
    published.restore()
    encoded, mapped = stage.passes.encoded, MappedNorms(stage)
    layout = SampleGradients(stage.reader, encoded).layout
    gradients, by_func = medians(
        stage.model.device,
        GRADIENT_ROUNDS,
        lambda _turn: gradient_norms(stage.reader, encoded, layout=layout),
        lambda _turn: mapped.norms(),
    )
    apart = np.abs(gradient_norms(stage.reader, encoded, layout=layout) / mapped.norms() - 1).max()
    return Seconds(floor, unit / passes, rounds / published.count, gradients, by_func, float(apart))


def medians(device: torch.device, rounds: int, *works: Callable[[int], object]) -> list[float]:
    """Do all `works` once, then time them in turns; return the median seconds of each."""
    times = np.empty((rounds + 1, len(works)))
    for turn, (place, work) in product(range(rounds + 1), enumerate(works)):
        began = time.perf_counter()
        work(turn)
        synchronise(device)
        times[turn, place] = time.perf_counter() - began
    return [float(median) for median in np.median(times[1:], axis=0)]


class Published:
    """The published algorithm on a few samples, from the shortest to the longest."""

    def __init__(self, stage: Stage) -> None:
        encoded = stage.passes.encoded
        order = np.argsort(encoded.lengths, kind="stable")
        places = np.linspace(0, len(order) - 1, min(PUBLISHED_SAMPLES, len(order))).round().astype(int)
        self._samples = [encoded.samples[i] for i in order[places]]
        self._network = stage.model.network
        self._weights = copy_of_weights(self._network)

    @property
    def count(self) -> int:
        """How many samples these are."""
        return len(self._samples)

    def one_draw_each(self) -> None:
        """Draw once for each sample."""
        for sample in self._samples:
            relative_change(self._network, self._weights, sample, SIGMA)

    def restore(self) -> None:
        """Give the model its own weights back."""
        self._network.load_state_dict(self._weights)


def compare(finished: Finished, seconds: Seconds, peak: Peak, targets: Targets) -> list[Comparison]:
    """Put every figure beside its target."""
    return [
        evaluation_over_floor(seconds, targets),
        run_over_floor(finished, targets),
        speed_at_equal_draws(finished, seconds, targets),
        speed_at_equal_reliability(finished, seconds, targets),
        gradients_over_mapped(seconds),
        memory_over_two_copies(peak, targets),
    ]


def evaluation_over_floor(seconds: Seconds, targets: Targets) -> Comparison:
    """Compare a perturbed evaluation (noise, copy, pass, sums) with a pass of the bare model."""
    return Comparison(
        "time of an evaluation / floor",
        seconds.evaluation / seconds.floor,
        targets.over_floor,
        True,
        f"{seconds.evaluation:.4f} s an evaluation, {seconds.floor:.4f} s a bare pass",
    )


def run_over_floor(finished: Finished, targets: Targets) -> Comparison:
    """Compare the whole run, from loading to the last sum, with its number of bare passes."""
    run = finished.summary
    floor = run["passes"] * run["seconds_floor_pass"]
    return Comparison(
        "time of the whole run / floor",
        run["seconds"] / floor,
        targets.over_floor,
        True,
        f"{run['seconds']:.1f} s with loading, baseline and pilot; {run['evaluations']} evaluations and "
        f"{run['probes']} sign probes, {run['passes']:.1f} passes × "
        f"{run['seconds_floor_pass']:.4f} s",
    )


def speed_at_equal_draws(finished: Finished, seconds: Seconds, targets: Targets) -> Comparison:
    """Compare with the published algorithm when both draw as often."""
    samples = finished.summary["n_samples"]
    published = seconds.published * samples
    return Comparison(
        "speed over published, equal draws",
        published / seconds.evaluation,
        targets.equal_draws,
        False,
        f"{seconds.published * 1000:.1f} ms against {seconds.evaluation / samples * 1000:.1f} ms a sample and "
        f"draw; the floor allows {published / seconds.floor:.1f} ×; published: {PUBLISHED_SAMPLES} samples × "
        f"{ROUNDS} draws, extrapolated",
    )


def speed_at_equal_reliability(finished: Finished, seconds: Seconds, targets: Targets) -> Comparison:
    """Compare with the published algorithm when both reach the same median relative standard error.

    A plain draw of sample i has standard deviation s_i, so K draws have SE_i = s_i / √K, and the median over
    the samples of SE_i / MRD_i equals the run's own error e at K = (median_i s_i / MRD_i / e)².
    """
    run = finished.summary
    draws = plain_draws_needed(finished, plain_deviations(finished))
    published = draws * run["n_samples"] * seconds.published
    ours = run["evaluations"] * seconds.evaluation + (run["passes"] - run["evaluations"]) * seconds.floor
    return Comparison(
        "speed over published, equal reliability",
        published / ours,
        targets.equal_reliability,
        False,
        f"median relative SE {run['median_relative_se']:.1%} at σ = {SIGMA:g}: {run['evaluations']} evaluations "
        f"and {run['probes']} sign probes in {ours:.1f} s, or K = (median_i s_i/MRD_i / SE)² = {draws:.0f} plain "
        f"draws in {published:.0f} s "
        f"(s_i from {PLAIN_DRAWS} plain draws)",
    )


def plain_deviations(finished: Finished) -> FloatArray:
    """Return the standard deviation of one plain draw for each sample, shape (N,)."""
    plain = finished.config.model_copy(update={"mode": "plain"})
    # The parts of MRD are told from pairs.
    whole = finished.prepared.plan.model_copy(update={"with_parts": False})
    estimator = dataclasses.replace(finished.prepared, plan=whole).estimator(plain)
    with precision(finished.prepared.stage.model.dtype):
        values = np.concatenate([estimator.unit(index).values for index in range(PLAIN_DRAWS)])
    draws = Draws(tuple(finished.scores["sample_id"]), values, estimator.kept, "plain")
    deviations: FloatArray = draws.units(plain.scope, plain.normalisation).values.std(axis=0, ddof=1)
    return deviations


def plain_draws_needed(finished: Finished, deviations: FloatArray) -> float:
    """Return the plain draws that reach the median relative standard error of the finished run."""
    relative = np.nanmedian(deviations / finished.scores["mrd"].to_numpy())
    return float(relative / finished.summary["median_relative_se"]) ** 2


def gradients_over_mapped(seconds: Seconds) -> Comparison:
    """Compare the norms of per-sample gradients with those of `torch.func`, which makes the gradients."""
    return Comparison(
        "gradient norms, speed over torch.func",
        seconds.mapped / seconds.gradients,
        1.0,
        False,
        f"{seconds.mapped:.3f} s against {seconds.gradients:.3f} s, {seconds.gradients / seconds.floor:.1f} bare "
        f"passes; the norms differ by {seconds.apart:.1e} at most",
    )


def memory_over_two_copies(peak: Peak, targets: Targets) -> Comparison:
    """Compare the peak of scoring with two copies of the weights and the bare model's activations."""
    return Comparison(
        "peak memory / (2 × weights + activations)",
        peak.scoring / (peak.bare + peak.weights),
        targets.memory,
        True,
        f"{_mib(peak.scoring)} scoring; {_mib(peak.bare)} bare model, of which weights {_mib(peak.weights)}",
    )


def setting_of(finished: Finished) -> dict[str, Any]:
    """Return what was measured on what."""
    stage, run = finished.prepared.stage, finished.summary
    return {
        "parameters": run["model_parameters"],
        "samples": run["n_samples"],
        "tokens": int(stage.passes.encoded.lengths.sum()),
        "sigma": SIGMA,
        "device": run["device"],
        "dtype": run["dtype"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def print_table(setting: dict[str, Any], comparisons: list[Comparison]) -> None:
    """Print the comparisons for people."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in setting.items()), end="\n\n")
    table = Table("what", "ratio", "target", "verdict", box=None, pad_edge=False)
    for one in comparisons:
        target = f"{'≤' if one.at_most else '≥'} {one.target:g}"
        table.add_row(one.what, f"{one.ratio:.2f}", target, "met" if one.met else "missed")
    console.print(table, end="\n\n")
    for one in comparisons:
        console.print(f"{one.what}: {one.measured}")


def print_json(setting: dict[str, Any], comparisons: list[Comparison]) -> None:
    """Print the comparisons for programs."""
    print(json.dumps({"setting": setting, "comparisons": [asdict(one) | {"met": one.met} for one in comparisons]}))


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        sys.exit(str(error))
