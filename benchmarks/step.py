"""Unlearning steps on this device, without a model to load: what they hold, what was planned, how fast they are.

    python -m benchmarks.step [--shape 7b] [--steps 20] [--samples 4] [--tokens 64] [--lora-rank 8] [--device auto]

Random weights in the shape of a model, a random batch, and the trainer of the product: LoRA on bf16 with gradient
checkpointing, or all weights (`--lora-rank 0`). On a GPU the peak is the allocator's, else what torch's dispatcher
counts. `benchmarks/gpu.sh` runs it on a machine that has nothing but Python and torch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.device import SHAPES, network_of, texts_of
from benchmarks.passes import synchronise
from benchmarks.tensors import Held
from mrd_core.model import loading as models
from mrd_core.unlearning.adapters import adapted
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.memory import Shape, planned, size
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import parsed
from mrd_core.unlearning.objective import Losses, Objective, StepBatch
from mrd_core.unlearning.optimisers import optimiser_of
from mrd_core.unlearning.trainer import Trainer, accelerator_on, decayed_groups

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Result:
    """What was measured; memory in bytes, time in seconds."""

    shape: str
    weights: int
    trained: int
    dtype: str
    steps: int
    seconds_per_step: float
    tokens_per_second: float
    planned: int
    measured: int
    ratio: float


class Repeated:
    """A feed that draws one batch a number of times."""

    spoilt = False

    def __init__(self, batch: StepBatch, steps: int) -> None:
        self._batch, self._steps = batch, steps

    def draw(self, step: int) -> StepBatch | None:
        """Return the batch; None after the last step."""
        return self._batch if step < self._steps else None

    def select(self, rows: Sequence[int], accuracy: Sequence[float]) -> list[int]:  # noqa: ARG002
        """Return all rows."""
        return list(rows)

    def selected(self) -> list[int]:
        """Return all rows."""
        return list(range(len(self._batch.forget)))

    def undo(self) -> None:
        """Say that memory ran out: what is measured then is another plan's."""
        print("Memory ran out: the micro-batch was halved.", flush=True)

    def stepped(self, step: int, losses: Losses, learning_rate: float) -> bool:  # noqa: ARG002
        """Go on."""
        return False

    def save(self, folder: Path) -> None:
        """Write nothing."""


@app.command()
def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "7b",
    steps: Annotated[int, typer.Option(min=2, help="Optimiser steps.")] = 20,
    samples: Annotated[int, typer.Option(min=1, help="Samples of a step, all in memory.")] = 4,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of each, about.")] = 64,
    lora_rank: Annotated[int, typer.Option(min=0, help="Of the adapter; 0 trains all weights.")] = 8,
    optimiser: Annotated[str, typer.Option(help="As of `unlearn`.")] = "adamw_torch",
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take some steps, and tell what they held and what had been planned."""
    place, _ = models.choose_device(device)
    settings = {
        "name": optimiser,
        "batch_size": samples,
        "lora_rank": lora_rank or None,
        "gradient_checkpointing": bool(lora_rank),
    }
    config = UnlearnConfig.model_validate(
        {"score_run": "none", "model": {}, "method": "ga", "optimiser": settings, "retain": {}}
    )
    result = measured(shape, config, steps, tokens, place)
    if as_json:
        print(json.dumps(asdict(result)))
        return
    print(
        f"{shape} on {place}: {result.steps} steps of {samples} samples, {result.trained:,} of {result.weights:,} "
        f"weights in {result.dtype}: {result.seconds_per_step:.3g} s a step, {result.tokens_per_second:,.0f} "
        "tokens/s"
    )
    print(
        f"memory: planned {size(result.planned)}, measured {size(result.measured)}, "
        f"planned/measured {result.ratio:.3f}"
    )


def measured(shape: str, config: UnlearnConfig, steps: int, tokens: int, device: torch.device) -> Result:
    """Train random weights of a shape on a random batch."""
    optimiser, on_gpu = config.optimiser, device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu and optimiser.lora_rank else torch.float32
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    network = network_of(shape, device, dtype)
    weights = sum(weight.numel() for weight in network.parameters())
    sizes = Shape.of(network.config.to_dict(), weights)
    assert sizes is not None  # every shape is that of a Llama
    if dtype is torch.bfloat16:
        models.keep_norms_fine(network)
    if optimiser.lora_rank:
        checkpointing = optimiser.gradient_checkpointing
        network = adapted(network, optimiser.lora_rank, optimiser.lora_alpha, checkpointing=checkpointing)
        network.activation_checkpointing_enable()
    else:
        network.requires_grad_(True)
    texts = texts_of(optimiser.batch_size, tokens, sizes.words).samples
    method = METHODS[config.method]
    objective = Objective(method, parsed(method, {}), 0.0, None, config.micro_batch(), device)
    trainer = Trainer(
        network,
        optimiser_of(optimiser, decayed_groups(network, optimiser.weight_decay), 1e-5),
        objective,
        Repeated(StepBatch(texts, None, ()), steps),
        accelerator_on(device),
        max_grad_norm=optimiser.max_grad_norm,
    )
    longest = max(texts, key=lambda text: len(text.tokens))
    plan = planned(
        config, sizes, len(longest.tokens), int(longest.answer.sum()), dtype=models.name_of(dtype), on_gpu=on_gpu
    )
    tensors: Any = [*network.parameters(), *network.buffers()]
    began = time.perf_counter()
    with nullcontext() if on_gpu else Held(tensors) as held:
        trainer.train()
    synchronise(device)
    seconds = (time.perf_counter() - began) / steps
    peak = held.peak if held is not None else torch.cuda.max_memory_allocated(device)
    return Result(
        shape=shape,
        weights=weights,
        trained=sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        dtype=models.name_of(dtype),
        steps=steps,
        seconds_per_step=seconds,
        tokens_per_second=sum(len(text.tokens) for text in texts) / seconds,
        planned=plan.peak,
        measured=peak,
        ratio=plan.peak / peak,
    )


if __name__ == "__main__":
    app()
