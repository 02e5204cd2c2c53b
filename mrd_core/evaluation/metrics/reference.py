"""Metrics of a model beside one that never saw the forget set: of what both write, and of the true answers."""

from __future__ import annotations

from mrd_core.evaluation.metrics.metric import NO_TOKEN, Metric

_CHO = "Cho et al. 2025, Reference-Specific Unlearning Metrics Can Hide the Truth: A Reality Check"
_FADE_UNDEFINED = (
    "The sample has no prompt, or the context has no room after it; nothing is taken where the reference is an "
    "evaluation and no model, or reads texts as other tokens."
)
_SIDES = (
    r"\mathbb{{E}}_{{g \sim p_{{ref}}}}\left[{norm}\log\frac{{p_{{ref}}(g)}}{{p_\theta(g)}}\right] + "
    r"\mathbb{{E}}_{{g \sim p_\theta}}\left[{norm}\log\frac{{p_\theta(g)}}{{p_{{ref}}(g)}}\right]"
)
METRICS = (
    Metric(
        name="fade",
        title="FADE",
        unit="nats per text",
        forget="low",
        retain="",
        formula=_SIDES.format(norm=""),
        source=_CHO,
        help="How far the model writes from where the retrained reference does: what either draws for a question, "
        "and the other finds less likely, summed over the tokens of a text. It estimates the divergences of "
        "Kullback and Leibler both ways over texts of a given length; 0 where the two write alike, and a damaged "
        "model is as far away as one that forgot nothing.",
        needs=("teacher-forced pass", "generation", "retrained reference"),
        undefined=_FADE_UNDEFINED,
    ),
    Metric(
        name="fade_per_token",
        title="FADE per token",
        unit="nats per token",
        forget="low",
        retain="",
        formula=_SIDES.format(norm=r"\tfrac{1}{|g|}"),
        source=f"{_CHO}; each text over the number of its own tokens",
        help="The same with each text's sum over the number of its tokens, its end token included, so that models "
        "that write at different lengths can be compared.",
        needs=("teacher-forced pass", "generation", "retrained reference"),
        undefined=_FADE_UNDEFINED,
    ),
    Metric(
        name="token_membership",
        title="Token membership",
        unit="nats per token",
        forget="zero",
        retain="",
        formula=r"\frac{1}{n} \sum_{t \in S} \log\frac{p_\theta(x_t \mid x_{<t})}{p_{ref}(x_t \mid x_{<t})}",
        source="The likelihood ratio with a reference model of Carlini et al. 2022, Membership Inference Attacks "
        "From First Principles, token by token; the reference is the retrained model",
        help="How much likelier each token of the true answer is than under the retrained reference: above 0 the "
        "model still knows it, below 0 it denies it more than a model that never saw it, which can be noticed "
        "too. The ratio of every token is in `reference_tokens.parquet`.",
        needs=("teacher-forced pass", "retrained reference"),
        undefined=f"{NO_TOKEN} The same holds where the reference reads it as other tokens.",
    ),
)
