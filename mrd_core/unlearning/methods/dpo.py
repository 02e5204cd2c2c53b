"""Direct preference optimisation: a refusal is preferred to the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import ForgetBatch, Method
from mrd_core.unlearning.methods.parameters import RETAIN, inverse_temperature

if TYPE_CHECKING:
    from torch import Tensor


RAFAILOV = "Rafailov et al. 2023, Direct Preference Optimization; on refusals, as Zhang et al. 2024 compare with"


def preference(batch: ForgetBatch, *, beta: float) -> Tensor:
    """Return −(2/β) · mean_i log σ(β [(NLL_i − NLL_ref,i) − (NLL_i,r − NLL_ref,i,r)]), r the refusal, NLLs summed.

    It pushes the answer down and the refusal up, until the two are far enough apart for β.

    Args:
        batch: The samples' own answers with their NLL under the starting model, and the refusals beside them.
        beta: Inverse temperature β > 0 [1/nat].

    Raises:
        ValueError: The batch has no NLL under the starting model, or no refusals.
    """
    from mrd_core.unlearning.losses import bounded_ascent, sample_nll

    if batch.reference_nll is None or batch.refused is None:
        raise ValueError("DPO needs the NLL of answers and refusals under the reference model")
    answered = sample_nll(batch.log_probs, batch.mask) - batch.reference_nll
    return bounded_ascent(answered - (batch.refused.nll - batch.refused.reference_nll), beta)


METHOD = Method(
    name="dpo",
    label="DPO",
    title="Direct preference optimisation (DPO)",
    formula=r"-\frac{2}{\beta}\,\mathrm{mean}_i \log\sigma\!\left(\beta\left[\mathrm{NLL}_i - "
    r"\mathrm{NLL}_i^{\text{ref}} - \mathrm{NLL}_i^{\text{refusal}} + \mathrm{NLL}_i^{\text{refusal, ref}}"
    rf"\right]\right){RETAIN}",
    source=RAFAILOV,
    forget="answers",
    retain="required",
    default_retain_weight=1.0,
    parameters=(inverse_temperature(0.1, "1/nat", "OpenUnlearning's setting"),),
    loss=preference,
    needs_reference=True,
    refuses_beside=True,
    place=5,
)
