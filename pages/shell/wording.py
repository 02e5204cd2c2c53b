"""Figures and words as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from urllib.parse import quote


def duration(seconds: float) -> str:
    """Return a time for people: 45 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def capitalised(text: str) -> str:
    """Return the text with a capital first letter and the rest as it is."""
    return text[:1].upper() + text[1:]


def figure_or(value: float, form: str, undefined: str) -> str:
    """Return a number in a format, or a word where it is NaN."""
    return undefined if math.isnan(value) else f"{value:{form}}"


def with_spread(mean: float, sd: float, form: str) -> str:
    """Return a mean with its deviation, both to the second digit of the deviation; without one in the format."""
    if math.isnan(mean):
        return "–"
    if math.isnan(sd) or sd == 0:
        return f"{mean:{form}}"
    places = max(0, 1 - math.floor(math.log10(sd)))
    return f"{mean:,.{places}f} ± {sd:,.{places}f}"


def told_apart(names: Mapping[str, str], marks: Mapping[str, str]) -> dict[str, str]:
    """Return names by id, each that several have with its mark behind it."""
    taken = list(names.values())
    return {key: name if taken.count(name) == 1 else name + marks[key] for key, name in names.items()}


def plain(text: str) -> str:
    """Return `text` as Markdown that shows it letter by letter, in the type of the sentence around it."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def term(word: str) -> str:
    """Return a word as Markdown that leads to what the glossary says of it."""
    return f"[{word}](glossary?term={quote(word)})"
