"""What a metric declares: what it is, where it is from, what it needs, which end is good, and its value.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from mrd_core.arrays import FloatArray
from mrd_core.evaluation.config import K_PERCENT
from mrd_core.evaluation.overlap import RougeL, rouge_l

# The end that is good; "half" is 0.5, where two sets cannot be told apart, "zero" is 0, where two models cannot;
# "" where it is not taken.
Direction = Literal["low", "high", "half", "zero", ""]
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
    "embedding model",
]
# Why the test of two sets is undefined, see `mrd_core.evaluation.aggregates.can_differ`.
TOO_FEW = (
    "the samples are so few that even two sets without overlap would not differ significantly (p ≥ 0.05; up to "
    "three on each side)"
)


@dataclass(frozen=True)
class Answer:
    """What a model makes of a question whose answer is known.

    Attributes:
        log_probs: log p of each of the n answer tokens, EOS included [nats], shape (n,).
        means: Means of log p over the vocabulary at each of them [nats], shape (n,).
        variances: Variances of it [nats²], shape (n,).
        true: The known answer.
        written: What the model writes; None where it can write nothing, and before it is asked to.
        k_percent: Share of the least likely tokens that Min-k% looks at [%].
    """

    log_probs: FloatArray
    means: FloatArray
    variances: FloatArray
    true: str
    written: str | None
    k_percent: float = K_PERCENT

    @cached_property
    def rouge(self) -> RougeL:
        """ROUGE-L of what is written against the known answer."""
        return rouge_l(self.written, self.true)


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
        of: Value of one answer, NaN where it is undefined; None for a metric that is made of other things, such as
            wrong answers, several samples or a set.
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
    of: Callable[[Answer], float] | None = None

    @property
    def is_of_text(self) -> bool:
        """Whether its value takes what the model writes."""
        return "generation" in self.needs


NOTATION = (
    r"p_t = p(x_t \mid x_{<t}; \theta),\quad S: \text{answer tokens, EOS included},\quad n = |S|,"
    r"\quad \ell = \frac{1}{n} \sum_{t \in S} \log p_t,\quad y: \text{answer},\quad \tilde{y}: \text{paraphrased},"
    r"\quad \hat{y}_1 \dots \hat{y}_A: \text{perturbed},\quad g: \text{generated},\quad s: \text{score per sample}"
)

# Sources and reasons that several metrics share.
TOFU = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs"
OPEN = "Dorna et al. 2025, OpenUnlearning"
LIN = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries"
JIA = "Jia et al. 2024, SOUL: Unlocking the Power of Second-Order Optimization for LLM Unlearning"
NO_TOKEN = "No token of the answer lies within the context of the model."
NO_TEXT = (
    "The model could write nothing (no prompt, or no room within the context), or the answer has no word of the "
    "letters a–z and digits, which is all that ROUGE sees."
)
