"""The two ends of a ranking: the hardest samples against the easiest, and what each end shares."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from scipy.stats import mannwhitneyu

from analysis.difficulty import measures_in
from mrd_core.scoring.measures import PART_MEASURES

# Samples of each end; of fewer than four times as many a quarter.
AT_AN_END = 10
# A measure tells the ends apart from this Cliff's δ on: three of four pairs are in order.
APART = 0.5
MOST_MEASURES = 5
# A word is of an end where at least half of its texts have it, and at most a fifth of the other's.
COMMON, RARE = 0.5, 0.2
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Contrast:
    """The ends of a ranking.

    Attributes:
        hardest: Its first samples, the hardest first.
        easiest: Its last ones, the easiest first.
        measures: Which tell the ends apart, the clearest first: measure (its title), median of each end (hardest,
            easiest) and Cliff's δ (1: every hard sample has more of it than every easy one).
        words: Which most answers of an end and few of the other have, by end: hardest, easiest.
    """

    hardest: pd.DataFrame
    easiest: pd.DataFrame
    measures: pd.DataFrame
    words: dict[str, list[str]]


def contrast(table: pd.DataFrame) -> Contrast | None:
    """Return the ends of a ranking; None where there are too few samples for two.

    Args:
        table: See `analysis.difficulty.ranking`.
    """
    ranked = table.dropna(subset=["mrd"]).sort_values("mrd")
    count = min(AT_AN_END, len(ranked) // 4)
    if not count:
        return None
    hardest, easiest = ranked.head(count), ranked.tail(count).iloc[::-1]
    titles = {"n_tokens": "Tokens"} | {
        # What MRD is made of tells its ends apart in any case.
        measure.name: measure.title
        for measure in measures_in(table)
        if measure.name not in PART_MEASURES
    }
    rows = [
        (title, hardest[name].median(), easiest[name].median(), cliffs_delta(hardest[name], easiest[name]))
        for name, title in titles.items()
    ]
    measures = pd.DataFrame(rows, columns=["measure", "hardest", "easiest", "delta"])
    measures = measures[measures["delta"].abs() >= APART].sort_values(
        "delta", key=abs, ascending=False, kind="stable"
    )
    sides = {"hardest": (hardest, easiest), "easiest": (easiest, hardest)}
    words = {end: words_of(own["answer"], other["answer"]) for end, (own, other) in sides.items()}
    return Contrast(hardest, easiest, measures.head(MOST_MEASURES).reset_index(drop=True), words)


def cliffs_delta(first: pd.Series[float], second: pd.Series[float]) -> float:
    """Return how often a value of the first is above one of the second, less how often below; NaN without any."""
    first, second = first.dropna(), second.dropna()
    pairs = len(first) * len(second)
    return float(2 * mannwhitneyu(first, second).statistic / pairs - 1) if pairs else float("nan")


def words_of(texts: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the words that most of some texts and few of the others have, the most common first."""
    own, foreign = _shares(texts), _shares(others)
    common = [word for word, share in own.items() if share >= COMMON and foreign.get(word, 0.0) <= RARE]
    return sorted(common, key=lambda word: (-own[word], word))


def _shares(texts: Iterable[str]) -> dict[str, float]:
    """Return in which share of the texts each word stands."""
    sets = [set(_WORD.findall(text.lower())) for text in texts]
    counts = Counter(word for words in sets for word in words)
    return {word: count / len(sets) for word, count in counts.items()}
