"""The floor: what a pass over the forget set costs when nothing is perturbed and nothing kept."""

from __future__ import annotations

import torch

from mrd_core.scoring.plan import Stage, precision


@torch.no_grad()
def bare_pass(stage: Stage) -> None:
    """Run the bare model with one log-softmax over the batches of the forget set, in the draws' precision."""
    with precision(stage.model.dtype):
        for batch in stage.passes.batches:
            stage.model.network(input_ids=batch.ids, use_cache=False).logits.log_softmax(-1)
    synchronise(stage.model.device)


def synchronise(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
