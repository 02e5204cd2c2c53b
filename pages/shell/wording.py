"""Figures and words as people read them."""

from __future__ import annotations

import math


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
