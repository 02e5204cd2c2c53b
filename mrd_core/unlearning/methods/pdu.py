"""Primal-dual unlearning: predictions are flattened, and the retain loss is held instead of weighed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Method
from mrd_core.unlearning.methods.parameters import AVERAGE, RETAIN

if TYPE_CHECKING:
    from torch import Tensor


ENTESARI = "Entesari et al. 2025, Constrained Entropic Unlearning: A Primal-Dual Framework"


def flatness(batch: ForgetBatch, *, average: Average) -> Tensor:
    """Return mean_t (max_v z_v − mean_v z_v)² [nats²], 0 where all tokens are equally likely (arXiv 2506.05314).

    Over the answers alone, as with all other methods; the published code takes the positions of the prompt along.

    Args:
        batch: The samples' own answers, with predictions.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import at_positions, mean_over

    # A difference of logits is one of log-probabilities.
    log_p = batch.predicted.log_softmax
    peaks = (log_p.amax(1) - log_p.mean(1)).square()
    return mean_over(at_positions(peaks, batch.mask), batch.mask, average)


METHOD = Method(
    name="pdu",
    label="PDU",
    title="Primal-dual unlearning (PDU)",
    formula=rf"\mathrm{{mean}}_t\,\Bigl(\max_v z_t(v) - \mathrm{{mean}}_v\, z_t(v)\Bigr)^2{RETAIN}",
    source=ENTESARI,
    forget="answers",
    retain="required",
    default_retain_weight=1.0,
    parameters=(AVERAGE,),
    loss=flatness,
    predictions="own",
    holds_retain=True,
    place=11,
)
