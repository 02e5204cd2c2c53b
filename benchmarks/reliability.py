"""What a reliable ranking costs: pairs of evaluations alone, and pairs with sign probes.

    python -m benchmarks.reliability [--model PATH --forget-set PATH --samples 400] [--pairs 40]

Two runs with seeds of their own draw pairs and probes. The reliability of each number of them is told in two ways:
by split halves within a run, as the product tells it, and by the rank correlation of the two runs, which share no
noise. Costs are counted in forward passes: nominally (a pair 2, a unit of probes one forward and two backward
passes), and as measured here, in turns, over a bare pass. The pilot, the baseline and the measures are not
counted. See docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.passes import bare_pass
from benchmarks.score import medians, run_directory, spread
from mrd_core.arrays import FloatArray
from mrd_core.model.config import ModelConfig
from mrd_core.runs import JobContext
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import SIGNS, EstimatorConfig, Normalisation, ScoreConfig
from mrd_core.scoring.draws import Draws, Units, relative_se, reliability
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.mrd import SPREAD_PAIRS, Unit
from mrd_core.scoring.plan import Prepared, Source, precision, prepare
from mrd_core.scoring.schedule import Schedule, UnitKey
from mrd_core.scoring.workers import Workers

LEVELS = (0.90, 0.95, 0.97)
ROUNDS = 3

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Costs:
    """What units cost, in forward passes.

    Attributes:
        pair: A pair that is looked at for its speed alone.
        first_pair: One that is looked at for its spread as well.
        probe: A unit of probes.
    """

    pair: float
    first_pair: float
    probe: float

    def of(self, pairs: int, probes: int) -> float:
        """Return what so many of them cost."""
        first = min(pairs, SPREAD_PAIRS)
        return first * self.first_pair + (pairs - first) * self.pair + probes * self.probe


NOMINAL = Costs(2.0, 2.0, 1.0 + SIGNS)


@dataclass(frozen=True)
class Drawn:
    """The units of one run."""

    source: Source
    pairs: list[Unit]
    probes: list[dict[str, FloatArray]]

    def draws(self, pairs: int, probes: int) -> Draws:
        """Return the first of them."""
        return self.source.draws(self.pairs[:pairs], self.probes[:probes])

    def units(self, pairs: int, probes: int) -> Units:
        """Return what the mean-normalised score of the first of them is made of."""
        config = self.source.schedule.config
        return self.draws(pairs, probes).units(config.scope, Normalisation.MEAN)


@dataclass(frozen=True)
class Point:
    """How good so many units are."""

    pairs: int
    probes: int
    split_half: float
    two_runs: float
    error: float


@app.command()
def main(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or `demo`.")] = "demo",
    adapter: Annotated[str, typer.Option(help="LoRA adapter, merged into the model.")] = "",
    forget_set: Annotated[str, typer.Option(help="Forget set, or `demo`.")] = "demo",
    samples: Annotated[int, typer.Option(min=4, help="Samples, spread evenly over the forget set.")] = 400,
    pairs: Annotated[int, typer.Option(min=8, help="Pairs of each run.")] = 40,
    probes: Annotated[int, typer.Option(min=2, help="Units of probes of each run.")] = 10,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
) -> None:
    """Measure what it costs to rank a forget set reliably, with sign probes and without."""
    place = ModelConfig.model_validate(
        {"source": model, "device": device} | ({"adapter": adapter} if adapter else {})
    )
    config = ScoreConfig(forget_set=ForgetSetConfig(source=forget_set), model=place)
    chosen = spread(read(config.forget_set), samples)
    with TemporaryDirectory(prefix="mrd-benchmark-") as folder:
        directory = run_directory(Path(folder), "run", config, chosen)
        context = JobContext(directory)
        prepared = prepare(config, chosen, ScoreFiles(directory), context)
    torch.set_num_threads(Workers.of(config.estimator, config.model).threads)
    with precision(prepared.stage.model.dtype):
        runs = [drawn(prepared, config.estimator, seed, pairs, probes) for seed in (1, 2)]
        costs = measured_costs(prepared, runs[0].source)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{len(chosen)} samples, {prepared.stage.passes.encoded.lengths.sum():,} tokens, "
        f"σ = {prepared.plan.sigma:g}; measured in forward passes: pair {costs.pair:.2f} "
        f"(first {SPREAD_PAIRS}: {costs.first_pair:.2f}), "
        f"unit of {SIGNS} probes {costs.probe:.2f}"
    )
    alone = [point(runs, count, 0) for count in range(4, pairs + 1)]
    together = [point(runs, *counts) for counts in scheduled(runs[0], pairs, probes)]
    console.print(points_table(alone[:: max(1, len(alone) // 8)] + together, costs))
    console.print(levels_table(alone, together, costs))


def drawn(prepared: Prepared, config: EstimatorConfig, seed: int, pairs: int, probes: int) -> Drawn:
    """Draw the units of a run with a seed of its own."""
    source = prepared.source(config.model_copy(update={"seed": seed}))
    return Drawn(
        source,
        [Unit(**source.arrays(UnitKey("pair", index))) for index in range(pairs)],
        [source.arrays(UnitKey("probe", index)) for index in range(probes)],
    )


def measured_costs(prepared: Prepared, source: Source) -> Costs:
    """Time each unit over a bare pass, in turns."""
    works: list[Callable[[int], object]] = [
        lambda _turn: bare_pass(prepared.stage),
        lambda turn: source.arrays(UnitKey("pair", SPREAD_PAIRS + turn)),
        lambda turn: source.arrays(UnitKey("pair", turn)),
        lambda turn: source.arrays(UnitKey("probe", turn)),
    ]
    bare, *units = medians(prepared.stage.model.device, ROUNDS, *works)
    return Costs(*(seconds / bare for seconds in units))


def scheduled(run: Drawn, pairs: int, probes: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers of pairs and of units of probes at each look of a run that never stops."""
    schedule = Schedule(run.source.schedule.config, run.source.schedule.probe_cost)
    keys = schedule.first()
    while True:
        counts = tuple(sum(key.kind == kind for key in keys) for kind in ("pair", "probe"))
        if counts[0] > pairs or counts[1] > probes:
            return
        yield counts[0], counts[1]
        keys += schedule.following(keys, run.draws(*counts))


