"""The way that runs took through completeness and utility, where they were evaluated during unlearning."""

from __future__ import annotations

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
    rows = []
    for group in comparison.groups:
        for run in group.runs:
            unlearned = run.origin == "run" and run.seed is not None
            directory = read_config(run.source, EvaluateConfig).unlearn_run if unlearned else None
            looks = UnlearningFiles(directory).read_evaluations() if directory is not None else []
            rows += [look | {"run": group.name_of(run)} for look in looks if look.keys() >= set(COLUMNS[1:])]
    return pd.DataFrame(rows, columns=COLUMNS)
