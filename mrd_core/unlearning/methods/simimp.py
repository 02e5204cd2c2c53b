"""Importance-weighted gradient ascent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Granularity, Method
from mrd_core.unlearning.methods.parameters import AVERAGE, GRANULARITY, IMPORTANCE, RETAIN, YANG, exponent

if TYPE_CHECKING:
    from torch import Tensor


def important_ascent(batch: ForgetBatch, *, beta: float, granularity: Granularity, average: Average) -> Tensor:
    """Return −mean_t w NLL_t with w = (1 − p)^β, a constant to the gradient (Yang et al. 2025, importance).

    Tokens that the model is sure of anyway, such as function words, weigh little.

    Args:
        batch: The samples' own answers.
        beta: Exponent β ≥ 0; 0 is gradient ascent.
        granularity: Whose probability p is, see `losses.log_confidence`.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import importance, log_confidence, weighted_ascent

    log_p = log_confidence(batch.log_probs, batch.mask, granularity)
    return weighted_ascent(batch.log_probs, batch.mask, importance(log_p, beta), average)


METHOD = Method(
    name="simimp",
    label="SimImp",
    title="Importance-weighted gradient ascent (SimImp)",
    formula=rf"\mathrm{{mean}}_t\; (1 - p_t)^{{\beta}} \log p_t{RETAIN}",
    source=YANG,
    forget="answers",
    retain="optional",
    default_retain_weight=1.0,
    parameters=(exponent("beta", 1.0, YANG, IMPORTANCE), GRANULARITY, AVERAGE),
    loss=important_ascent,
    place=6,
)
