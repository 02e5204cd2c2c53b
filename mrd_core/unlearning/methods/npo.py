"""Negative preference optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import ForgetBatch, Method
from mrd_core.unlearning.methods.parameters import RETAIN, inverse_temperature

if TYPE_CHECKING:
    from torch import Tensor


ZHANG = "Zhang et al. 2024, Negative Preference Optimization"


def negative_preference(batch: ForgetBatch, *, beta: float) -> Tensor:
    """Return −(2/β) · mean_i log σ(β (NLL_i − NLL_ref,i)), with NLLs summed over the answer (Zhang et al. 2024).

    Its gradient with respect to NLL_i is −(2/B) σ(−β (NLL_i − NLL_ref,i)): that of gradient ascent on mean_i NLL_i
    as long as the model is the reference, or β → 0, and vanishing as NLL_i grows.

    Args:
        batch: The samples' own answers, with their NLL under the frozen starting model.
        beta: Inverse temperature β > 0 [1/nat].

    Raises:
        ValueError: The batch has no NLL under the starting model.
    """
    from mrd_core.unlearning.losses import bounded_ascent, sample_nll

    if batch.reference_nll is None:
        raise ValueError("NPO needs the NLL of the samples under the reference model")
    return bounded_ascent(sample_nll(batch.log_probs, batch.mask) - batch.reference_nll, beta)


METHOD = Method(
    name="npo",
    label="NPO",
    title="Negative preference optimisation (NPO)",
    formula=r"-\frac{2}{\beta}\,\mathrm{mean}_i \log\sigma\!\left(\beta\left(\mathrm{NLL}_i - "
    rf"\mathrm{{NLL}}_i^{{\text{{ref}}}}\right)\right){RETAIN}",
    source=ZHANG,
    forget="answers",
    retain="required",
    default_retain_weight=1.0,
    parameters=(inverse_temperature(0.1, "1/nat", ZHANG),),
    loss=negative_preference,
    needs_reference=True,
    place=4,
)
