"""NPO with the length in the place of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import ForgetBatch, Method, Parameter
from mrd_core.unlearning.methods.parameters import RETAIN, inverse_temperature

if TYPE_CHECKING:
    from torch import Tensor


FAN = "Fan et al. 2024, Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning"


def simple_preference(batch: ForgetBatch, *, beta: float, gamma: float) -> Tensor:
    """Return −(2/β) · mean_i log σ(β (NLL_i/n_i − γ)) (Fan et al. 2024).

    The paper writes its margin outside of the bracket, log σ(β NLL_i/n_i − γ_paper); its implementations have it
    inside, as here, so γ_paper = β γ. At γ = 0, the default, both agree.

    Args:
        batch: The samples' own answers.
        beta: Inverse temperature β > 0 [tokens/nat].
        gamma: NLL at which the push has fallen to half of its full strength [nats per token].
    """
    from mrd_core.unlearning.losses import bounded_ascent, sample_nll

    return bounded_ascent(sample_nll(batch.log_probs, batch.mask) / batch.mask.sum(1) - gamma, beta)


METHOD = Method(
    name="simnpo",
    label="SimNPO",
    title="Simple NPO (SimNPO)",
    formula=r"-\frac{2}{\beta}\,\mathrm{mean}_i \log\sigma\!\left(\beta\left("
    rf"\tfrac{{\mathrm{{NLL}}_i}}{{n_i}} - \gamma\right)\right){RETAIN}",
    source=FAN,
    forget="answers",
    retain="optional",
    default_retain_weight=1.0,
    parameters=(
        inverse_temperature(4.5, "tokens/nat", f"{FAN}; also 2.5"),
        Parameter(
            name="gamma",
            default=0.0,
            unit="nats per token",
            source=f"{FAN}; the margin in the paper's equation is β γ",
            help="Mean NLL at which the push has fallen to half of its full strength.",
            bounds=(0.0, 100.0),
        ),
    ),
    loss=simple_preference,
    place=8,
)
