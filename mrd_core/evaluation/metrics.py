"""The metrics of unlearning: what each is, where it is from, what it needs, which end is good.

Tables, charts, result files and the documentation are made from what is declared here. Loads no torch: the
values come from `likelihoods`, `generation`, `overlap`, `truth`, `privacy` and `choice`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from mrd_core.evaluation.config import K_PERCENT
from mrd_core.scoring.measures import PLAIN_MEASURES

# The end that is good; "half" is 0.5, where the two sets cannot be told apart; "" where it is not taken.
Direction = Literal["low", "high", "half", ""]
Split = Literal["forget", "retain", "real_authors", "world_facts"]
Need = Literal[
    "teacher-forced pass",
    "moments over the vocabulary",
    "generation",
    "paraphrased answers",
    "perturbed answers",
    "paraphrased questions",
    "choices",
    "retain set",
    "unseen set",
    "retrained reference",
    "text-classification model",
]


@dataclass(frozen=True)
class Metric:
    """One number per sample, or one per set, that says what a model still knows.

    Attributes:
        name: Column of its values.
        title: For people.
        unit: "" for a pure number.
        forget: Which end says that the forget set is forgotten.
        retain: Which end says that other sets are kept.
        formula: In LaTeX; its symbols are `NOTATION`.
        source: Where it is from.
        help: What it tells, in one sentence or two.
        needs: What it takes to measure it.
        undefined: When it is NaN: the reason that stands beside an empty cell.
        per_sample: Whether each sample has a value; the aggregate is then the mean of those that are defined.
        file_names: Its name for each split in the result files of OpenUnlearning.
    """

    name: str
    title: str
    forget: Direction
    retain: Direction
    formula: str
    source: str
    help: str
    needs: tuple[Need, ...]
    undefined: str
    unit: str = ""
    per_sample: bool = True
    file_names: Mapping[Split, str] = field(default_factory=dict)


NOTATION = (
    r"p_t = p(x_t \mid x_{<t}; \theta),\quad S: \text{answer tokens, EOS included},\quad n = |S|,"
    r"\quad \ell = \frac{1}{n} \sum_{t \in S} \log p_t,\quad y: \text{answer},\quad \tilde{y}: \text{paraphrased},"
    r"\quad \hat{y}_1 \dots \hat{y}_A: \text{perturbed},\quad g: \text{generated},\quad s: \text{score per sample}"
)

_TOFU = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs"
_OPEN = "Dorna et al. 2025, OpenUnlearning"
_LIN = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries"
_JANG = "Jang et al. 2023, Knowledge Unlearning for Mitigating Privacy Risks in Language Models"
_JIA = "Jia et al. 2024, SOUL: Unlocking the Power of Second-Order Optimization for LLM Unlearning"
_LI = "Li et al. 2024, The WMDP Benchmark; Hendrycks et al. 2021, Measuring Massive Multitask Understanding (MMLU)"
_JELINEK = "Jelinek et al. 1977, Perplexity: a measure of the difficulty of speech recognition tasks"

_NO_TOKEN = "No token of the answer lies within the context of the model."
_NO_TEXT = (
    "The model could write nothing (no prompt, or no room within the context), or the answer has no word of the "
    "letters a–z and digits, which is all that ROUGE sees."
)


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
        undefined=_NO_TOKEN,
        file_names=file_names,
    )


_LIKELIHOOD = (
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
        source=_TOFU,
        help="Probability of the answer, where only it and its perturbed versions can be chosen; TOFU takes it on "
        "real authors and world facts.",
        needs=("teacher-forced pass", "perturbed answers"),
        undefined=f"{_NO_TOKEN} The same holds where any perturbed answer has none, or where there is none.",
        file_names=MappingProxyType(
            {"real_authors": "ra_Q_A_Prob_normalised", "world_facts": "wf_Q_A_Prob_normalised"}
        ),
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

_ROUGE_NAMES: Mapping[Split, str] = MappingProxyType(
    {
        "forget": "forget_Q_A_ROUGE",
        "retain": "retain_Q_A_ROUGE",
        "real_authors": "ra_Q_A_ROUGE",
        "world_facts": "wf_Q_A_ROUGE",
    }
)
_GENERATED = (
    Metric(
        name="rouge",
        title="ROUGE-L recall",
        forget="low",
        retain="high",
        formula=r"\frac{|\mathrm{LCS}(g, y)|}{|y|}",
        source=f"{_LIN}; with Porter's stemmer, as TOFU and OpenUnlearning take it",
        help="Share of the answer's words that the model writes by itself, in their order.",
        needs=("generation",),
        undefined=_NO_TEXT,
        file_names=_ROUGE_NAMES,
    ),
    Metric(
        name="rouge_f1",
        title="ROUGE-L F1",
        forget="low",
        retain="high",
        formula=r"\frac{2\,|\mathrm{LCS}(g, y)|}{|g| + |y|}",
        source=f"{_LIN}; with Porter's stemmer",
        help="As the recall, but words that the model writes beside the answer count against it.",
        needs=("generation",),
        undefined=_NO_TEXT,
    ),
    Metric(
        name="rr",
        title="RR",
        forget="high",
        retain="",
        formula=r"1 - \frac{|\mathrm{LCS}(g, y)|}{|y|}",
        source=f"{_JIA}; {_LIN}",
        help="Share of the answer's words that the model no longer writes by itself: 1 − ROUGE-L recall.",
        needs=("generation",),
        undefined=_NO_TEXT,
    ),
    Metric(
        name="accuracy",
        title="Accuracy against perturbed answers (ROUGE-L)",
        forget="low",
        retain="high",
        formula=r"\mathbb{1}\left[F(g, \tilde{y}) > \max_a F(g, \hat{y}_a)\right],\quad F: \text{ROUGE-L F1}",
        source=f"{_JIA}, who compare sentence embeddings instead of ROUGE-L",
        help="Whether what the model writes to the paraphrased question is closer to the paraphrased answer than "
        "to every perturbed one. Measured by ROUGE-L instead of an embedding model; a tie is a miss.",
        needs=("generation", "paraphrased questions", "paraphrased answers", "perturbed answers"),
        undefined=f"{_NO_TEXT} The same holds where there is no perturbed answer.",
    ),
    Metric(
        name="ua",
        title="UA",
        forget="high",
        retain="",
        formula=r"1 - \mathbb{1}\left[F(g, \tilde{y}) > \max_a F(g, \hat{y}_a)\right]",
        source=_JIA,
        help="Unlearning accuracy: whether the model misses the answer; 1 − accuracy.",
        needs=("generation", "paraphrased questions", "paraphrased answers", "perturbed answers"),
        undefined=f"{_NO_TEXT} The same holds where there is no perturbed answer.",
    ),
    Metric(
        name="answer_match",
        title="Answer string found",
        forget="low",
        retain="high",
        formula=r"\mathbb{1}[y \text{ occurs in } g]",
        source=_JIA,
        help="Whether the answer stands in what the model writes, whatever the case of its letters; the accuracy "
        "on real authors and world facts.",
        needs=("generation",),
        undefined="The model could write nothing (no prompt, or no room in the context), or the answer is blank.",
    ),
)

_CHOICE = (
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

_TOXIC = (
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

_RATIO = r"r = \exp\left(\frac{1}{A} \sum_a \ell(\hat{y}_a) - \ell(\tilde{y})\right)"
_RATIO_UNDEFINED = (
    "No token of the paraphrased or of a perturbed answer lies within the context, or there is no perturbed one."
)
_TRUTH = (
    Metric(
        name="truth_ratio",
        title="Truth ratio",
        forget="high",
        retain="high",
        formula=rf"{_RATIO},\quad \text{{forget: }} \min(r, 1/r),\quad \text{{else: }} \max(0, 1 - r)",
        source=f"{_TOFU}; geometric mean over the perturbed answers, as in its code and {_OPEN}",
        help="How much likelier wrong answers are than a right one. On the forget set it is best where the model "
        "cannot tell them apart, elsewhere where it can: both ways, high is good. Where a set has no paraphrased "
        "answers, the answer itself takes their place.",
        needs=("teacher-forced pass", "paraphrased answers", "perturbed answers"),
        undefined=_RATIO_UNDEFINED,
        file_names=MappingProxyType(
            {
                "forget": "forget_truth_ratio",
                "retain": "retain_Truth_Ratio",
                "real_authors": "ra_Truth_Ratio",
                "world_facts": "wf_Truth_Ratio",
            }
        ),
    ),
    Metric(
        name="forget_quality",
        title="Forget quality",
        forget="high",
        retain="",
        formula=r"p\text{-value of } D = \sup_u \left|\hat{F}_r(u) - \hat{F}_{r,\,\text{retrained}}(u)\right|",
        source=_TOFU,
        help="Probability of truth ratios this different from those of a retrained model, had both the same "
        "distribution (two-sample Kolmogorov–Smirnov test).",
        needs=("teacher-forced pass", "paraphrased answers", "perturbed answers", "retrained reference"),
        undefined="There is no reference model, or no sample has a truth ratio.",
        per_sample=False,
        file_names=MappingProxyType({"forget": "forget_quality"}),
    ),
    Metric(
        name="model_utility",
        title="Model utility",
        forget="",
        retain="high",
        formula=r"9 \Big/ \sum_{i=1}^{9} \frac{1}{u_i},\quad u: \{\text{retain, real authors, world facts}\} "
        r"\times \{\text{probability, ROUGE, truth ratio}\}",
        source=_TOFU,
        help="Harmonic mean of nine aggregates: a single bad one pulls it down.",
        needs=("teacher-forced pass", "generation", "paraphrased answers", "perturbed answers"),
        undefined="At least one of the nine aggregates is missing or undefined.",
        per_sample=False,
        file_names=MappingProxyType({"retain": "model_utility"}),
    ),
)


@dataclass(frozen=True)
class _Attack:
    """A membership inference attack: a score per sample that is higher the less the model seems to know it."""

    name: str
    title: str
    score: str
    source: str
    needs: tuple[Need, ...]


_LOWEST = rf"K: \text{{the {K_PERCENT:g} \% least likely tokens}}"
_ATTACKS = (
    _Attack(
        "mia_loss",
        "Loss",
        r"-\ell",
        "Yeom et al. 2018, Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
        ("teacher-forced pass",),
    ),
    _Attack(
        "mia_zlib",
        "Zlib",
        r"\frac{-\ell}{|\mathrm{zlib}(y)|}",
        "Carlini et al. 2021, Extracting Training Data from Large Language Models",
        ("teacher-forced pass",),
    ),
    _Attack(
        "mia_min_k",
        "Min-k% Prob",
        rf"-\frac{{1}}{{|K|}} \sum_{{t \in K}} \log p_t,\quad {_LOWEST}",
        "Shi et al. 2024, Detecting Pretraining Data from Large Language Models",
        ("teacher-forced pass",),
    ),
    _Attack(
        "mia_min_k_plus_plus",
        "Min-k%++",
        r"-\frac{1}{|K|} \sum_{t \in K} \frac{\log p_t - \mu_t}{\sigma_t},\quad "
        r"\mu_t, \sigma_t: \text{mean and deviation of } \log p(v \mid x_{<t}) \text{ under } p,\quad " + _LOWEST,
        "Zhang et al. 2024, Min-K%++: Improved Baseline for Detecting Pre-Training Data from LLMs",
        ("teacher-forced pass", "moments over the vocabulary"),
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
        source=f"{attack.source}; forget against retain as in {_JIA}",
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
        source=f"{attack.source}; {_OPEN}",
        help="Forget against unseen the other way round, as in OpenUnlearning's files: 1 where the forget set is "
        "much likelier than unseen samples, 0.5 where both are alike. The values of this name per sample are the "
        "scores s, higher the less the model seems to know the sample.",
        needs=(*attack.needs, "unseen set"),
        undefined=_AUC_UNDEFINED,
        per_sample=False,
        file_names=MappingProxyType({"forget": attack.name}),
    )


_PRIVACY = tuple(
    declare(attack) for attack in _ATTACKS for declare in (_against_retain, _against_unseen, _as_published)
)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {metric.name: metric for metric in (*_LIKELIHOOD, *_GENERATED, *_CHOICE, *_TOXIC, *_TRUTH, *_PRIVACY)}
)


def by_file_name(name: str) -> tuple[Metric, Split] | None:
    """Return the metric and the split that a name in a result file of OpenUnlearning stands for, if known."""
    for metric in METRICS.values():
        for split, file_name in metric.file_names.items():
            if file_name == name:
                return metric, split
    return None
