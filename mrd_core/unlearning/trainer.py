"""The training loop of unlearning runs and of experiments, on accelerate.

One step is one optimiser step. What it trains on is drawn when it is trained on, and not by a data loader that
reads ahead, so that the order that is logged is the order that was trained, and a sample that is forgotten is out
of the pool from the next draw on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import patch_environment
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers.trainer_pt_utils import get_parameter_names

from mrd_core.errors import UserError
from mrd_core.model.reader import is_out_of_memory, within_memory
from mrd_core.unlearning import checkpoints
from mrd_core.unlearning.gradients import OrderedSum
from mrd_core.unlearning.objective import Losses, Objective, Selection, StepBatch

# Their weights are scales and offsets, which weight decay would not shrink but shift.
UNDECAYED = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


SINGLE_SAMPLE = "A training step with a single sample in memory"
OPTIMISER_STATE = "The optimiser's state beside weights and gradients"
LESS_MEMORY = (
    "Start a new run with a LoRA adapter, gradient checkpointing, mixed precision or plain SGD, or on a device "
    "with more memory."
)


class Feed(Selection, Protocol):
    """Where the steps come from, and where their losses go."""

    @property
    def spoilt(self) -> bool:
        """Whether the weights are no good any more, so that no checkpoint is made of them."""

    def draw(self, step: int) -> StepBatch | None:
        """Return what is trained on in `step` (the first is 0), by all processes together; None ends training."""

    def undo(self) -> None:
        """Forget what was noted of this draw: its passes are made once more."""

    def stepped(self, step: int, losses: Losses, learning_rate: float) -> bool:
        """Note that `step` steps are taken, the last one at this rate; return whether to stop here."""

    def save(self, folder: Path) -> None:
        """Write the state that belongs to a checkpoint."""


class Trainer:
    """Takes the steps that a feed draws, until the feed ends them.

    Several processes work on one batch: each computes the gradients of its own micro-batches, and they are added
    up in the order of these. So the run is that of one process with the same micro-batches, to the bit where the
    passes are.

    Args:
        model: What is trained: a transformers model, or its peft wrapper.
        optimiser: Of its weights.
        objective: The loss.
        feed: Draws the batches.
        accelerator: Of this process.
        schedule: Of the learning rate; None keeps it.
        max_grad_norm: Gradients are clipped to this norm (L2, over all weights); None leaves them.
        checkpoint_folder: Where the newest checkpoint lies; None makes none.
        checkpoint_steps: Distance of checkpoints [steps].

    Attributes:
        steps: Steps taken.
        micro_batch: Most samples in memory at a time.
    """

    def __init__(
        self,
        model: Any,
        optimiser: Optimizer,
        objective: Objective,
        feed: Feed,
        accelerator: Accelerator,
        *,
        schedule: LRScheduler | None = None,
        max_grad_norm: float | None = None,
        checkpoint_folder: Path | None = None,
        checkpoint_steps: int = 1,
    ) -> None:
        self.steps = 0
        self.micro_batch = objective.micro_batch
        self._model = model
        self._optimiser = optimiser
        self._objective = replace(objective, autocast=accelerator.autocast)
        self._sums = OrderedSum(model.parameters(), objective.processes)
        self._feed = feed
        self._accelerator = accelerator
        self._schedule = schedule
        self._max_grad_norm = max_grad_norm
        self._checkpoint_folder = checkpoint_folder
        self._checkpoint_steps = checkpoint_steps

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return float(self._optimiser.param_groups[0]["lr"])

    def resume(self, checkpoint: Path) -> None:
        """Take weights, optimiser, schedule, random numbers and the count of steps from a checkpoint.

        Raises:
            UserError: It does not belong to this model.
        """
        self.steps = checkpoints.load(checkpoint, self._model, self._optimiser, self._schedule)

    def train(self) -> None:
        """Take steps until the feed ends them.

        Raises:
            UserError: A step does not fit into the memory of the device.
        """
        self._sums.begin()
        ended = False
        while not ended and (batch := self._feed.draw(self.steps)) is not None:
            ended = self.step(batch)
            if self._checkpoint_folder and (ended or self.steps % self._checkpoint_steps == 0):
                self._save(self._checkpoint_folder)

    def step(self, batch: StepBatch) -> bool:
        """Move the weights once by what was drawn; return whether that was the last step."""
        learning_rate = self.learning_rate
        losses = self._accumulate(batch)
        # Without any gradient the weights stay; gradients of zero would let the optimiser's momentum move them.
        if losses.trained:
            self._move()
        self._sums.begin()
        if self._schedule:
            self._schedule.step()
        self.steps += 1
        return self._feed.stepped(self.steps, losses, learning_rate)

    def _accumulate(self, batch: StepBatch) -> Losses:
        """Accumulate the gradients of a step, in half as large parts as long as memory runs out."""
        self._model.train()

        def accumulate(micro_batch: int) -> Losses:
            objective = replace(self._objective, micro_batch=micro_batch)
            losses = objective.accumulate(
                self._model, batch, self._feed, self._accelerator.backward, self._sums.add
            )
            self._sums.finish()
            return losses

        def begin_again(micro_batch: int) -> None:
            self.micro_batch = micro_batch
            self._feed.undo()
            self._sums.begin()

        return within_memory(
            accumulate, self.micro_batch, on_halved=begin_again, what=SINGLE_SAMPLE, advice=LESS_MEMORY
        )

    def _move(self) -> None:
        """Clip the gradients, and let the optimiser move the weights."""
        try:
            if self._max_grad_norm is not None:
                self._accelerator.clip_grad_norm_(self._model.parameters(), self._max_grad_norm)
            self._optimiser.step()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise UserError(
                    OPTIMISER_STATE, "does not fit into the memory of the device.", LESS_MEMORY
                ) from error
            raise

    def _save(self, folder: Path) -> None:
        """Make a checkpoint, unless the weights are spoilt: the older one is the last good one then."""
        trained = (weight for weight in self._model.parameters() if weight.requires_grad)
        if self._feed.spoilt or not all(weight.isfinite().all() for weight in trained):
            return
        if self._objective.processes.leads:
            with checkpoints.staged(folder, self.steps) as staging:
                checkpoints.save(staging, self.steps, self._model, self._optimiser, self._schedule)
                self._feed.save(staging)
        self._objective.processes.wait()


def accelerator_on(device: torch.device, **settings: Any) -> Accelerator:
    """Return accelerate's side of a run on `device`: its precision and trackers.

    Args:
        device: Where the model is.
        settings: Of `Accelerator`, such as `mixed_precision`.
    """
    # accelerate keeps what the first run of a process asked for, and refuses another precision or device.
    AcceleratorState._reset_state(reset_partial_state=True)
    # What several processes do together is `Processes`' to say: accelerate sees one, and leaves its threads alone.
    with patch_environment(world_size=1, local_rank=-1):
        return Accelerator(cpu=device.type == "cpu", **settings)


def decayed_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trained weights as two groups for an optimiser: those that decay, and norms and biases."""
    names = get_parameter_names(model, [torch.nn.LayerNorm], UNDECAYED)  # type: ignore[no-untyped-call]
    decayed = set(names)
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return [
        {"params": [weight for name, weight in trained if name in decayed], "weight_decay": weight_decay},
        {"params": [weight for name, weight in trained if name not in decayed], "weight_decay": 0.0},
    ]
