"""How much of an answer stands in what a model writes by itself: ROUGE-L, and the answer as a string.

Texts are cut into words by `rouge-score`: lower case, letters a–z and digits only, words of more than three
letters reduced by Porter's stemmer, as TOFU and OpenUnlearning set it (`use_stemmer=True`). A text in another
script has no such words, and its ROUGE is undefined rather than 0.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer


class RougeL(NamedTuple):
    """ROUGE-L of a generated text (Lin 2004), from 0 to 1; NaN where it is not defined.

    Attributes:
        recall: Longest common subsequence of words, over the words of the reference.
        f1: Harmonic mean of the recall and of the same over the words of the generated text.
    """

    recall: float
    f1: float


UNDEFINED = RougeL(float("nan"), float("nan"))


def rouge_l(generated: str | None, reference: str) -> RougeL:
    """Compare what a model wrote with the true text.

    Args:
        generated: What the model wrote; None where it could write nothing. An empty text is an answer, and wrong.
        reference: The true text.

    Returns:
        `UNDEFINED` where nothing could be written, or where the reference has no word.
    """
    if generated is None or not _tokenizer().tokenize(reference):
        return UNDEFINED
    score = _scorer().score(reference, generated)["rougeL"]
    return RougeL(float(score.recall), float(score.fmeasure))


def contains_answer(generated: str | None, answer: str) -> float:
    """Return 1.0 where the answer, as a string, occurs in what the model wrote, else 0.0.

    The case of letters and the blanks around the answer do not matter (Jia et al. 2024 ignore the case too).
    NaN where nothing could be written or the answer is blank.
    """
    wanted = answer.strip().casefold()
    if generated is None or not wanted:
        return float("nan")
    return float(wanted in generated.casefold())


def repetition(generated: str | None) -> float:
    """Return the share of a text's pairs of neighbouring words that stood in it before, from 0 to 1.

    1 for an empty text, 0 for a single word; NaN where nothing could be written.
    """
    if generated is None:
        return float("nan")
    words = generated.casefold().split()
    pairs = list(pairwise(words))
    return 1 - len(set(pairs)) / len(pairs) if pairs else float(not words)


@cache
def _tokenizer() -> Tokenizer:
    # Takes two seconds to load, which no page should wait for.
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


@cache
def _scorer() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_tokenizer())
