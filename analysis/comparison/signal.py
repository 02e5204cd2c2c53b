"""Where a baseline has something to lose: it does better than one who knows nothing of a set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.comparison.columns import COMPLETENESS, UTILITY, Declared, Side
from analysis.comparison.evaluated import CHANCE
from analysis.comparison.replicates import View, limits
from mrd_core.evaluation.soundness import LEAST_SIGNAL


@dataclass(frozen=True)
class _Level:
    """What a metric is of one who knows nothing.

    Attributes:
        metric: What is held against it.
        by_chance: The same of one who knows nothing, sample by sample.
        sides: Of the columns that say nothing where the baseline does no better.
        more: What a model does that knows something, in a clause.
    """

    metric: str
    by_chance: str
    sides: tuple[Side, ...]
    more: str


_LEVELS = (
    _Level(
        "rouge",
        "rouge_shuffled",
        (UTILITY,),
        "writes more of the answers there than of other samples’ answers (ROUGE-L, ",
    ),
    # What a model guesses it cannot forget, either.
    _Level(
        "multiple_choice",
        CHANCE,
        (COMPLETENESS, UTILITY),
        "chooses rightly there more often than one who guesses (",
    ),
)


def without_signal(
    declarations: Iterable[Declared], baselines: Sequence[View]
) -> tuple[list[Declared], list[str]]:
    """Mark the columns of sets in which it is not certain that the baseline knows anything.

    Args:
        declarations: The columns.
        baselines: Of the runs of the baseline.

    Returns:
        The columns, and what a reader must know, in sentences.
    """
    found, notes = list(declarations), []
    for level in _LEVELS:
        compared = {each.column.split for each in found if each.column.side in level.sides}
        quiet = {split for split in compared if _is_quiet(split, level, baselines)}
        found = [
            replace(each, column=replace(each.column, signal=False))
            if each.column.side in level.sides and each.column.split in quiet
            else each
            for each in found
        ]
        if quiet:
            notes.append(
                f"No signal in {', '.join(sorted(quiet))}: it is not certain that the baseline {level.more}"
                f"by {LEAST_SIGNAL:g}). These columns are in no mean."
            )
    return found, notes


def _is_quiet(split: str, level: _Level, baselines: Sequence[View]) -> bool:
    """Tell whether the baseline may know nothing of a set; one of which that cannot be told is not quiet."""
    gains, sizes, known, by_chance = [], [], (split, level.metric), (split, level.by_chance)
    for view in baselines:
        if view.defined(known) and view.defined(by_chance):
            gains.append(view.mean(known) - view.mean(by_chance))
            sizes.append(min(view.defined(known), view.defined(by_chance)))
    return bool(gains) and limits(np.mean(gains, axis=0), min(sizes)).low <= LEAST_SIGNAL
