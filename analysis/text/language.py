"""Whether a text is written in the language that the pipeline reads.

Judged from the cheap to the dear: its script, its stop words, lingua's statistics of three letters, and, only for
what is then still open, all its letter statistics, which take seconds and half a gigabyte to load. What cannot be
told is not foreign: names, numbers, emoji and code belong to no other language.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from mrd_core.errors import UserError

if TYPE_CHECKING:
    from lingua import LanguageDetector

# The beginning of a text tells its language, and lingua's time grows with what it is given.
LOOKED_AT = 2_000
FEWEST_WORDS = 3
STOP_WORD_SHARE = 0.3
# Below this confidence a language is ruled out.
RULED_OUT = 0.05
# From this confidence by three letters on, a text without the stop words of a likelier language is kept: of open
# fragments of English 19 in 20, and of those that are surely in one of 17 other languages one in a hundred.
KEPT = 0.1
# From this confidence on a text in another script is called by its language, below by the script alone.
NAMED = 0.5
# Few, because each takes memory and blurs its relatives; lingua loads only those of the scripts that it meets.
CANDIDATES = frozenset(
    {"ca", "da", "de", "en", "es", "fi", "fr", "hr", "it", "lt", "nb", "nl", "pl", "pt", "ro", "sl", "sv", "tr"}
    | {"ar", "bg", "el", "fa", "he", "hi", "ja", "ko", "mk", "ru", "th", "uk", "zh"}
)
# Scripts that a language is written in although its stop words are not.
MORE_SCRIPTS = {"ja": {"CJK", "KATAKANA"}, "ko": {"CJK"}, "sr": {"LATIN"}}

# Kana and Han are written without spaces, about two characters to a word.
UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{1,2})")
# What stands at the edges of words in prose, and what stands inside the tokens of code.
EDGES = "\"'“”‘’«»„¿¡()[].,;:!?—–…-"
CODE = re.compile(r"[][{}()<>=|\\/_$#;+*&^~]")
CODE_SHARE = 0.1


class Detector:
    """Notices texts in another language.

    Attributes:
        language: ISO 639-1 code of the expected language.
        method: How texts are judged, for people; says what is left out where lingua does not know the language.
    """

    def __init__(self, language: str) -> None:
        """Prepare for texts in `language`; loads no models.

        Raises:
            UserError: spaCy does not know the language.
        """
        self.language = language
        self._scripts = _scripts(language)
        self._known = language in _known_to_lingua()
        by_all = "by script, stop words and the letter statistics of lingua"
        self.method = by_all if self._known else f"by script alone: lingua does not know “{language}”"

    def foreign(self, text: str) -> str | None:
        """Return the language of a text that is surely not in the expected one, else None.

        It is an ISO 639-1 code, or the name of the script ("Cyrillic") where no more is sure, and is judged by the
        first 2,000 characters. A text in another script is foreign at once. In the same script it takes at least
        three different words that are not capitalised; code is taken to have none.
        """
        # Formulas and full-width letters are compatibility forms of plain ones.
        head = unicodedata.normalize("NFKC", text[:LOOKED_AT])
        words, scripts = _words(head), Counter(map(_script, filter(str.isalpha, head)))
        few = len(set(words)) < FEWEST_WORDS
        if 2 * sum(scripts[script] for script in self._scripts) >= scripts.total():
            if not self._known or few or _has_stop_words(words, self.language):
                return None
            if self._is_kept(words):
                return None
            confidences, likeliest = _confidences(" ".join(words), self.language)
            ruled_out = confidences[self.language] < RULED_OUT
            surely_other = likeliest != self.language and _has_stop_words(words, likeliest)
            return likeliest if ruled_out or surely_other else None
        script = scripts.most_common(1)[0][0]
        # Texts in every script hold names and code in Latin letters.
        if script == "LATIN" and few:
            return None
        confidences, likeliest = _confidences(head, self.language)
        return likeliest if confidences[likeliest] >= NAMED else script.title()

    def _is_kept(self, words: list[str]) -> bool:
        """Return whether three letters at a time show that words are not surely in another language."""
        confidences, _ = _confidences(" ".join(words), self.language, quick=True)
        likely = {each for each, confidence in confidences.items() if confidence >= RULED_OUT} - {self.language}
        return confidences[self.language] >= KEPT and not any(_has_stop_words(words, each) for each in likely)


def _words(text: str) -> list[str]:
    """Return the words of a text but for capitalised ones; none where it is code.

    Names are written alike in all languages: “Alejandro Martínez is male.” is not Spanish.
    """
    tokens = [token.strip(EDGES) for token in UNSPACED.sub(r" \1 ", text).split()]
    if sum(map(bool, map(CODE.search, tokens))) >= CODE_SHARE * len(tokens):
        return []
    return [
        token
        for token in tokens
        if token
        and all(char in "'’-" or unicodedata.category(char)[0] in "LM" for char in token)
        and (token.isupper() or not token[0].isupper())
    ]


def _has_stop_words(words: list[str], language: str) -> bool:
    """Return whether enough of the words are stop words of a language to tell that they are in it."""
    stop_words = _stop_words(language)
    return sum(word.lower() in stop_words for word in words) >= STOP_WORD_SHARE * len(words)


@cache
def _script(letter: str) -> str:
    """Return the script of a letter as the first word of its Unicode name."""
    return unicodedata.name(letter, "UNKNOWN").split()[0]


@cache
def _stop_words(language: str) -> frozenset[str]:
    from spacy.util import get_lang_class

    try:
        return frozenset(get_lang_class(language).Defaults.stop_words)
    except ImportError as error:
        raise UserError(
            f"Language “{language}”",
            "is not one that spaCy knows.",
            "Give the ISO 639-1 code of a language, such as en or de.",
        ) from error


def _scripts(language: str) -> set[str]:
    """Return the scripts of a language: those of its stop words but for strays, Latin where it has none."""
    letters = Counter(_script(letter) for word in _stop_words(language) for letter in word if letter.isalpha())
    scripts = {script for script, count in letters.items() if count >= 0.02 * letters.total()}
    return (scripts or {"LATIN"}) | MORE_SCRIPTS.get(language, set())


def _known_to_lingua() -> frozenset[str]:
    from lingua import Language

    return frozenset(language.iso_code_639_1.name.lower() for language in Language.all())


def _confidences(text: str, language: str, *, quick: bool = False) -> tuple[dict[str, float], str]:
    """Return the confidence in each candidate and in `language` where lingua knows it, and the likeliest.

    The sum is 1 or 0.
    """
    values = _lingua(language, quick).compute_language_confidence_values(text)
    confidences = {value.language.iso_code_639_1.name.lower(): value.value for value in values}
    return confidences, max(confidences, key=confidences.__getitem__)


@cache
def _lingua(language: str, quick: bool) -> LanguageDetector:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = (CANDIDATES | {language}) & _known_to_lingua()
    builder = LanguageDetectorBuilder.from_iso_codes_639_1(*(IsoCode639_1.from_str(code) for code in codes))
    return (builder.with_low_accuracy_mode() if quick else builder).build()
