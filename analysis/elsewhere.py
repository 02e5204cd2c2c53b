"""What three models showed of what the paper says, a sentence or two each: docs/findings.md has it with commands.

Brackets hold 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Mapping

from analysis.statistics.bootstrap import Estimate
from analysis.statistics.wording import in_brackets

MODELS = (
    "(TOFU: a Llama of 4.3 million weights, trained on TOFU alone; the demo: the model that ships; SmolLM2: "
    "SmolLM2-135M-Instruct, tuned on 200 rows of TOFU.)"
)
UPDATES = (
    "By gradient ascent with AdamW a small MRD (mean) foretells many updates on one of three models: TOFU "
    "ρ = −0.52 [−0.71, −0.29], the demo −0.08 [−0.33, +0.20], SmolLM2 −0.33 [−0.59, +0.01]. The median log-odds "
    "of the answer, one forward pass, foretell more on all three: +0.68 [+0.49, +0.83], +0.73 [+0.60, +0.85], "
    "+0.78 [+0.54, +0.90]."
)
TRACE = (
    "It holds on TOFU, slope 0.997 [0.984, 1.014], and on the demo, a median ratio of 1.015; on SmolLM2 four "
    "samples have a slope of 1.03 [0.89, 1.09]."
)
SIGMAS = (
    "In fp32 MRD/σ² is constant within a tenth from σ = 1e-5 to 1e-3, on TOFU and on SmolLM2. In bf16 the paper’s "
    "1e-5 measures rounding, 4,600 times MRD on SmolLM2: that does not depend on σ."
)
CHANGE = (
    "With a group’s mean MRD the change of the weights has ρ = −0.51 [−0.75, −0.09] on TOFU, as the paper says, "
    "−0.12 [−0.49, +0.32] on the demo and −0.17 [−0.62, +0.40] on SmolLM2. Under AdamW the number of updates says "
    "it nearly alone: +0.96, +0.99 and +0.95 [+0.88, +0.98]."
)
SELECTIONS = (
    "On TOFU the order of GA and GradDiff never flipped in updates, over 20 groups of 8, and in 7 to 9 of 20 in "
    "what is left of the retain set, where both end alike; on SmolLM2, where GradDiff keeps far more, in none of "
    "five groups of six. That groups balanced by MRD vary less than random ones cannot be told."
)
RETURNS = (
    "After 32 steps on a few harmless retain rows 75 to 80 % of what GA had made the TOFU model forget is known "
    "again and 63 to 71 % of what GradDiff had, on the demo 91 to 100 and 25 to 42 %, on SmolLM2 85 % (GradDiff) "
    "and 35 % (SatImp); of a model that never knew them none, 12 % and none of ten. MRD hardly foretells which: "
    "ρ = +0.08 [+0.00, +0.16] on TOFU, +0.11 [−0.04, +0.25] on the demo, +0.16 [−0.31, +0.62] on SmolLM2."
)
ORDERS = (
    "At equal retain loss no order of the samples is confirmed to save updates on both TOFU and the demo, and "
    "drawing by MRD is on neither. On SmolLM2 it saved 1.1 [−0.8, +2.9] of 69 updates, and the smallest median "
    "log-odds first 0.9 [−1.8, +3.5]."
)


# MRD (mean) on each criterion, a coefficient of ranks with length held. The answers among the facts are those that
# the model itself gives, so probable by construction: that claim is not judged on them.
CLAIMS: Mapping[str, Mapping[str, Estimate]] = {
    "semantic_complexity": {
        "TOFU": Estimate(0.14, 0.04, 0.25),
        "the demo": Estimate(0.10, -0.16, 0.35),
        "SmolLM2": Estimate(-0.01, -0.22, 0.21),
        "facts that SmolLM2 knows": Estimate(-0.07, -0.44, 0.28),
    },
    "occurrence_frequency": {
        "TOFU": Estimate(-0.26, -0.36, -0.16),
        "the demo": Estimate(0.23, 0.10, 0.35),
        "SmolLM2": Estimate(-0.03, -0.29, 0.23),
        "facts that SmolLM2 knows": Estimate(-0.18, -0.38, 0.03),
    },
    "initial_probability": {
        "TOFU": Estimate(0.31, 0.17, 0.45),
        "the demo": Estimate(0.33, 0.19, 0.45),
        "SmolLM2": Estimate(0.19, -0.07, 0.46),
    },
    "rare_words": {
        "TOFU": Estimate(-0.04, -0.13, 0.06),
        "the demo": Estimate(-0.23, -0.40, -0.05),
        "SmolLM2": Estimate(-0.10, -0.31, 0.11),
        "facts that SmolLM2 knows": Estimate(0.07, -0.13, 0.29),
    },
    "association": {
        "TOFU": Estimate(-0.35, -0.45, -0.25),
        "the demo": Estimate(-0.23, -0.37, -0.10),
        "SmolLM2": Estimate(-0.02, -0.24, 0.22),
        "facts that SmolLM2 knows": Estimate(-0.03, -0.27, 0.19),
    },
}
_PROBABLE, _FREQUENT = CLAIMS["initial_probability"], CLAIMS["occurrence_frequency"]
HARDNESS = (
    "With length held all lean against the paper’s text in one claim: what a model finds probable has the "
    f"*larger* MRD (TOFU {in_brackets(_PROBABLE['TOFU'])}, the demo {in_brackets(_PROBABLE['the demo'])}, "
    f"SmolLM2’s tuned rows {in_brackets(_PROBABLE['SmolLM2'])}). That what was seen often is hard shows on TOFU, "
    f"{in_brackets(_FREQUENT['TOFU'])}; on the demo the opposite does, {in_brackets(_FREQUENT['the demo'])}."
)


def claim_in_words(name: str, sign: int) -> str:
    """Return on which models a claim of the paper shows with length held, in a sentence.

    Args:
        name: Of the criterion.
        sign: 1 where the paper says that the MRD of the high group is larger, −1 where it says smaller.
    """
    by_verdict: dict[str, list[str]] = {"agrees": [], "disagrees": [], "cannot tell": []}
    for model, estimate in CLAIMS[name].items():
        verdict = (
            "cannot tell" if not estimate.excludes_zero else "agrees" if estimate.value * sign > 0 else "disagrees"
        )
        by_verdict[verdict].append(model)
    parts = [f"{verdict} ({', '.join(models)})" for verdict, models in by_verdict.items() if models]
    return f"Elsewhere, with length held: {'; '.join(parts)}."


def claim_in_figures(name: str) -> str:
    """Return the coefficients behind `claim_in_words`, with their intervals."""
    each = [f"{model} {in_brackets(estimate)}" for model, estimate in CLAIMS[name].items()]
    return f"Elsewhere, with length held: {', '.join(each)} (coefficients of ranks)."
