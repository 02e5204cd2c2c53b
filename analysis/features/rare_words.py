"""Rare words: the words outside the most frequent ones of the language."""

from __future__ import annotations

import unicodedata
from collections.abc import Set
from string import punctuation
from typing import TYPE_CHECKING

from analysis.features.feature import Feature, Reading
from analysis.text.syntax import is_clitic
from mrd_core.errors import UserError

if TYPE_CHECKING:
    from spacy.tokens import Token


# Unicode's own, of which the one that does not break is a form; spaCy splits at the ASCII one alone.
_HYPHEN = "‐"


def rare_tokens(reading: Reading) -> list[Token]:
    """Return the rare words of a text in order, every occurrence of each.

    spaCy splits at hyphens and before the possessive, and each part is looked up by itself; clitics are no words.
    """
    rare = []
    for token in reading.words:
        passed_over = (
            is_clitic(token)
            or (reading.settings.names == "ignore" and token.pos_ == "PROPN")
            or (reading.settings.numbers == "ignore" and any(map(str.isdigit, token.text)))
        )
        if not passed_over and not _is_common(token, reading.common_words):
            rare.append(token)
    return rare


def _is_common(token: Token, common: Set[str]) -> bool:
    """Tell whether a word is in a list that has straight apostrophes, no ligatures and no hyphens."""
    folded = unicodedata.normalize("NFKC", token.lower_).replace("’", "'").replace("‘", "'")
    # It has "u.s" and "mr" without the last full stop, and "Mt." only as spaCy's norm of it, "Mount".
    spellings = {token.lower_, folded.strip(punctuation), folded, token.norm_.lower()}
    return bool(spellings & common) or set(folded.split(_HYPHEN)) <= common


def rare_words(reading: Reading) -> float:
    """Return how many words of the text are rare."""
    return float(len(rare_tokens(reading)))


def common_words(language: str, count: int) -> frozenset[str]:
    """Return the `count` most frequent words of `language` by `wordfreq`, in lower case; all if it has fewer.

    Numbers are not among them.

    Raises:
        UserError: wordfreq has no list for the language.
    """
    import wordfreq

    languages = sorted(wordfreq.available_languages())
    if language not in languages:
        raise UserError(
            f"The language {language!r}",
            "has no list of frequent words in wordfreq, so that no word can be called rare.",
            f"Choose one of {', '.join(languages)}.",
        )
    return frozenset(wordfreq.top_n_list(language, count))


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="rare_words",
        title="Rare words",
        unit="words",
        bins="counts",
        direction="more rare words",
        help="Words outside the most frequent ones of the language.",
        group="rare_words",
        of=rare_words,
    ),
)
