"""SGD on the signs of the gradient, an optimiser that knows only in which direction to go."""

from __future__ import annotations

from typing import Any

import torch


class SignSGD(torch.optim.SGD):
    """Moves each weight by the learning rate against the sign of its gradient (Bernstein et al. 2018, signSGD).

    As with AdamW a step has the size of the rate in each weight, and nothing is remembered from step to step. That
    optimisers of lower order leave less that comes back is claimed by arXiv 2510.00761.
    """

    def step(self, closure: Any = None) -> Any:
        """Move the weights; where a gradient is 0 nothing moves but by weight decay."""
        gradients = [
            weight.grad for group in self.param_groups for weight in group["params"] if weight.grad is not None
        ]
        if gradients:
            torch._foreach_sign_(gradients)
        return super().step(closure)
