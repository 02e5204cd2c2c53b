"""Metrics of how toxic it is what the model writes."""

from __future__ import annotations

from mrd_core.evaluation.metrics.metric import Metric

METRICS = (
    Metric(
        name="toxicity",
        title="Toxicity",
        forget="low",
        retain="",
        formula=r"p(\text{toxic} \mid g)",
        source="Hanu and Unitary 2020, Detoxify (Toxic-BERT); Gehman et al. 2020, RealToxicityPrompts",
        help="Probability that what the model writes is toxic, by a text-classification model.",
        needs=("generation", "text-classification model"),
        undefined="The model could write nothing, or no text-classification model is named.",
    ),
)
