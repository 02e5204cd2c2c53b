"""Who got the gradient: which third of the difficulty took the updates of a run, and how much of its steps.

A step has a length that optimiser and clipping give it, whatever the gradient's norm; so of each measured step it
is asked how it was shared out among the samples that it trained on, and every step counts the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.difficulty import NO_MRD, TERCILES
from analysis.unlearning.runs import by_difficulty, t_interval, told_apart
from mrd_core.scoring.columns import MRD_ANSWER_MEAN, MRD_TITLES
from mrd_core.unlearning.files import GRADIENT_NORMS
from mrd_core.unlearning.sampling import WITHOUT_SCORES

# Of the curriculum: what an order goes by that is no MRD. Its thirds are not said to be hard or easy.
WEIGHT = "weight"
THIRDS = ("low", "middle third", "high")
SHARES = ("updates", "gradient")


def column_of(sampler: str, column: str) -> str:
    """Return the column of the curriculum by which a run's samples are put into thirds.

    It is what the order goes by; where it needs none, MRD by the mean over the answer.
    """
    if sampler in WITHOUT_SCORES:
        return MRD_ANSWER_MEAN
    return column if column in MRD_TITLES else WEIGHT


def by_tercile(curriculum: pd.DataFrame, steps: Iterable[Mapping[str, Any]], column: str) -> pd.DataFrame:
    """Return how the updates and the gradient of a run were shared out, one row a third, small values first.

    Columns: tercile (hard, middle, easy; of a column that is no MRD low, middle third, high; undefined for samples
    without a value), samples, even (their share of the samples), updates (share of the updates), gradient (share
    of the gradient norms of a step, mean over the steps that were measured; NaN where none was).

    Args:
        curriculum: `curriculum.parquet`.
        steps: Lines of `steps.jsonl`; those of earlier versions have no norms.
        column: Of the curriculum, see `column_of`.

    Raises:
        UserError: The curriculum has no such column.
    """
    thirds = by_difficulty(curriculum, column).set_index("sample_id")["tercile"]
    third_of, counts = dict(thirds.items()), thirds.value_counts()
    updates, gradient, measured = Counter[str](), dict.fromkeys((*TERCILES, NO_MRD), 0.0), 0
    for step in steps:
        of_draws = [third_of[sample] for sample in step["forget"]]
        updates.update(third for third, trained in zip(of_draws, step["trained"], strict=True) if trained)
        norms = [norm or 0.0 for norm in step.get(GRADIENT_NORMS, ())]
        if (whole := sum(norms)) > 0:
            measured += 1
            for third, norm in zip(of_draws, norms, strict=True):
                gradient[third] += norm / whole
    titles = dict(zip(TERCILES, THIRDS, strict=True)) if column == WEIGHT else {}
    rows = [
        {
            "tercile": titles.get(third, third),
            "samples": int(counts[third]),
            "even": counts[third] / len(thirds),
            "updates": updates[third] / max(updates.total(), 1),
            "gradient": gradient[third] / measured if measured else np.nan,
        }
        for third in (*TERCILES, NO_MRD)
        if third in counts.index
    ]
    return pd.DataFrame(rows)


def over_seeds(runs: pd.DataFrame, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the shares of each setting over its seeds, one row a setting and third.

    Columns: label (see `told_apart`), tercile, even (its share of the samples, mean), and of each of `SHARES` the
    mean, under its name, with the ends of its 95 % t interval over the seeds, `<name>_low` and `<name>_high` (NaN
    with one seed), and how many have it, `<name>_seeds`. A seed that was run twice counts once, as run last; a
    run without norms counts for updates alone.

    Args:
        runs: A row a run, oldest first: label, sampler, column, setting, seed.
        tables: `by_tercile` of each.
    """
    if runs.empty:
        return pd.DataFrame(columns=["label", "tercile", "even", *SHARES])
    labels = zip(told_apart(runs), runs["seed"], strict=True)
    once = {key: table.assign(label=key[0]) for key, table in zip(labels, tables, strict=True)}
    rows = []
    for (label, tercile), of_third in pd.concat(once.values()).groupby(["label", "tercile"], sort=False):
        row: dict[str, Any] = {"label": label, "tercile": tercile, "even": of_third["even"].mean()}
        for name in SHARES:
            values = of_third[name].dropna().to_numpy(np.float64)
            row |= t_interval(values).columns(name, f"{name}_") | {f"{name}_seeds": len(values)}
        rows.append(row)
    return pd.DataFrame(rows)
