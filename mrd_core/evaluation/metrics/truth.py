"""Metrics of right answers beside wrong ones, and the two summaries of TOFU."""

from __future__ import annotations

from mrd_core.evaluation.metrics.metric import OPEN, TOFU, TOO_FEW, Metric

_RATIO = r"r = \exp\left(\frac{1}{A} \sum_a \ell(\hat{y}_a) - \ell(\tilde{y})\right)"
_RATIO_UNDEFINED = (
    "No token of the paraphrased or of a perturbed answer lies within the context, or there is no perturbed one."
)
METRICS = (
    Metric(
        name="truth_ratio",
        title="Truth ratio",
        forget="high",
        retain="high",
        formula=rf"{_RATIO},\quad \text{{forget: }} \min(r, 1/r),\quad \text{{else: }} \max(0, 1 - r)",
        source=f"{TOFU}; geometric mean over the perturbed answers, as in its code and {OPEN}",
        help="How much likelier wrong answers are than a right one. On the forget set it is best where the model "
        "cannot tell them apart, elsewhere where it can: both ways, high is good. Where a set has no paraphrased "
        "answers, the answer itself takes their place.",
        needs=("teacher-forced pass", "paraphrased answers", "perturbed answers"),
        undefined=_RATIO_UNDEFINED,
        file_names={
            "forget": "forget_truth_ratio",
            "retain": "retain_Truth_Ratio",
            "real_authors": "ra_Truth_Ratio",
            "world_facts": "wf_Truth_Ratio",
        },
    ),
    Metric(
        name="forget_quality",
        title="Forget quality",
        forget="high",
        retain="",
        formula=r"p\text{-value of } D = \sup_u \left|\hat{F}_r(u) - \hat{F}_{r,\,\text{retrained}}(u)\right|",
        source=TOFU,
        help="Probability of truth ratios this different from those of a retrained model, had both the same "
        "distribution (two-sample Kolmogorov–Smirnov test).",
        needs=("teacher-forced pass", "paraphrased answers", "perturbed answers", "retrained reference"),
        undefined=f"There is no reference model, or {TOO_FEW}.",
        per_sample=False,
        file_names={"forget": "forget_quality"},
    ),
    Metric(
        name="model_utility",
        title="Model utility",
        forget="",
        retain="high",
        formula=r"9 \Big/ \sum_{i=1}^{9} \frac{1}{u_i},\quad u: \{\text{retain, real authors, world facts}\} "
        r"\times \{\text{probability, ROUGE, truth ratio}\}",
        source=TOFU,
        help="Harmonic mean of nine aggregates: a single bad one pulls it down.",
        needs=("teacher-forced pass", "generation", "paraphrased answers", "perturbed answers"),
        undefined="At least one of the nine aggregates is missing or undefined.",
        per_sample=False,
        file_names={"retain": "model_utility"},
    ),
)
