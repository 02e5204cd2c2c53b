"""One forget set, scored several times: on other models, with other seeds. Do the rankings agree?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import difficulty
from analysis.difficulty import ScoredRun, Variant
from analysis.sets.different import differences
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.groups import spearman_between
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.draws import reliability
from mrd_core.scoring.files import ScoreFiles

TEXTS = ["sample_id", "prompt", "answer"]


class Pair(NamedTuple):
    """Two of the runs.

    Attributes:
        first: Place of the one.
        second: Place of the other.
        agreement: Spearman's correlation of their MRD.
        ceiling: What it would be on average if the samples were equally hard in both: √(r₁ r₂) of reliabilities.
        differing: What the runs differ in that MRD depends on, in words.
        same_seed: Whether both drew their noise from one seed, so that its errors are in part the same.
    """

    first: int
    second: int
    agreement: Estimate
    ceiling: float
    differing: tuple[str, ...]
    same_seed: bool


@dataclass(frozen=True, eq=False)
class SameSet:
    """A forget set in several runs.

    Attributes:
        table: A row per sample, the greatest change of rank first: sample_id, prompt, answer, mrd_0, rank_0 (1 =
            hardest), … for each run, and change (largest less smallest rank; of two runs rank_1 less rank_0).
        pairs: Every two of them.
    """

    table: pd.DataFrame
    pairs: tuple[Pair, ...]


def holds_one_set(directories: Sequence[Path]) -> bool:
    """Return whether score runs have the same samples with the same texts, in whatever order.

    Raises:
        UserError: A run has lost its samples, or is a preview.
    """
    sets = [_samples(_scored(directory)) for directory in directories]
    return all(sets[0].equals(other) for other in sets[1:])


def compared(directories: Sequence[Path], variant: Variant) -> SameSet:
    """Compare the rankings of one set by several score runs.

    Raises:
        UserError: A file of a run is gone, or one is a preview.
    """
    runs = [_scored(directory) for directory in directories]
    table = _samples(runs[0])
    measured = [difficulty.measured(run, variant, table["sample_id"]) for run in runs]
    reliabilities = [reliability(of.units) for of in measured]
    for place, of in enumerate(measured):
        table[f"mrd_{place}"] = of.mrd
        table[f"rank_{place}"] = table[f"mrd_{place}"].rank(method="first").astype("Int64")
    pairs = tuple(
        Pair(
            first,
            second,
            spearman_between(measured[first], measured[second]),
            ceiling(reliabilities[first], reliabilities[second]),
            tuple(differences(runs[first], runs[second]).values()),
            _seed(runs[first]) == _seed(runs[second]),
        )
        for first, second in combinations(range(len(runs)), 2)
    )
    ranks = table.filter(regex=r"^rank_")
    table["change"] = (
        table["rank_1"] - table["rank_0"] if len(runs) == 2 else ranks.max(axis=1) - ranks.min(axis=1)
    )
    order = table["change"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    return SameSet(table.loc[order].reset_index(drop=True), pairs)


def ceiling(first: float, second: float) -> float:
    """Return the correlation that the noise of the draws would leave of two rankings, from their reliabilities.

    Rankings of noise may have one below 0: nothing is left of them. NaN where one is not known.
    """
    return float(np.sqrt(np.clip([first, second], 0, None).prod()))


def _scored(directory: Path) -> ScoredRun:
    return ScoredRun(ScoreFiles.with_mrd(directory).directory)


def _seed(run: ScoredRun) -> int:
    return read_config(run.directory, ScoreConfig).estimator.seed


def _samples(run: ScoredRun) -> pd.DataFrame:
    run.require("samples")
    return run.samples[TEXTS].sort_values("sample_id", ignore_index=True)
