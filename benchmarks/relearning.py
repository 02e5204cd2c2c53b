"""Does a benign relearning bring back what gradients foretell?

    python -m benchmarks.relearning --scores RUN_DIR [--model demo --forget-set demo --retain-set demo]

The forget samples are unlearned together (uniform sampling) until each was found forgotten. From there the model
goes on training on a few retain rows alone, all of them in a batch, with SGD. To first order a step on row r
changes the NLL of sample i by −η g_i·g_r: what comes back of i is foretold by Σ_r g_i·g_r, the entanglement with
the sign turned. Rivals are the NLL that unlearning left and the norm of the sample's own gradient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from analysis.statistics.censored import spearman
from benchmarks.curricula import CANDIDATES, Bench, load, unlearn
from mrd_core.arrays import FloatArray
from mrd_core.model.encoding import Encoded
from mrd_core.model.products import gradient_products
from mrd_core.model.reader import Reader

LOOKS = (1, 4, 16)

app = typer.Typer(add_completion=False)


@app.command()
def main(
    scores: Annotated[Path, typer.Option(help="Directory of a score run of the forget set on the model.")],
    model: Annotated[str, typer.Option(help="Model folder, hub id, or `demo`.")] = "demo",
    forget_set: Annotated[str, typer.Option(help="Forget set, or `demo`.")] = "demo",
    retain_set: Annotated[str, typer.Option(help="Retain set, or `demo`.")] = "demo",
    samples: Annotated[int, typer.Option(min=4, help="Samples, every so many of the forget set.")] = 40,
    rows: Annotated[int, typer.Option(min=1, help="Retain rows that are trained on.")] = 8,
    method: Annotated[str, typer.Option(help="Method of unlearning.")] = "graddiff",
    rate: Annotated[float, typer.Option(help="Learning rate of the relearning.")] = 1e-2,
) -> None:
    """Unlearn, train on a few retain rows, and hold what comes back against what gradients foretold."""
    bench = load(model, forget_set, retain_set, scores, samples).part(0)
    ended = unlearn(bench, method, CANDIDATES[0], 0)
    retain = bench.held.subset(np.arange(min(rows, len(bench.held))))
    pairs = gradient_products(Reader(bench.model.network, bench.model.device, 4096), bench.forget, retain)
    left = bench.memorized(bench.forget)
    foretold = {
        "entanglement, sign turned": pairs.inner.sum(axis=1),
        "cosine, sign turned": pairs.cosines.sum(axis=1),
        "gradient norm": np.sqrt(pairs.squared),
        "NLL left": left.nll,
    }
    table = Table("after", "mean gain [nats]", "MA", *foretold, box=None, pad_edge=False)
    for step, gain, accuracy in relearned(bench, retain, left.nll, rate):
        rhos = [spearman(values, gain, np.zeros(len(gain), dtype=bool)) for values in foretold.values()]
        table.add_row(
            f"{step} steps",
            f"{gain.mean():+.4f}",
            f"{accuracy:.3f}",
            *(f"{rho.value:+.2f} [{rho.low:+.2f}, {rho.high:+.2f}]" for rho in rhos),
        )
    console = Console(width=150, highlight=False)
    console.print(
        f"{len(bench.forget)} samples unlearned by {method} in {ended.updates} updates "
        f"(MA {left.accuracy.mean():.3f}, retain MA {ended.retain_accuracy:.3f});\n"
        f"{len(retain)} retain rows, SGD at {rate:g}; ρ with the gain [95 %]:"
    )
    console.print(table)


def relearned(
    bench: Bench, retain: Encoded, before: FloatArray, rate: float
) -> list[tuple[int, FloatArray, float]]:
    """Train on the retain rows; return, at each look, its step, the fall of each sample's NLL [nats], mean MA."""
    network, looks = bench.model.network, []
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    for step in range(1, LOOKS[-1] + 1):
        network.zero_grad()
        for sample in retain.samples:
            ids = torch.from_numpy(sample.tokens).to(bench.model.device).unsqueeze(0)
            labels = ids.clone()
            labels[0, 1:][~torch.from_numpy(sample.answer)] = -100
            labels[0, 0] = -100
            (network(input_ids=ids, labels=labels).loss / len(retain)).backward()
        optimiser.step()
        if step in LOOKS:
            after = bench.memorized(bench.forget)
            looks.append((step, before - after.nll, float(after.accuracy.mean())))
    return looks


if __name__ == "__main__":
    app()
