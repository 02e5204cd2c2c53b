"""Lexical diversity: how little a text repeats its words, by the indices of `lexicalrichness`.

A word is a token with a letter in it, in lower case. Numbers are none, and neither are clitics: "'s" is three
words in one spelling (is, has, the possessive), and its repetition says nothing of the vocabulary. A text of fewer
than two words has no diversity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from math import nan
from typing import TYPE_CHECKING

from analysis.features.feature import Feature, Reading, complexity
from analysis.text.syntax import is_clitic

if TYPE_CHECKING:
    from lexicalrichness import LexicalRichness

HDD_DRAWS = 42
MTLD_THRESHOLD = 0.72


def ttr(reading: Reading) -> float:
    """Return types / tokens (Templin 1957)."""
    return _index(reading, lambda text: text.ttr)


def corrected_ttr(reading: Reading) -> float:
    """Return types / √(2 · tokens) (Carroll 1964)."""
    return _index(reading, lambda text: text.cttr)


def mtld(reading: Reading) -> float:
    """Return the mean number of words that keep the type-token ratio above 0.72 (McCarthy & Jarvis 2010).

    Undefined unless the ratio falls that far at least once in either reading direction: before that the value is
    an extrapolation, and for a text that repeats nothing it is merely its length.
    """

    def defined(text: LexicalRichness) -> float:
        words: list[str] = text.wordlist
        complete = _completes_a_factor(words) and _completes_a_factor(reversed(words))
        return float(text.mtld(threshold=MTLD_THRESHOLD)) if complete else nan

    return _index(reading, defined)


def hdd(reading: Reading) -> float:
    """Return HD-D, the expected type-token ratio of 42 words drawn from the text (McCarthy & Jarvis 2007).

    Undefined below 42 words.
    """
    return _index(reading, lambda text: text.hdd(draws=HDD_DRAWS) if text.words >= HDD_DRAWS else nan)


@lru_cache(maxsize=1)
def _richness(reading: Reading) -> LexicalRichness | None:
    from lexicalrichness import LexicalRichness

    words = [token.lower_ for token in reading.words if any(map(str.isalpha, token.text)) and not is_clitic(token)]
    return LexicalRichness(words, preprocessor=None, tokenizer=None) if len(words) > 1 else None


def _index(reading: Reading, index: Callable[[LexicalRichness], float]) -> float:
    text = _richness(reading)
    return nan if text is None else float(index(text))


def _completes_a_factor(words: Iterable[str]) -> bool:
    seen: set[str] = set()
    for count, word in enumerate(words, start=1):
        seen.add(word)
        if len(seen) / count <= MTLD_THRESHOLD:
            return True
    return False


FEATURES: tuple[Feature, ...] = (
    complexity("ttr", "Type-token ratio", "", ttr, "Different words / words; falls with length."),
    complexity(
        "corrected_ttr", "Corrected type-token ratio", "", corrected_ttr, "Different words / √(2 · words)."
    ),
    complexity(
        "mtld",
        "MTLD",
        "words",
        mtld,
        "Mean run of words before the type-token ratio falls to 0.72; needs one run.",
    ),
    complexity("hdd", "HD-D", "", hdd, "Expected type-token ratio of 42 words drawn from the text."),
)
