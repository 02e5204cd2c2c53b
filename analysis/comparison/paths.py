"""The way that runs took through completeness and utility, where they were evaluated during unlearning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from analysis.comparison.columns import COMPLETENESS, UTILITY
from analysis.comparison.table import Comparison
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.runs.directory import read_config
from mrd_core.unlearning.files import UnlearningFiles

COLUMNS = ["run", "step", COMPLETENESS, UTILITY]


def on_the_way(comparison: Comparison) -> pd.DataFrame:
    """Return what was measured during unlearning, a row per run and step.

    Columns: run (its name in the comparison), step, completeness, utility. The two are of a sub-sample, of answer
    match and ROUGE-L on the forget and retain sets alone: other quantities than those of the comparison.
    """
    rows = [
        {"run": name} | {column: row[column] for column in COLUMNS[1:]}
        for name, directory in _unlearned(comparison)
        for row in UnlearningFiles(directory).read_evaluations()
        if row.keys() >= set(COLUMNS[1:])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _unlearned(comparison: Comparison) -> Iterator[tuple[str, Path]]:
    """Yield the name of each run that something was unlearned in, and where."""
    for group in comparison.groups:
        for run in group.runs:
            if run.origin == "run" and run.seed is not None:
                directory = read_config(run.source, EvaluateConfig).unlearn_run
                if directory is not None:
                    yield group.name_of(run), directory
