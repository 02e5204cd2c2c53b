"""A score on this device, without a model to load: random weights in the shape of one, random texts.

    python -m benchmarks.device [--shape 1b --shape 7b] [--samples 400] [--tokens 64] [--device auto]

What is measured for each shape: tokens a second of a bare pass; a pair and a unit of sign probes over the bare
pass; the reliability that so many units reach; and the most memory that was taken. `benchmarks/gpu.sh` runs it on
a machine that has nothing but Python and torch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.passes import synchronise
from mrd_core.arrays import FloatArray
from mrd_core.model import loading as models
from mrd_core.model.encoding import Encoded, EncodedSample
from mrd_core.model.gradients import SampleGradients
from mrd_core.model.likelihood import Passes, Scorer
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.model.reader import BATCH_TOKENS, Reader
from mrd_core.samples.config import Scope
from mrd_core.scoring.config import EstimatorConfig, Normalisation
from mrd_core.scoring.draws import Draws, relative_se, reliability
from mrd_core.scoring.mrd import Estimator, measure_baseline
from mrd_core.scoring.probes import SignProbes
from mrd_core.scoring.schedule import Schedule

# Width, inner width, layers, heads, words.
SHAPES = {
    "tiny": (64, 176, 2, 4, 512),
    "1b": (2048, 5632, 22, 32, 32_000),
    "7b": (4096, 11_008, 32, 32, 32_000),
}
PAIRS, PROBE_UNITS = 8, 2
SIGMA = {torch.bfloat16: 3e-3, torch.float32: 5e-4}

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Result:
    """What was measured of one shape; times in seconds, memory in bytes."""

    shape: str
    weights: int
    dtype: str
    tokens: int
    floor_tokens_per_second: float
    pair_over_floor: float
    probes_over_floor: float
    passes: float
    seconds: float
    reliability: float
    median_relative_se: float
    peak_memory: int


@app.command()
def main(
    shape: Annotated[list[str], typer.Option(help=f"Of {', '.join(SHAPES)}; may be repeated.")] = ["1b"],  # noqa: B006
    samples: Annotated[int, typer.Option(min=20, help="Samples.")] = 400,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of each.")] = 64,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Score random texts with random weights, and tell what it costs."""
    place, _ = models.choose_device(device)
    results = [measured(name, samples, tokens, place) for name in shape]
    if as_json:
        print(json.dumps([asdict(result) for result in results]))
        return
    table = Table("figure", *shape, title=f"{place}, torch {torch.__version__}", box=None)
    for name in (name for name in asdict(results[0]) if name != "shape"):
        table.add_row(name.replace("_", " "), *(_cell(getattr(result, name)) for result in results))
    Console(soft_wrap=True, highlight=False).print(table)


def measured(shape: str, samples: int, tokens: int, device: torch.device) -> Result:
    """Score random texts with random weights of one shape."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    network = network_of(shape, device, dtype)
    encoded = texts_of(samples, tokens, network.config.vocab_size)
    passes = Passes(Reader(Scorer(network), device, BATCH_TOKENS[device.type]), encoded)
    reader = Reader(network, device, BATCH_TOKENS[device.type])
    passes()
    floor = _seconds(passes, device)
    baseline = measure_baseline(passes, dtype)
    noise = PerturbedModel(passes.scorer, Noise(0, SIGMA[dtype]), streamed=False)
    estimator = Estimator(passes, noise, baseline, "antithetic", with_parts=True)
    probes = SignProbes(SampleGradients(reader, encoded), encoded, baseline, Scope.ANSWER, 0)
    # The first of each makes room.
    estimator.unit(PAIRS)
    probes.unit(PROBE_UNITS)
    began = time.perf_counter()
    units = [estimator.unit(index) for index in range(PAIRS)]
    pairs_took = time.perf_counter() - began
    estimates = [probes.unit(index) for index in range(PROBE_UNITS)]
    took = time.perf_counter() - began
    draws = Draws(
        encoded.sample_ids,
        np.concatenate([unit.values for unit in units]),
        estimator.kept,
        "antithetic",
        SIGMA[dtype],
        np.stack([unit.parts for unit in units]),  # type: ignore[misc]
        np.concatenate([unit["speed"] for unit in estimates]),
    )
    scored = draws.units(Scope.ANSWER, Normalisation.MEAN)
    schedule = Schedule(EstimatorConfig(), probe_cost=(took - pairs_took) / PROBE_UNITS / floor)
    return Result(
        shape=shape,
        weights=sum(weight.numel() for weight in network.parameters()),
        dtype=models.name_of(dtype),
        tokens=int(encoded.lengths.sum()),
        floor_tokens_per_second=int(encoded.lengths.sum()) / floor,
        pair_over_floor=pairs_took / PAIRS / floor,
        probes_over_floor=schedule.probe_cost,
        passes=took / floor,
        seconds=took,
        reliability=reliability(scored),
        median_relative_se=float(np.nanmedian(relative_se(scored))),
        peak_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
    )


def network_of(shape: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a Llama of one of the `SHAPES` with random weights, made on the device."""
    width, inner, layers, heads, words = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
    )
    with torch.device(device):
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            network = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)
    return network.eval().requires_grad_(False)


def texts_of(samples: int, tokens: int, words: int) -> Encoded:
    """Return random samples of about so many tokens each, two thirds of which are answer."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(max(8, tokens // 2), 3 * tokens // 2 + 1, samples)
    encoded = []
    for length in lengths:
        ids = generator.integers(3, words, length)
        answer = np.arange(length - 1) >= length // 3
        encoded.append(EncodedSample(ids, answer, tuple(map(str, ids)), truncated=False))
    return Encoded(tuple(map(str, range(samples))), tuple(encoded), "plain")


def _seconds(act: Callable[[], FloatArray], device: torch.device) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        act()
        synchronise(device)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _cell(figure: object) -> str:
    return (
        f"{figure:,.4g}"
        if isinstance(figure, float)
        else f"{figure:,}"
        if isinstance(figure, int)
        else str(figure)
    )


if __name__ == "__main__":
    app()
