"""The training loop: transformers' own, fed by the curriculum.

One step of the loop is one optimiser step. What it trains on is drawn when it is trained on, and not by a data
loader that reads ahead, so that the order that is logged is the order that was trained, and a sample that is
forgotten is out of the pool from the next draw on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mrd_core.errors import UserError
from mrd_core.model.reader import is_out_of_memory
from mrd_core.unlearning.objective import Drawn, Judge, Losses, Objective

STAGING = ".saving"


class Feed(Judge, Protocol):
    """Where the steps come from, and where what they found goes."""

    @property
    def spoilt(self) -> bool:
        """Whether the weights are no good any more, so that no checkpoint is made of them."""

    def draw(self, step: int) -> Drawn:
        """Return what is trained on in `step` (the first is 0), by all processes together."""

    def undo(self) -> None:
        """Forget what was judged of this draw: it is judged once more."""

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
        self.losses = Losses(0.0, 0.0, 0.0, 0, 0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask the feed whether this was the last step."""
        if self._feed.stepped(state.global_step, self.losses):
            control.should_training_stop = True
            control.should_save = args.save_strategy != "no"
        if self._feed.spoilt:
            control.should_save = False
        return control


class UnlearningTrainer(Trainer):
    """transformers' Trainer with the batches of a feed and the loss of an objective.

    Several processes work on one batch: each computes the gradients of its own samples, and they are added up
    once a step. So the run is that of one process, with the rounding of another order of additions.

    Args:
        model: What is trained: the model, or its peft wrapper.
        args: `max_steps` must be set; one item of its batches is one step.
        objective: The loss.
        feed: Draws the batches.

    Attributes:
        learning_rate: That of the present step.
    """

    def __init__(self, model: Any, args: TrainingArguments, objective: Objective, feed: Feed) -> None:
        processes = max(args.world_size, 1)
        self._listener = _StopWhenTold(feed)
        # One process drives one device; without this, transformers would spread the model over all it sees.
        args._n_gpu = min(args.n_gpu, 1)
        super().__init__(
            model=model,
            args=args,
            train_dataset=_Steps(args.max_steps * processes),
            data_collator=lambda steps: {"step": torch.tensor(steps)},
            callbacks=[self._listener],
        )
        self.remove_callback(PrinterCallback)
        self._objective = replace(
            objective, precision=self.compute_loss_context_manager, rank=args.process_index, processes=processes
        )
        self._feed = feed
        self.learning_rate = float(args.learning_rate)
        self._staging: Path | None = None

    def training_step(
        self,
        model: Any,
        inputs: dict[str, Any],  # noqa: ARG002  (the loop's counter)
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Forward and backward of one optimiser step, a micro-batch at a time."""
        model.train()
        # After the step the schedule has moved on already.
        assert self.optimizer is not None  # made when training begins
        self.learning_rate = float(self.optimizer.param_groups[0]["lr"])
        drawn = self._feed.draw(self.state.global_step)
        # A pass through the data-parallel wrapper waits for the other processes, which may have no work.
        bare = self.accelerator.unwrap_model(model)
        losses = self._accumulate(bare, drawn)
        # Without any gradient the optimiser leaves the weights alone; zeros would let its momentum move them.
        if self._objective.processes > 1 and losses.trained:
            _add_up_gradients(bare)
        self._listener.losses = losses
        total = losses.forget + self._objective.retain_weight * losses.retain
        return torch.tensor(total, device=self.args.device)

    def load(self, checkpoint: str) -> None:
        """Take the weights of a checkpoint, without training on."""
        self._load_from_checkpoint(checkpoint)

    def _accumulate(self, model: Any, drawn: Drawn) -> Losses:
        """Accumulate the gradients of a step, in half as large parts as long as memory runs out."""
        while True:
            try:
                return self._objective.accumulate(model, drawn, self._feed, self.accelerator.backward)
            except RuntimeError as error:
                # One of several processes cannot repeat what the others have done.
                if self._objective.processes > 1 or not is_out_of_memory(error):
                    raise
                if self._objective.micro_batch == 1:
                    raise too_little_memory("A training step with a single sample in memory") from error
            self._objective = replace(self._objective, micro_batch=self._objective.micro_batch // 2)
            self._feed.undo()
            model.zero_grad()
            torch.cuda.empty_cache()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else str(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save under another name and rename, so that a checkpoint is whole or absent; keep the newest only."""
        if not all(weight.isfinite().all() for weight in model.parameters() if weight.requires_grad):
            # The next step's loss will say so; until then the older checkpoint is the last good one.
            return
        folder = Path(str(self.args.output_dir))
        with self._staged(folder) as staging:
            super()._save_checkpoint(model, trial)
        if self.args.should_save:
            (made,) = staging.iterdir()
            self._feed.save(made)
            made.rename(folder / made.name)
            staging.rmdir()
            for older in checkpoints(folder)[:-1]:
                shutil.rmtree(older, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _staged(self, folder: Path) -> Iterator[Path]:
        """Have the checkpoint written into an empty folder within `folder`."""
        self._staging = folder / STAGING
        if self.args.should_save:
            shutil.rmtree(self._staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            yield self._staging
            self.accelerator.wait_for_everyone()
        except BaseException:
            shutil.rmtree(self._staging, ignore_errors=True)
            raise
        finally:
            self._staging = None


def too_little_memory(what: str) -> UserError:
    """Return the error of a run that does not fit."""
    return UserError(
        what,
        "does not fit into the memory of the device.",
        "Start a new run with a LoRA adapter, gradient checkpointing, mixed precision or plain SGD, or on a "
        "device with more memory.",
    )


def _add_up_gradients(model: Any) -> None:
    """Add the gradients of all processes up; a process that trained on nothing adds zeros."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            distributed.all_reduce(weight.grad)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest last."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
