"""Gradient ascent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Method
from mrd_core.unlearning.methods.parameters import AVERAGE, MEAN_NLL

if TYPE_CHECKING:
    from torch import Tensor


def ascent(batch: ForgetBatch, *, average: Average) -> Tensor:
    """Return −mean NLL: gradient ascent (Jang et al. 2023), and the forget term of GradDiff (Liu et al. 2022).

    It has no lower bound.

    Args:
        batch: The samples' own answers.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import nll_loss

    return -nll_loss(batch.log_probs, batch.mask, average)


METHOD = Method(
    name="ga",
    label="GA",
    title="Gradient ascent (SGA)",
    formula=f"-{MEAN_NLL}",
    source="Jang et al. 2023, Knowledge Unlearning for Mitigating Privacy Risks in Language Models",
    forget="answers",
    retain="none",
    default_retain_weight=0.0,
    parameters=(AVERAGE,),
    loss=ascent,
    place=1,
)
