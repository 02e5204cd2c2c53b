"""Measures of how hard a sample may be to unlearn, beside MRD: what each is, where it is from, what it costs.

Tables, charts and the documentation are made from what is declared here. Loads no torch: the values
themselves come from `measuring`, those of MRD from a finished score run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType
from typing import Literal

import pandas as pd

from mrd_core.samples.config import Scope
from mrd_core.scoring.columns import SAMPLE_ID, mrd_column
from mrd_core.scoring.config import Formula, Normalisation

# At which end of a measure the samples are expected that are hard to unlearn.
Harder = Literal["small", "large", "unknown"]

# A backward pass without gradients of weights is one forward pass's worth of operations, and takes a little
# longer.
FORWARD = 1.0
BACKWARD = 1.2
FORWARD_AND_BACKWARD = FORWARD + BACKWARD

# The weights of SatImp, as its authors set them: exponents of p and of 1 − p.
SATIMP: Mapping[str, float] = MappingProxyType({"beta1": 5.0, "beta2": 0.1})
# Of a token's logit over the next best [nats]: 1,100 times as probable. A model that knows its samples by heart
# clears a small margin on every token, which then tells no sample from another.
MARGIN = 7.0


@dataclass(frozen=True)
class Measure:
    """One number per sample that is thought to say how hard the sample is to unlearn.

    Attributes:
        name: Column of its values.
        title: For people.
        unit: "" for a pure number.
        formula: In LaTeX; its symbols are `NOTATION`.
        source: Where it is from; "" where it is nobody's.
        help: One sentence that says what it tells.
        harder: At which end the field expects the samples that are hard to unlearn.
        cost_in_forwards: Forward passes of the sample that it costs when measured by itself, whatever the
            number of draws. Measures of `measuring` that need no gradient share one.
        cost_per_draw: What each draw of MRD adds.
    """

    name: str
    title: str
    unit: str
    formula: str
    source: str
    help: str
    harder: Harder
    cost_in_forwards: float = FORWARD
    cost_per_draw: float = 0.0

    def cost(self, draws: int = 0) -> float:
        """Return its cost in forward passes of the sample, where MRD made `draws` evaluations."""
        return self.cost_in_forwards + self.cost_per_draw * draws


NOTATION = (
    r"p_t = p(x_t \mid x_{<t}; \theta),\quad S: \text{answer tokens, EOS included},\quad n = |S|,"
    r"\quad \delta_k \sim \mathcal{N}(0, \sigma^2 I)"
)

# MA from which on a sample is known, and below which it counts as forgotten by default.
KNOWN = 0.5
_MAINI = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs"
_TIRUMALA = "Tirumala et al. 2022, Memorization Without Overfitting; Jang et al. 2023 (MA)"
_WANG = "Wang et al. 2025, Towards Effective Evaluations and Comparisons for LLM Unlearning Methods"
_PAUL = "Paul et al. 2021, Deep Learning on a Data Diet (GraNd)"
_CARLINI = "Carlini et al. 2023, Quantifying Memorization Across Neural Language Models"
_YANG = "Yang et al. 2025, Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning"
_SHI = "Shi et al. 2024, Detecting Pretraining Data from Large Language Models (Min-k% Prob, one token)"
_GENNARO = "Di Gennaro et al. 2026, Fast Unlearning at Scale via Margin Self-Correction (MASC)"
_KIRKPATRICK = "Kirkpatrick et al. 2017, Overcoming Catastrophic Forgetting in Neural Networks (diagonal Fisher)"
_FENG = (
    "Feng et al. 2025, A Neuro-inspired Interpretation of Unlearning in Large Language Models through "
    "Sample-level Unlearning Difficulty"
)

_NLL = r"-\sum_{t \in S} \log p_t"
_FIRST_CHOICE = r"\arg\max_v p(v \mid x_{<t}) = x_t"

_PLAIN = (
    Measure(
        name="nll",
        title="Mean NLL",
        unit="nats per token",
        formula=r"-\frac{1}{n} \sum_{t \in S} \log p_t",
        source=_MAINI,
        help="How little the model expects the answer, averaged over its tokens.",
        harder="small",
    ),
    Measure(
        name="nll_sum",
        title="Summed NLL",
        unit="nats",
        formula=_NLL,
        source=_MAINI,
        help="How little the model expects the answer as a whole; grows with length.",
        harder="small",
    ),
    Measure(
        name="probability",
        title="Probability",
        unit="",
        formula=r"\exp\left(\frac{1}{n} \sum_{t \in S} \log p_t\right)",
        source=_MAINI,
        help="Geometric mean of the tokens' probabilities; ranks as the mean NLL does, upside down.",
        harder="large",
    ),
    Measure(
        name="min_probability",
        title="Minimum token probability",
        unit="",
        formula=r"\min_{t \in S} p_t",
        source=_SHI,
        help="Probability of the token that the model expects least.",
        harder="large",
    ),
    Measure(
        name="median_log_odds",
        title="Median log-odds",
        unit="nats",
        formula=r"\operatorname{median}_{t \in S} \log \frac{p_t}{1 - p_t}",
        source="",
        help="How sure the model is of the middle one of the tokens: to forget by MA is to overturn half of them.",
        harder="large",
    ),
    Measure(
        name="exact_memorization",
        title="Exact memorization (MA)",
        unit="",
        formula=rf"\frac{{1}}{{n}} \sum_{{t \in S}} \mathbb{{1}}\left[{_FIRST_CHOICE}\right]",
        source=_TIRUMALA,
        help="Share of the answer's tokens that are the model's first choice after the true ones before them.",
        harder="large",
    ),
    Measure(
        name="extraction_strength",
        title="Extraction strength",
        unit="",
        formula=r"1 - \frac{k}{n},\quad k = \min\left(\{k' : "
        rf"{_FIRST_CHOICE}\ \text{{for every}}\ t > k'\}} \cup \{{n - 1\}}\right)",
        source=f"{_WANG}; Dorna et al. 2025, OpenUnlearning",
        help="Share of the answer that follows from the rest before it; 1/n even if no token follows, as in "
        "OpenUnlearning.",
        harder="large",
    ),
    Measure(
        name="entropy",
        title="Predictive entropy",
        unit="nats",
        formula=r"-\frac{1}{n} \sum_{t \in S} \sum_v p(v \mid x_{<t}) \log p(v \mid x_{<t})",
        source="Shannon 1948, A Mathematical Theory of Communication",
        help="How undecided the model is over the answer, averaged over its tokens.",
        harder="small",
    ),
    Measure(
        name="satimp_weight",
        title="SatImp weight",
        unit="",
        formula=r"\frac{1}{n} \sum_{t \in S} p_t^{\beta_1} (1 - p_t)^{\beta_2},\quad "
        rf"\beta_1 = {SATIMP['beta1']:g},\ \beta_2 = {SATIMP['beta2']:g}",
        source=_YANG,
        help="How much weight SatImp gives the sample: little where the answer is forgotten, or certain.",
        harder="unknown",
    ),
    Measure(
        name="margin_share",
        title="Share of tokens above a margin",
        unit="",
        formula=r"\frac{1}{n} \sum_{t \in S} \mathbb{1}\left[z_{x_t} - \max_{v \neq x_t} z_v > m\right],\quad "
        rf"m = {MARGIN:g}",
        source=_GENNARO,
        help=f"Share of the answer's tokens whose logit is more than {MARGIN:g} nats above every other: what MASC "
        "brings down before it stops.",
        harder="large",
    ),
    Measure(
        name="answer_tokens",
        title="Length",
        unit="tokens",
        formula="n",
        source="",
        help="Tokens of the answer: the rival that a measure must beat, and what many of them carry.",
        harder="unknown",
        cost_in_forwards=0.0,
    ),
    Measure(
        name="training_count",
        title="Training frequency",
        unit="",
        formula=r"|\{\text{occurrences of the sample in training}\}|",
        source=_CARLINI,
        help="How often the model saw the sample in training, where the forget set says so.",
        harder="large",
        cost_in_forwards=0.0,
    ),
)

_GRADIENT = (
    Measure(
        name="gradient_norm",
        title="Gradient norm of the mean NLL",
        unit="nats per token",
        formula=r"\left\lVert \frac{1}{n} \nabla_\theta \sum_{t \in S} \log p_t \right\rVert_2",
        source=_PAUL,
        help="How hard the sample alone pulls at the weights, per token.",
        harder="small",
        cost_in_forwards=FORWARD_AND_BACKWARD,
    ),
    Measure(
        name="gradient_norm_sum",
        title="Gradient norm of the summed NLL",
        unit="nats",
        formula=r"\left\lVert \nabla_\theta \sum_{t \in S} \log p_t \right\rVert_2",
        source=_PAUL,
        help="How hard the sample alone pulls at the weights, all tokens together.",
        harder="small",
        cost_in_forwards=FORWARD_AND_BACKWARD,
    ),
)

_PRODUCT = r"g_i \cdot g_r,\quad g = -\frac{1}{n} \nabla_\theta \sum_{t \in S} \log p_t"
_COSINE = r"\frac{g_i \cdot g_r}{\lVert g_i \rVert \lVert g_r \rVert}"
_PRUTHI = "after Pruthi et al. 2020, Estimating Training Data Influence by Tracing Gradient Descent (TracIn)"
# Its own forward and backward pass, and those of as many samples that are to be kept.
_ENTANGLED = 2 * FORWARD_AND_BACKWARD

_ENTANGLEMENT = (
    Measure(
        name="entanglement",
        title="Entanglement (mean)",
        unit="(nats per token)²",
        formula=rf"\operatorname{{mean}}_{{r \in R}}\ {_PRODUCT}",
        source=_PRUTHI,
        help="By how much the mean NLL of the retain set R rises for each unit of the learning rate, to first "
        "order, when SGD ascends on the sample alone; where negative, it falls.",
        harder="unknown",
        cost_in_forwards=_ENTANGLED,
    ),
    Measure(
        name="entanglement_max",
        title="Entanglement (largest)",
        unit="(nats per token)²",
        formula=rf"\max_{{r \in R}}\ {_PRODUCT}",
        source=_PRUTHI,
        help="The same of the retain sample that pays most.",
        harder="unknown",
        cost_in_forwards=_ENTANGLED,
    ),
    Measure(
        name="entanglement_cosine",
        title="Entanglement (mean cosine)",
        unit="",
        formula=rf"\operatorname{{mean}}_{{r \in R}}\ {_COSINE}",
        source=_PRUTHI,
        help="How much of the sample's direction in the weights is the retain set's, whatever the size of a step.",
        harder="unknown",
        cost_in_forwards=_ENTANGLED,
    ),
    Measure(
        name="entanglement_cosine_max",
        title="Entanglement (largest cosine)",
        unit="",
        formula=rf"\max_{{r \in R}}\ {_COSINE}",
        source=_PRUTHI,
        help="The same of the retain sample that is nearest.",
        harder="unknown",
        cost_in_forwards=_ENTANGLED,
    ),
    Measure(
        name="entanglement_price",
        title="Entanglement per nat forgotten",
        unit="",
        formula=r"\frac{\operatorname{mean}_{r \in R}\ g_i \cdot g_r}{\lVert g_i \rVert^2}",
        source=_PRUTHI,
        help="What the retain set loses for each nat that the sample itself loses, to first order.",
        harder="unknown",
        cost_in_forwards=_ENTANGLED,
    ),
)

# They take a set of samples that are to be kept: experiments measure them where there is one.
_RETAIN = (
    Measure(
        name="fisher_norm",
        title="Squared gradient by the retain set's Fisher",
        unit="",
        formula=r"g^\top (F + \lambda)^{-1} g,\quad g = -\frac{1}{n} \nabla_\theta \sum_{t \in S} \log p_t,\quad "
        r"F = \operatorname{diag} \operatorname{mean}_{r} g_r g_r^\top,\quad \lambda = \operatorname{mean} F",
        source=_KIRKPATRICK,
        help="How hard the sample pulls at weights that the retain set does not hold: what can be forgotten at no "
        "one's cost.",
        harder="small",
        cost_in_forwards=FORWARD_AND_BACKWARD,
    ),
)

# What one draw contributes, over the tokens T of the scope; N is |T| or 1.
_CHANGE = r"\log p_t(\theta) - \log p_t(\theta + \delta_k)"
_RELATIVE = rf"\frac{{{_CHANGE}}}{{\log p_t(\theta)}}"
_MRD_FORMULAS = {
    Formula.MRD: rf"\frac{{1}}{{N}} \left| \frac{{1}}{{K}} \sum_k \sum_{{t \in T}} {_RELATIVE} \right|",
    Formula.MEAN_ABSOLUTE: rf"\frac{{1}}{{N}} \frac{{1}}{{K}} \sum_k \sum_{{t \in T}} \left| {_RELATIVE} \right|",
    Formula.INITIAL: rf"\frac{{1}}{{N}} \frac{{1}}{{K}} \sum_k \left| \sum_{{t \in T}} ({_CHANGE}) \right|",
}
_MRD_TITLES = {
    Formula.MRD: "MRD",
    Formula.MEAN_ABSOLUTE: "MRD, mean-absolute variant",
    Formula.INITIAL: "MRD, initial metric",
}
_MRD_TOKENS = {Scope.ANSWER: r"T = S", Scope.FULL: r"T = \text{all tokens after the first}"}
_MRD_DIVISORS = {Normalisation.MEAN: r"N = |T|", Normalisation.SUM: r"N = 1"}


def _mrd(formula: Formula, scope: Scope, normalisation: Normalisation) -> Measure:
    """Declare a variant of MRD under the name that its column has in the scores of a run."""
    over = "answer tokens" if scope is Scope.ANSWER else "all tokens"
    parts = (_MRD_FORMULAS[formula], _MRD_TOKENS[scope], _MRD_DIVISORS[normalisation])
    return Measure(
        name=mrd_column(scope, normalisation, formula),
        title=f"{_MRD_TITLES[formula]} ({normalisation} over {over})",
        unit="nats" if formula is Formula.INITIAL else "",
        formula=r",\quad ".join(parts),
        source=_FENG,
        help=f"How much the log-probabilities of {over} move when the weights are shaken.",
        harder="small",
        # The unperturbed pass, which is one precision finer than the draws.
        cost_in_forwards=2 * FORWARD,
        cost_per_draw=FORWARD,
    )


_LOG_ODDS = r"m_t = \log \frac{p_t}{1 - p_t}"
_SPEED = r"\frac{p_t (1 - p_t)}{|\log p_t|} \lVert \nabla_\theta m_t \rVert^2"
_SPREAD = r"\frac{1 - p_t}{|\log p_t|} \operatorname{Var}_{v \sim q_t}(\nabla_\theta z_{t,v})"
_Q = r"q_t: \text{probabilities of the others}"


def _part(name: str, title: str, formula: str, help_: str) -> Measure:
    """Declare a part of MRD that pairs show, at their cost; written here for the mean over the answer."""
    return Measure(
        name=name,
        title=title,
        unit="",
        formula=formula,
        source="",
        help=help_,
        harder="small",
        cost_in_forwards=2 * FORWARD,
        cost_per_draw=FORWARD,
    )


# Of the scope and the normalisation that a run was asked for.
_PARTS = (
    replace(
        _part(
            "speed",
            "Speed of the log-odds (A)",
            rf"A = \frac{{1}}{{n}} \sum_{{t \in S}} {_SPEED},\quad {_LOG_ODDS}",
            "How fast noise on the weights moves the target against its competitors together: the part of MRD "
            "that sign probes measure.",
        ),
        cost_in_forwards=FORWARD_AND_BACKWARD,
        cost_per_draw=0.0,
    ),
    _part(
        "spread",
        "Spread of the competitors (B)",
        rf"B = \frac{{1}}{{n}} \sum_{{t \in S}} {_SPREAD},\quad {_Q}",
        "How far apart noise on the weights moves the logits of the target's competitors.",
    ),
    _part(
        "curvature",
        "Curvature of the network (C)",
        r"C = \frac{2}{\sigma^2}\,\text{MRD} - A - B",
        "What is left of MRD: how much the network itself bends under noise on the weights.",
    ),
    _part(
        "speed_and_spread",
        "Speed and spread (A + B)",
        rf"A + B = \frac{{1}}{{n}} \sum_{{t \in S}} \left( {_SPEED} + {_SPREAD} \right)",
        "MRD without the curvature of the network.",
    ),
)


def _by_name(*measures: Measure) -> Mapping[str, Measure]:
    return MappingProxyType({measure.name: measure for measure in measures})


PLAIN_MEASURES = _by_name(*_PLAIN)
GRADIENT_MEASURES = _by_name(*_GRADIENT)
# Of a retain set, see `entanglement`; a score run, which has none, does not measure them.
ENTANGLEMENT_MEASURES = _by_name(*_ENTANGLEMENT)
PART_MEASURES = _by_name(*_PARTS)
MRD_MEASURES = _by_name(*(_mrd(*variant) for variant in product(Formula, Scope, Normalisation)))
RETAIN_MEASURES = _by_name(*_RETAIN)
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        **MRD_MEASURES,
        **PART_MEASURES,
        **PLAIN_MEASURES,
        **GRADIENT_MEASURES,
        **RETAIN_MEASURES,
        **ENTANGLEMENT_MEASURES,
    }
)


def with_mrd(measured: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Put the variants of MRD that a score run has stored beside other measures of the same samples.

    Args:
        measured: One row per sample: sample_id and columns of other measures.
        scores: The scores of a run: sample_id and the columns of `MRD_MEASURES`, in any order of samples.

    Returns:
        The rows of `measured` with the columns of `MRD_MEASURES` behind; NaN for samples without a score.
    """
    variants = scores[[SAMPLE_ID, *MRD_MEASURES]]
    return measured.merge(variants, on=SAMPLE_ID, how="left", validate="one_to_one")
