"""Metrics of choices among lettered options."""

from __future__ import annotations

from mrd_core.evaluation.metrics.metric import Metric

_LI = "Li et al. 2024, The WMDP Benchmark; Hendrycks et al. 2021, Measuring Massive Multitask Understanding (MMLU)"

METRICS = (
    Metric(
        name="multiple_choice",
        title="Multiple-choice accuracy",
        forget="low",
        retain="high",
        formula=r"\mathbb{1}\left[\arg\max_c \log p(c \mid \text{question}) = \text{right}\right]",
        source=_LI,
        help="Whether the right option is the likeliest as a whole.",
        needs=("teacher-forced pass", "choices"),
        undefined="The log-likelihood of an option is not a number: the model has broken down.",
    ),
)