def point(runs: list[Drawn], pairs: int, probes: int) -> Point:
    """Return how good so many units are, over both runs."""
    units = [run.units(pairs, probes) for run in runs]
    two_runs = stats.spearmanr(*(np.abs(of_run.mean) for of_run in units), nan_policy="omit").statistic
    return Point(
        pairs,
        probes,
        float(np.mean([reliability(of_run) for of_run in units])),
        float(two_runs),
        float(np.mean([np.nanmedian(relative_se(of_run)) for of_run in units])),
    )


def points_table(points: list[Point], costs: Costs) -> Table:
    """Return how good the units are, and what they cost."""
    table = Table(
        "pairs", "probe units", "nominal", "measured", "split halves", "two runs", "relative SE", box=None
    )
    for one in points:
        table.add_row(
            *(str(one.pairs), str(one.probes)),
            *(f"{cost.of(one.pairs, one.probes):.1f}" for cost in (NOMINAL, costs)),
            *(f"{one.split_half:.3f}", f"{one.two_runs:.3f}", f"{one.error:.1%}"),
        )
    return table


def levels_table(alone: list[Point], together: list[Point], costs: Costs) -> Table:
    """Return what each level of reliability costs, pairs alone and with probes."""
    table = Table(
        "reliability", "by", "alone, nominal", "with probes", "alone, measured", "with probes", "ratio", box=None
    )
    for level in LEVELS:
        for by in ("split_half", "two_runs"):
            reached = [
                next((one for one in points if getattr(one, by) >= level), None) for points in (alone, together)
            ]
            cells = [
                [cost.of(one.pairs, one.probes) if one else float("nan") for one in reached]
                for cost in (NOMINAL, costs)
            ]
            # Pairs alone are never looked at for their parts.
            cells[1][0] = costs.pair * reached[0].pairs if reached[0] else float("nan")
            ratio = cells[1][0] / cells[1][1]
            table.add_row(
                f"{level:.2f}", by.replace("_", " "), *(f"{x:.1f}" for row in cells for x in row), f"{ratio:.2f}"
            )
    return table


if __name__ == "__main__":
    app()
