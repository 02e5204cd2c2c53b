"""Membership inference: can a score tell the forget set from samples that are not to be forgotten?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mrd_core.evaluation.config import K_PERCENT
from mrd_core.evaluation.metrics.metric import JIA, OPEN, TOO_FEW, Answer, Direction, Metric, Need
from mrd_core.evaluation.privacy import loss_score, min_k_plus_plus_score, min_k_score, zlib_score


class _Attack(NamedTuple):
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
_AUC_UNDEFINED = f"{TOO_FEW[:1].upper()}{TOO_FEW[1:]}."


class _Comparison(NamedTuple):
    """Two sets that an attack tells apart; the other attributes are those of `Metric`."""

    above: str
    below: str
    suffix: str
    title: str
    forget: Direction
    need: Need
    source: str
    help: str


_COMPARISONS = (
    _Comparison(
        "forget",
        "retain",
        "_retain",
        ": forget against retain",
        "high",
        "retain set",
        f"; forget against retain as in {JIA}",
        "How well the score tells the forget set from the retain set: 0.5 before unlearning, 1 where the model "
        "seems to have seen only the retain set.",
    ),
    _Comparison(
        "forget",
        "unseen",
        "_unseen",
        ": forget against unseen",
        "half",
        "unseen set",
        "",
        "How well the score tells the forget set from unseen samples: near 0 where the model knows the forget "
        "set, 0.5 where it treats both alike, above where the forget set stands out as forgotten.",
    ),
    _Comparison(
        "unseen",
        "forget",
        "",
        " (OpenUnlearning)",
        "half",
        "unseen set",
        f"; {OPEN}",
        "Forget against unseen the other way round, as in OpenUnlearning's files: 1 where the forget set is much "
        "likelier than unseen samples, 0.5 where both are alike. The values of this name per sample are the "
        "scores s, higher the less the model seems to know the sample.",
    ),
)
METRICS = tuple(
    Metric(
        name=f"{attack.name}{sets.suffix}",
        title=f"MIA {attack.title}{sets.title}",
        forget=sets.forget,
        retain="",
        formula=rf"{_AUC.format(above=sets.above, below=sets.below)},\quad s = {attack.score}",
        source=f"{attack.source}{sets.source}",
        help=sets.help,
        needs=(*attack.needs, sets.need),
        undefined=_AUC_UNDEFINED,
        per_sample=False,
        file_names={} if sets.suffix else {"forget": attack.name},
        of=None if sets.suffix else attack.of,
    )
    for attack in _ATTACKS
    for sets in _COMPARISONS
)
