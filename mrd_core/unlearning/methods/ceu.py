"""Cross-entropy unlearning: the model is taught its own prediction without the true token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Method
from mrd_core.unlearning.methods.parameters import AVERAGE, RETAIN

if TYPE_CHECKING:
    from torch import Tensor


YANG_CEU = "Yang 2025, CE-U: Cross Entropy Unlearning"


def cross_entropy_without(batch: ForgetBatch, *, average: Average) -> Tensor:
    """Return mean_t −Σ_v q_v log p_v [nats], q the prediction without the true token, a constant to the gradient.

    q_v = p_v / (1 − p_y) for v ≠ y, q_y = 0 (arXiv 2503.01224). The gradient at the true token's logit is p_y:
    bounded, and fading as the token is forgotten. The published code leaves the first token of each answer out,
    which the paper has in a footnote; here all are trained, as with all other methods.

    Args:
        batch: The samples' own answers, with predictions.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import at_positions, mean_over

    log_p, targets = batch.predicted.log_softmax, batch.predicted.targets.unsqueeze(1)
    q = log_p.detach().scatter(1, targets, float("-inf")).softmax(1)
    # Where q is 0 the token counts for nothing, however unlikely it is.
    entropies = -(q * log_p).sum(1)
    return mean_over(at_positions(entropies, batch.mask), batch.mask, average)


METHOD = Method(
    name="ceu",
    label="CE-U",
    title="Cross-entropy unlearning (CE-U)",
    formula=r"\mathrm{mean}_t\,\Bigl(-\sum_{v \neq x_t} \frac{\mathrm{sg}[p_t(v)]}{1 - \mathrm{sg}[p_t]} "
    rf"\log p_t(v)\Bigr){RETAIN}",
    source=YANG_CEU,
    forget="answers",
    retain="optional",
    default_retain_weight=1.0,
    parameters=(AVERAGE,),
    loss=cross_entropy_without,
    predictions="own",
    place=9,
)
