"""Preference optimisation: refusals are taught in the place of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Method
from mrd_core.unlearning.methods.parameters import AVERAGE, MAINI, RETAIN

if TYPE_CHECKING:
    from torch import Tensor


def refusal_nll(batch: ForgetBatch, *, average: Average) -> Tensor:
    """Return the mean NLL of the refusals [nats per token] (Maini et al. 2024).

    Args:
        batch: Refusals in the place of the samples' answers.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import nll_loss

    return nll_loss(batch.log_probs, batch.mask, average)


METHOD = Method(
    name="po",
    label="PO",
    title="Preference optimisation (PO)",
    formula=r"\frac{\sum_i \mathrm{NLL}_i^{\text{refusal}}}{\sum_i n_i^{\text{refusal}}}" + RETAIN,
    source=MAINI,
    forget="refusals",
    retain="required",
    default_retain_weight=1.0,
    parameters=(AVERAGE,),
    loss=refusal_nll,
    place=3,
)
