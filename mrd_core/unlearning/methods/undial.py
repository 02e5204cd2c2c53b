"""Self-distillation with adjusted logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Method, Parameter
from mrd_core.unlearning.methods.parameters import AVERAGE, RETAIN

if TYPE_CHECKING:
    from torch import Tensor


DONG = "Dong et al. 2024, UNDIAL: Self-Distillation with Adjusted Logits"


def distillation(batch: ForgetBatch, *, beta: float, average: Average) -> Tensor:
    """Return mean_t −Σ_v q_v log p_v [nats], q the starting model's prediction with the true logit lowered by β.

    q = softmax(z_ref − β·onehot(x_t)) (Dong et al. 2024). The target is fixed: what is forgotten ends there.

    Args:
        batch: The samples' own answers, with predictions of the model and of the starting model.
        beta: How much the true token's logit is lowered, β ≥ 0 [nats].
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import at_positions, mean_over

    predicted = batch.predicted
    if predicted.reference is None:
        raise ValueError("UNDIAL needs the predictions of the starting model")
    targets = predicted.targets.unsqueeze(1)
    lowered = predicted.reference.gather(1, targets) - beta
    q = predicted.reference.scatter(1, targets, lowered).softmax(1)
    entropies = -(q * predicted.log_softmax).sum(1)
    return mean_over(at_positions(entropies, batch.mask), batch.mask, average)


METHOD = Method(
    name="undial",
    label="UNDIAL",
    title="Self-distillation with adjusted logits (UNDIAL)",
    formula=r"\mathrm{mean}_t\,\Bigl(-\sum_v \mathrm{softmax}\bigl(z_t^{\text{ref}} - "
    rf"\beta\,\mathbb{{1}}_{{x_t}}\bigr)_v \log p_t(v)\Bigr){RETAIN}",
    source=DONG,
    forget="answers",
    retain="optional",
    default_retain_weight=0.0,
    parameters=(
        Parameter(
            "beta",
            10.0,
            "nats",
            f"OpenUnlearning's setting; {DONG}",
            "How much the true token's logit is lowered in what the model is taught.",
            (0.0, 100.0),
        ),
        AVERAGE,
    ),
    loss=distillation,
    predictions="both",
    place=10,
)
