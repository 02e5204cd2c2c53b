"""Metrics of how likely the true answer is."""

from __future__ import annotations

from collections.abc import Mapping

from mrd_core.evaluation.metrics.metric import NO_TOKEN, TOFU, Direction, Metric, Split
from mrd_core.scoring.measures import PLAIN_MEASURES

_JANG = "Jang et al. 2023, Knowledge Unlearning for Mitigating Privacy Risks in Language Models"
_JELINEK = "Jelinek et al. 1977, Perplexity: a measure of the difficulty of speech recognition tasks"


def _measured(name: str, forget: Direction, retain: Direction, file_names: Mapping[Split, str]) -> Metric:
    """Declare a metric that is known as a measure of difficulty too."""
    measure = PLAIN_MEASURES[name]
    return Metric(
        name=name,
        title=measure.title,
        unit=measure.unit,
        forget=forget,
        retain=retain,
        formula=measure.formula,
        source=measure.source,
        help=measure.help,
        needs=("teacher-forced pass",),
        undefined=NO_TOKEN,
        file_names=file_names,
    )


METRICS = (
    _measured("nll", "high", "low", {}),
    _measured("probability", "low", "high", {"forget": "forget_Q_A_Prob", "retain": "retain_Q_A_Prob"}),
    _measured("exact_memorization", "low", "high", {"forget": "exact_memorization"}),
    _measured("extraction_strength", "low", "high", {"forget": "extraction_strength"}),
    Metric(
        name="probability_normalised",
        title="Probability among the perturbed answers",
        forget="low",
        retain="high",
        formula=r"\frac{e^{\ell(y)}}{e^{\ell(y)} + \sum_a e^{\ell(\hat{y}_a)}}",
        source=TOFU,
        help="Probability of the answer, where only it and its perturbed versions can be chosen; TOFU takes it on "
        "real authors and world facts.",
        needs=("teacher-forced pass", "perturbed answers"),
        undefined=f"{NO_TOKEN} The same holds where any perturbed answer has none, or where there is none.",
        file_names={"real_authors": "ra_Q_A_Prob_normalised", "world_facts": "wf_Q_A_Prob_normalised"},
    ),
    Metric(
        name="perplexity",
        title="Perplexity",
        forget="high",
        retain="low",
        formula=r"\exp\left(-\frac{\sum_i n_i \ell_i}{\sum_i n_i}\right)",
        source=_JELINEK,
        help="How many tokens the model wavers between, on average over all tokens of the set.",
        needs=("teacher-forced pass",),
        undefined="No sample of the set has a token within the context of the model.",
        per_sample=False,
    ),
    Metric(
        name="extraction_likelihood",
        title="Extraction likelihood (EL)",
        forget="low",
        retain="high",
        formula=r"\frac{1}{n - m} \sum_{t=1}^{n - m} \mathrm{overlap}_m\left(g(x_{<t}),\, x_{\ge t}\right),"
        r"\quad m = \min(10,\, n - 1)",
        source=_JANG,
        help="Share of the answer's n-grams that come back when the model is started on a part of the answer.",
        needs=("teacher-forced pass", "generation"),
        undefined="The answer has fewer than two tokens within the context of the model.",
    ),
)
