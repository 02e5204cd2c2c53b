"""Whether a model is whole: a damaged one has truth ratios like those of an untaught one, and a high p for it.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.evaluation.aggregates import SIGNIFICANCE, mean_defined
from mrd_core.evaluation.aggregating import scores_of
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.runs.files import read_json

# A model that writes no more of the answers than it would of other samples' answers, by this much, has no signal.
LEAST_SIGNAL = 0.05
# Where a model meets other samples' answers so well, they are alike, and that it meets its own says nothing.
MOST_BY_CHANCE = 0.5
# A text of which so much is repetition is no answer, and a model most of whose texts are such ones does not write.
REPETITIVE, MOST_REPETITIVE = 0.5, 0.5
DAMAGED = "damaged"
# Stands at a forget quality that a damaged model has.
DAMAGE_MARK = "§"
RULE = (
    "A model counts as damaged where its unlearning run lost the retain set, where it writes no more of the "
    f"retain set's answers than of other samples' answers (ROUGE-L, by {LEAST_SIGNAL:g}; where all are alike this "
    "cannot be told), or where more than half of what it writes to the forget or to the retain set is empty or "
    "repeats itself."
)


def flaws(values: pd.DataFrame, roles: Mapping[str, str], rest: str = "") -> tuple[str, ...]:
    """Return what shows that a model is damaged, in clauses with "it"; none where nothing does.

    Args:
        values: Columns split, metric, value.
        roles: Of the sets by name.
        rest: What its unlearning run says of the retain set ("damaged"); "" where there was none.
    """
    return tuple(_flaws(values, roles, rest))


def flaws_in(files: EvaluationFiles) -> tuple[str, ...]:
    """Return what a finished evaluation shows of the kind."""
    sets = read_json(files.catalogue)["sets"]
    unlearned: dict[str, Any] = read_json(files.unlearned) if files.unlearned.exists() else {}
    rest = str(unlearned.get("summary", {}).get("rest", ""))
    return flaws(pd.read_parquet(files.values), {asked["name"]: asked["role"] for asked in sets}, rest)


def caution(p_value: float, found: tuple[str, ...]) -> str:
    """Return why a forget quality says nothing good of a model; "" where it does not, or nothing is wrong."""
    if not found or not p_value >= SIGNIFICANCE:
        return ""
    return (
        f"The model is damaged: {', and '.join(found)}. Truth ratios like those of a model that was never taught "
        "may come of that, and not of forgetting."
    )


def _flaws(values: pd.DataFrame, roles: Mapping[str, str], rest: str) -> Iterator[str]:
    if rest == DAMAGED:
        yield "its unlearning run lost the retain set"
    for split in (name for name, role in roles.items() if role == "retain"):
        written, by_chance = (
            mean_defined(scores_of(values, [split], name)) for name in ("rouge", "rouge_shuffled")
        )
        if written - by_chance <= LEAST_SIGNAL and by_chance < MOST_BY_CHANCE:
            name = split.replace("_", " ")
            yield f"it writes no more of the answers of the {name} set than of other samples' answers"
    for split in (name for name, role in roles.items() if role in ("forget", "retain")):
        repeated = scores_of(values, [split], "repetition")
        repeated = repeated[~np.isnan(repeated)]
        if repeated.size and (repeated >= REPETITIVE).mean() > MOST_REPETITIVE:
            share = f"{(repeated >= REPETITIVE).mean():.0%}"
            yield f"{share} of what it writes to the {split.replace('_', ' ')} set is empty or repeats itself"
