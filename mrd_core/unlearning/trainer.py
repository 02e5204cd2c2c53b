"""The training loop: transformers' own, fed by the curriculum.

One step of the loop is one optimiser step. What it trains on is drawn when it is trained on, and not by a data
loader that reads ahead, so that the order that is logged is the order that was trained, and a sample that is
forgotten is out of the pool from the next draw on.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mrd_core.unlearning.objective import Drawn, Losses, Objective

STAGING = ".saving"


class Feed(Protocol):
    """Where the steps come from, and where what they found goes."""

    def draw(self, step: int) -> Drawn:
        """Return what this process trains on in `step` (the first is 0)."""

    def judge(self, rows: slice, accuracy: list[float]) -> list[int]:
        """Take the MA of these rows of the last draw before the update; return those to train on."""

    def stepped(self, step: int, losses: Losses) -> bool:
        """Note that the weights have moved; return whether to stop here."""

    def save(self, folder: Path) -> None:
        """Write the state that belongs to a checkpoint."""


class _Steps(Dataset[int]):
    """As many items as the loop may take steps: it counts them, and reads nothing else from its loader."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index


class _StopWhenTold(TrainerCallback):
    """Tells the feed of each step, and ends the loop when it says so."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.losses = Losses(0.0, 0.0, 0.0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask the feed whether this was the last step."""
        if self._feed.stepped(state.global_step, self.losses):
            control.should_training_stop = True
            control.should_save = args.save_strategy != "no"
        return control


class UnlearningTrainer(Trainer):
    """transformers' Trainer with the batches of a feed and the loss of an objective.

    Args:
        model: What is trained: the model, or its peft wrapper.
        args: `max_steps` must be set; one item of its batches is one step.
        objective: The loss.
        feed: Draws the batches.
    """

    def __init__(self, model: Any, args: TrainingArguments, objective: Objective, feed: Feed) -> None:
        processes = max(args.world_size, 1)
        self._listener = _StopWhenTold(feed)
        super().__init__(
            model=model,
            args=args,
            train_dataset=_Steps(args.max_steps * processes),
            data_collator=lambda steps: {"step": torch.tensor(steps)},
            callbacks=[self._listener],
        )
        self._objective = objective
        self._feed = feed
        self._staging: Path | None = None

    def training_step(
        self,
        model: Any,
        inputs: dict[str, Any],  # noqa: ARG002  (the loop's counter)
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Forward and backward of one optimiser step, a micro-batch at a time."""
        model.train()
        drawn = self._feed.draw(self.state.global_step)
        with self.compute_loss_context_manager():
            losses = self._objective.accumulate(model, drawn, self._feed.judge, self.accelerator.backward)
        self._listener.losses = losses
        total = losses.forget + self._objective.retain_weight * losses.retain
        return torch.tensor(total, device=self.args.device)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else str(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save under another name and rename, so that a checkpoint is whole or absent; keep the newest only."""
        folder = Path(str(self.args.output_dir))
        self._staging = folder / STAGING
        shutil.rmtree(self._staging, ignore_errors=True)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            staged, self._staging = self._staging, None
        (made,) = staged.iterdir()
        self._feed.save(made)
        made.rename(folder / made.name)
        staged.rmdir()
        for older in checkpoints(folder)[:-1]:
            shutil.rmtree(older, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest last."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
