"""The gradients of a step that several processes work on, added up in the order of its micro-batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mrd_core.model.processes import Processes


class OrderedSum:
    """Sums of gradients, weight by weight, that are to the bit those which a single process accumulates.

    Additions in another order round otherwise, so gradients of a round are added one after the other, and not as
    the sums of each process. A weight that no micro-batch reaches has no gradient, as in a single process.

    Args:
        weights: Those that are trained.
        processes: Those that work on one batch together.
    """

    def __init__(self, weights: Iterable[Tensor], processes: Processes) -> None:
        self._weights = [weight for weight in weights if weight.requires_grad]
        self._processes = processes
        self._sums: dict[int, Tensor] = {}

    def begin(self) -> None:
        """Forget what was added up, and the gradients."""
        self._sums.clear()
        for weight in self._weights:
            weight.grad = None

    def add(self) -> None:
        """Take the gradients of all processes in, which are those of one micro-batch each.

        Raises:
            Parted: Another process is gone.
        """
        if self._processes.count == 1:
            return
        present = self._processes.gather([bytes(weight.grad is not None for weight in self._weights)])
        for place, weight in enumerate(self._weights):
            own, weight.grad = weight.grad, None
            for rank, has_gradient in enumerate(present):
                if has_gradient[place]:
                    self._add(place, rank, weight, own)

    def _add(self, place: int, rank: int, weight: Tensor, own: Tensor | None) -> None:
        """Add the gradient that the process of this rank has of a weight; `own` is that of this process."""
        if own is None or rank != self._processes.rank:
            own = torch.empty_like(weight)
        summand = own.detach().contiguous()
        self._processes.hand_out(summand, rank)
        before = self._sums.get(place)
        self._sums[place] = summand if before is None else before.add_(summand)

    def finish(self) -> None:
        """Give each weight the sum as its gradient."""
        if self._processes.count == 1:
            return
        for place, weight in enumerate(self._weights):
            weight.grad = self._sums.pop(place, None)
