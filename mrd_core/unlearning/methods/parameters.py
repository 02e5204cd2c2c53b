"""What the declarations of several methods share: parameters, and parts of formulas. Loads no torch."""

from __future__ import annotations

from typing import get_args

from mrd_core.unlearning.methods.method import Average, Granularity, Parameter

MAINI = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs"
YANG = "Yang et al. 2025, Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning"

MEAN_NLL = r"\frac{\sum_i \mathrm{NLL}_i}{\sum_i n_i}"
RETAIN = r" + \lambda\,\mathcal{R}(\theta)"

AVERAGE = Parameter(
    name="average",
    default="tokens",
    unit="",
    source=MAINI,
    help="Mean over all answer tokens of the batch, where long answers weigh more, or over samples.",
    choices=get_args(Average),
)
GRANULARITY = Parameter(
    name="granularity",
    default="token",
    unit="",
    source=YANG,
    help="Whose probability the weight is computed from: each token's, its sample's (geometric mean over the "
    "tokens), or the group's that goes through the model at once (mean over its samples).",
    choices=get_args(Granularity),
)
SATURATION = "the saturation p, which spares what is forgotten already"
IMPORTANCE = "the importance 1 − p, which spares what is certain anyway"


def exponent(name: str, default: float, source: str, meaning: str) -> Parameter:
    """Return the exponent of a weight, such as `SATURATION`."""
    return Parameter(name, default, "", source, f"Exponent of {meaning}; 0 switches it off.", (0.0, 100.0))


def inverse_temperature(default: float, unit: str, source: str) -> Parameter:
    """Return β of a loss that fades as a sample is forgotten."""
    return Parameter(
        "beta",
        default,
        unit,
        source,
        "How soon the push fades as a sample is forgotten; towards 0 it is gradient ascent.",
        (1e-6, 100.0),
    )
