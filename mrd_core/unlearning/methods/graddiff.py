"""Gradient difference: ascent on the forget set, descent on the retain set."""

from __future__ import annotations

from mrd_core.unlearning.methods.ga import ascent
from mrd_core.unlearning.methods.method import Method
from mrd_core.unlearning.methods.parameters import AVERAGE, MEAN_NLL, RETAIN

METHOD = Method(
    name="graddiff",
    label="GradDiff",
    title="Gradient difference (GradDiff)",
    formula=f"-{MEAN_NLL}{RETAIN}",
    source="Liu et al. 2022, Continual Learning and Private Unlearning",
    forget="answers",
    retain="required",
    default_retain_weight=1.0,
    parameters=(AVERAGE,),
    loss=ascent,
    place=2,
)
