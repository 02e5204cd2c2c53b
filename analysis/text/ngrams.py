"""What a word, a content word, an n-gram and a shingle are, for the features that compare whole texts.

A word is a run of letters and digits with its inner apostrophes, in lower case; punctuation, emoji and other
symbols are no words. In the scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer,
Burmese) every character is a word of its own, so that an n-gram there is one of characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property

import pandas as pd
import regex

from analysis.text.config import ReadingConfig
from mrd_core.errors import UserError
from mrd_core.samples.config import Scope

SHINGLE_WORDS = 5

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_SPACED = rf"(?:[[\p{{L}}\p{{N}}]--[{UNSPACED}]]\p{{M}}*)+"
_WORD = regex.compile(rf"[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*|{_SPACED}(?:'{_SPACED})*", regex.V1)


def normalised(text: str) -> str:
    """Return the text with case folded, Unicode composed (NFC), straight apostrophes and single spaces."""
    composed = unicodedata.normalize("NFC", text.casefold())
    return " ".join(composed.replace("’", "'").replace("‘", "'").split())


def words(text: str) -> list[str]:
    """Return the words of a text in order, normalised."""
    return [match.group() for match in _WORD.finditer(normalised(text))]


def ngrams(sequence: Sequence[str], n: int) -> list[str]:
    """Return the runs of `n` words in order, each joined by spaces; none where there are fewer words."""
    return [" ".join(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]


def shingles(text: str) -> frozenset[str]:
    """Return the word 5-grams of a text (Lee et al. 2022); a shorter text is one shingle.

    A text without a word (empty, or emoji alone) is one shingle too, its normalised self.
    """
    sequence = words(text)
    if len(sequence) < SHINGLE_WORDS:
        return frozenset({" ".join(sequence) or normalised(text)})
    return frozenset(ngrams(sequence, SHINGLE_WORDS))


def jaccard(one: Set[str], other: Set[str]) -> float:
    """Return |A ∩ B| / |A ∪ B| of two sets that are not both empty."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


@dataclass(frozen=True)
class StopWords:
    """The function words of a language, normalised, with clitics such as `n't` and `l'` among them."""

    words: frozenset[str]

    @classmethod
    @cache
    def of_language(cls, language: str) -> StopWords:
        """Return spaCy's stop words of a language.

        Args:
            language: ISO 639-1 code.

        Raises:
            UserError: spaCy does not know the language.
        """
        # spaCy loads torch, and pages read this module.
        from spacy.util import get_lang_class

        try:
            listed = get_lang_class(language).Defaults.stop_words
        except ImportError as error:
            raise UserError(
                f"Language {language}",
                "is none that spaCy has stop words of.",
                "Set the language of the texts, as an ISO 639-1 code such as en.",
            ) from error
        return cls(frozenset(map(normalised, listed)))

    @cached_property
    def _clitics(self) -> regex.Pattern[str]:
        """What a content word sheds: clitics that end in an apostrophe go before it, all others after it."""
        clitics = [regex.escape(word) for word in sorted(self.words, key=len, reverse=True) if "'" in word]
        before = "|".join(clitic for clitic in clitics if clitic.endswith("'"))
        after = "|".join(clitic for clitic in clitics if not clitic.endswith("'"))
        return regex.compile(rf"^(?:{before})|(?:{after})+$")

    def content_words(self, text: str) -> list[str]:
        """Return the words of a text, shorn of clitics, that are no stop words."""
        stems = (self._clitics.sub("", word) if "'" in word else word for word in words(text))
        return [stem for stem in stems if stem and stem not in self.words]


def content_ngrams(rows: pd.DataFrame, settings: ReadingConfig, scope: Scope) -> Iterator[list[str]]:
    """Yield the n-grams of each row's content words, `settings.ngram` words long, stop words passed over.

    Args:
        rows: Columns prompt and answer.
        settings: The language, and the length of an n-gram.
        scope: The answers, or prompts and answers; no n-gram reaches from a prompt into its answer.

    Raises:
        UserError: spaCy has no stop words of the language.
    """
    stop_words = StopWords.of_language(settings.language)
    columns = ["answer"] if scope is Scope.ANSWER else ["prompt", "answer"]
    for parts in rows[columns].itertuples(index=False):
        yield [gram for part in parts for gram in ngrams(stop_words.content_words(part), settings.ngram)]
