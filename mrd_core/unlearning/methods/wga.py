"""Weighted gradient ascent, also SimSat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Granularity, Method
from mrd_core.unlearning.methods.parameters import AVERAGE, GRANULARITY, RETAIN, SATURATION, exponent

if TYPE_CHECKING:
    from torch import Tensor


WANG = "Wang et al. 2025, Rethinking LLM Unlearning Objectives"


def saturated_ascent(batch: ForgetBatch, *, beta: float, granularity: Granularity, average: Average) -> Tensor:
    """Return −mean_t w NLL_t with w = p^β, a constant to the gradient.

    The weight fades as the probability falls, so what is forgotten is left alone (Wang et al. 2025, WGA;
    Yang et al. 2025, saturation).

    Args:
        batch: The samples' own answers.
        beta: Exponent β ≥ 0; 0 is gradient ascent.
        granularity: Whose probability p is, see `losses.log_confidence`.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import log_confidence, saturation, weighted_ascent

    log_p = log_confidence(batch.log_probs, batch.mask, granularity)
    return weighted_ascent(batch.log_probs, batch.mask, saturation(log_p, beta), average)


METHOD = Method(
    name="wga",
    label="WGA",
    title="Weighted gradient ascent (WGA, SimSat)",
    formula=rf"\mathrm{{mean}}_t\; p_t^{{\beta}} \log p_t{RETAIN}",
    source=WANG,
    forget="answers",
    retain="optional",
    default_retain_weight=1.0,
    parameters=(exponent("beta", 1.0, WANG, SATURATION), GRANULARITY, AVERAGE),
    loss=saturated_ascent,
    place=5,
)
