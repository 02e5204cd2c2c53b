"""A trainer as a run makes it, over any model, objective and feed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mrd_core.unlearning.objective import Objective
from mrd_core.unlearning.trainer import Feed, Trainer, accelerator_on, decayed_groups


def train(
    model: Any,
    objective: Objective,
    feed: Feed,
    *,
    learning_rate: float,
    folder: Path | None = None,
    resume: Path | None = None,
    save_steps: int = 100,
    mixed_precision: str = "no",
    checkpointing: bool = False,
) -> Trainer:
    """Train with AdamW until the feed says stop, with checkpoints where there is a folder for them."""
    accelerator = accelerator_on(objective.device, mixed_precision=mixed_precision)
    if checkpointing:
        model.activation_checkpointing_enable()
    trainer = Trainer(
        model,
        torch.optim.AdamW(decayed_groups(model, 0.0), lr=learning_rate),
        objective,
        feed,
        accelerator,
        max_grad_norm=1.0,
        checkpoint_folder=folder,
        checkpoint_steps=save_steps,
    )
    if resume:
        trainer.resume(resume)
    trainer.train()
    return trainer
