"""Representation misdirection: the hidden states of answers are steered towards one random direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrd_core.unlearning.methods.method import Average, ForgetBatch, Method, Parameter
from mrd_core.unlearning.methods.parameters import AVERAGE, RETAIN

if TYPE_CHECKING:
    from torch import Tensor


LI = "Li et al. 2024, The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning"


def misdirection(batch: ForgetBatch, *, gamma: float, ell: float, average: Average) -> Tensor:  # noqa: ARG001
    """Return mean_t ‖h_t − γ·u‖²/d, u one random unit vector for the whole run (Li et al. 2024).

    The retain term is mean_t ‖h_t − h_ref,t‖²/d. States are those that the answer's tokens are predicted from. The
    original trains three layers; OpenUnlearning, and this, whatever the run trains.

    Args:
        batch: The samples' own answers, with hidden states.
        gamma: Length γ of what states are steered to.
        ell: Layer whose output the states are; the batch has them.
        average: As in `losses.nll_loss`.
    """
    from mrd_core.unlearning.losses import at_positions, mean_over

    states = batch.steered
    distances = (states.hidden - gamma * states.direction).square().mean(1)
    return mean_over(at_positions(distances, batch.mask), batch.mask, average)


METHOD = Method(
    name="rmu",
    label="RMU",
    title="Representation misdirection (RMU)",
    formula=r"\mathrm{mean}_t\,\tfrac{1}{d}\lVert h_t^{(\ell)} - \gamma\, u\rVert^2"
    rf"{RETAIN},\quad \mathcal{{R}} = \mathrm{{mean}}_t\,\tfrac{{1}}{{d}}\lVert h_t^{{(\ell)}} - "
    r"h_t^{(\ell),\text{ref}}\rVert^2",
    source=LI,
    forget="answers",
    retain="required",
    default_retain_weight=1.0,
    parameters=(
        Parameter("gamma", 2.0, "", "OpenUnlearning's study", "Length of what states are steered to.", (0.0, 1e4)),
        Parameter(
            "ell",
            7.0,
            "",
            f"{LI}, for models of 16 to 32 layers",
            "Layer whose output is steered; of a smaller model the middle one.",
            (1.0, 1000.0),
        ),
        AVERAGE,
    ),
    loss=misdirection,
    steers=True,
    place=12,
)
