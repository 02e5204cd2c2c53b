"""Membership inference: can a score tell the forget set from samples that are not to be forgotten?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from mrd_core.evaluation.config import K_PERCENT
from mrd_core.evaluation.metrics.metric import JIA, OPEN, Answer, Metric, Need
from mrd_core.evaluation.privacy import loss_score, min_k_plus_plus_score, min_k_score, zlib_score


@dataclass(frozen=True)
class _Attack:
    """A membership inference attack: a score per sample that is higher the less the model seems to know it."""

    name: str
    title: str
    score: str
    source: str
    needs: tuple[Need, ...]
    of: Callable[[Answer], float]


_LOWEST = rf"K: \text{{the {K_PERCENT:g} \% least likely tokens}}"
_ATTACKS = (
    _Attack(
        "mia_loss",
        "Loss",
        r"-\ell",
        "Yeom et al. 2018, Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
        ("teacher-forced pass",),
        lambda answer: loss_score(answer.log_probs),
    ),
    _Attack(
        "mia_zlib",
        "Zlib",
        r"\frac{-\ell}{|\mathrm{zlib}(y)|}",
        "Carlini et al. 2021, Extracting Training Data from Large Language Models",
        ("teacher-forced pass",),
        lambda answer: zlib_score(answer.log_probs, answer.true),
    ),
    _Attack(
        "mia_min_k",
        "Min-k% Prob",
        rf"-\frac{{1}}{{|K|}} \sum_{{t \in K}} \log p_t,\quad {_LOWEST}",
        "Shi et al. 2024, Detecting Pretraining Data from Large Language Models",
        ("teacher-forced pass",),
        lambda answer: min_k_score(answer.log_probs, answer.k_percent),
    ),
    _Attack(
        "mia_min_k_plus_plus",
        "Min-k%++",
        r"-\frac{1}{|K|} \sum_{t \in K} \frac{\log p_t - \mu_t}{\sigma_t},\quad "
        r"\mu_t, \sigma_t: \text{mean and deviation of } \log p(v \mid x_{<t}) \text{ under } p,\quad " + _LOWEST,
        "Zhang et al. 2024, Min-K%++: Improved Baseline for Detecting Pre-Training Data from LLMs",
        ("teacher-forced pass", "moments over the vocabulary"),
        lambda answer: min_k_plus_plus_score(answer.log_probs, answer.means, answer.variances, answer.k_percent),
    ),
)
_AUC = r"\mathrm{{AUC}} = P(s_{{{above}}} > s_{{{below}}}) + \tfrac{{1}}{{2}} P(s_{{{above}}} = s_{{{below}}})"
_AUC_UNDEFINED = "One of the two sets has no sample with a score."


def _against_retain(attack: _Attack) -> Metric:
    return Metric(
        name=f"{attack.name}_retain",
        title=f"MIA {attack.title}: forget against retain",
        forget="high",
        retain="",
        formula=rf"{_AUC.format(above='forget', below='retain')},\quad s = {attack.score}",
        source=f"{attack.source}; forget against retain as in {JIA}",
        help="How well the score tells the forget set from the retain set: 0.5 before unlearning, 1 where the "
        "model seems to have seen only the retain set.",
        needs=(*attack.needs, "retain set"),
        undefined=_AUC_UNDEFINED,
        per_sample=False,
    )


def _against_unseen(attack: _Attack) -> Metric:
    return Metric(
        name=f"{attack.name}_unseen",
        title=f"MIA {attack.title}: forget against unseen",
        forget="half",
        retain="",
        formula=rf"{_AUC.format(above='forget', below='unseen')},\quad s = {attack.score}",
        source=attack.source,
        help="How well the score tells the forget set from unseen samples: near 0 where the model knows the "
        "forget set, 0.5 where it treats both alike, above where the forget set stands out as forgotten.",
        needs=(*attack.needs, "unseen set"),
        undefined=_AUC_UNDEFINED,
        per_sample=False,
    )


def _as_published(attack: _Attack) -> Metric:
    return Metric(
        name=attack.name,
        title=f"MIA {attack.title} (OpenUnlearning)",
        forget="half",
        retain="",
        formula=rf"{_AUC.format(above='unseen', below='forget')},\quad s = {attack.score}",
        source=f"{attack.source}; {OPEN}",
        help="Forget against unseen the other way round, as in OpenUnlearning's files: 1 where the forget set is "
        "much likelier than unseen samples, 0.5 where both are alike. The values of this name per sample are the "
        "scores s, higher the less the model seems to know the sample.",
        needs=(*attack.needs, "unseen set"),
        undefined=_AUC_UNDEFINED,
        per_sample=False,
        file_names=MappingProxyType({"forget": attack.name}),
        of=attack.of,
    )


METRICS = tuple(
    declare(attack) for attack in _ATTACKS for declare in (_against_retain, _against_unseen, _as_published)
)
