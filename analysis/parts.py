"""What a sample's MRD is made of, in words: why it is hard or easy, as far as the draws allow to say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mrd_core.scoring.measures import KNOWN

# Two-sided 95 % of the normal distribution.
WIDE = 1.96
# A few tokens are said to carry a part when they are at most so many and carry at least this share of it.
FEW_TOKENS, SHARE = 3, 0.5

# For people: a part, what it does when it is large, and when it is small.
WORDS = {
    "speed": ("speed", "moves fast", "moves slowly"),
    "spread": ("spread", "has competitors that move apart", "has competitors that move together"),
    "curvature": ("curvature", "lies where the network bends", "lies where the network is straight"),
}
NUMBERS = {1: "one token carries", 2: "two tokens carry", 3: "three tokens carry"}


@dataclass(frozen=True)
class Carriers:
    """The few tokens that carry most of a part of a sample's MRD.

    Attributes:
        tokens: Their texts, the strongest first.
        share: Their share of the part; low and high its 95 % interval.
    """

    tokens: tuple[str, ...]
    share: float
    low: float
    high: float


def sentence(row: pd.Series, table: pd.DataFrame, tokens: pd.DataFrame) -> str | None:
    """Say which part of MRD sets a sample apart from the median of its run, and which tokens carry that part.

    Of a sample that the model does not know it says that instead.

    Args:
        row: The sample: speed, spread and curvature, each with its standard error; exact_memorization where known.
        table: All samples of the run, in the same columns.
        tokens: The sample's tokens in scope: piece, and each part with its standard error.

    Returns:
        None where no part differs from the median by more than its 95 % interval, and for runs without parts.
    """
    known = row.get("exact_memorization", np.nan)
    if known < KNOWN:
        return (
            f"Not known: {known:.0%} of the answer's tokens are the model's first choice. There is nothing to "
            "forget, and a small MRD does not make it hard."
        )
    part, ratio, low, high = _outstanding(row, table)
    if part is None:
        return None
    name, fast, slow = WORDS[part]
    verdict, manner = ("Easy", fast) if ratio > 1 else ("Hard", slow)
    text = (
        f"{verdict}, as far as its {name} goes: it {manner}, with {ratio:.2g} [{low:.2g}, {high:.2g}] times the "
        f"median {name} of the run"
    )
    few = carriers(tokens, part)
    if few is not None:
        names = ", ".join(f"“{token.strip()}”" for token in few.tokens)
        text += f"; {NUMBERS[len(few.tokens)]} {few.share:.0%} [{few.low:.0%}, {few.high:.0%}] of it ({names})"
    return text + "."


def carriers(tokens: pd.DataFrame, part: str) -> Carriers | None:
    """Return the fewest tokens that carry half of a part; None where they are many, or where it cannot be told.

    Args:
        tokens: piece, the part and its standard error (`_se`) of each token in scope.
        part: "speed", "spread" or "curvature".
    """
    if part not in tokens:
        # A preview knows the parts of whole samples alone.
        return None
    values = tokens[[part, f"{part}_se", "piece"]].dropna().sort_values(part, ascending=False)
    total = float(values[part].sum())
    if len(values) <= FEW_TOKENS or total <= 0:
        return None
    share = values[part].cumsum() / total
    count = int((share < SHARE).sum()) + 1
    if count > FEW_TOKENS:
        return None
    first, rest = values.iloc[:count], values.iloc[count:]
    # With a the chosen tokens' sum and b that of the others, a/(a + b) has the derivatives b/total² and −a/total².
    a, b = float(first[part].sum()), float(rest[part].sum())
    of_first, of_rest = (float((group[f"{part}_se"] ** 2).sum()) for group in (first, rest))
    error = np.sqrt(b**2 * of_first + a**2 * of_rest) / total**2
    low, high = a / total - WIDE * error, a / total + WIDE * error
    # The strongest were chosen by the same draws: half of the part must be theirs beyond that doubt.
    if not (np.isfinite(error) and high - low < a / total):
        return None
    return Carriers(tuple(first["piece"]), a / total, max(0.0, low), min(1.0, high))


def _outstanding(row: pd.Series, table: pd.DataFrame) -> tuple[str | None, float, float, float]:
    """Return the part that is farthest from the run's median, in orders of size, with its ratio and interval."""
    best: tuple[str | None, float, float, float] = (None, 1.0, 1.0, 1.0)
    for part in WORDS:
        median = float(table[part].median()) if part in table else float("nan")
        value, error = (float(row[name]) for name in (part, f"{part}_se")) if part in row else (np.nan, np.nan)
        if not (np.isfinite([median, value, error]).all() and median > 0 and value > 0):
            continue
        ratio, half = value / median, WIDE * error / median
        low, high = max(0.0, ratio - half), ratio + half
        told = not low <= 1 <= high
        if told and abs(np.log(ratio)) > abs(np.log(best[1])):
            best = (part, ratio, low, high)
    return best
