"""Gradient ascent weighted by saturation and importance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.scoring.measures import SATIMP
from mrd_core.unlearning.methods.method import Average, ForgetBatch, Granularity, Method
from mrd_core.unlearning.methods.parameters import (
    AVERAGE,
    GRANULARITY,
    IMPORTANCE,
    RETAIN,
    SATURATION,
    YANG,
    exponent,
)

if TYPE_CHECKING:
    from torch import Tensor


def weighted(
    batch: ForgetBatch, *, beta1: float, beta2: float, granularity: Granularity, average: Average
) -> Tensor:
    """Return −mean_t w NLL_t with w = p^β1 (1 − p)^β2, a constant to the gradient (Yang et al. 2025, SatImp).

    Args:
        batch: The samples' own answers.
        beta1: Exponent β1 ≥ 0 of the saturation p.
        beta2: Exponent β2 ≥ 0 of the importance 1 − p.
        granularity: Whose probability p is, see `losses.log_confidence`.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import importance, log_confidence, saturation, weighted_ascent

    log_p = log_confidence(batch.log_probs, batch.mask, granularity)
    weights = saturation(log_p, beta1) * importance(log_p, beta2)
    return weighted_ascent(batch.log_probs, batch.mask, weights, average)


METHOD = Method(
    name="satimp",
    label="SatImp",
    title="Saturation and importance (SatImp)",
    formula=rf"\mathrm{{mean}}_t\; p_t^{{\beta_1}} (1 - p_t)^{{\beta_2}} \log p_t{RETAIN}",
    source=YANG,
    forget="answers",
    retain="optional",
    default_retain_weight=0.1,
    parameters=(
        exponent("beta1", SATIMP["beta1"], YANG, SATURATION),
        exponent("beta2", SATIMP["beta2"], f"{YANG}; a port of it has 1", IMPORTANCE),
        GRANULARITY,
        AVERAGE,
    ),
    loss=weighted,
    place=7,
)
