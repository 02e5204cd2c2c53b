"""Who got the gradient of unlearning runs: their logs of steps, each read once for as long as it is the same."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.unlearning import gradients
from mrd_core.runs import Run
from mrd_core.scoring.columns import MRD_TITLES
from mrd_core.unlearning.files import UnlearningFiles
from pages.shell import configs, unlearnings


def over_seeds(runs: Sequence[Run], column: str | None = None) -> pd.DataFrame:
    """Return `gradients.over_seeds` of these runs, those left out that have not taken a step.

    Args:
        runs: Unlearning runs.
        column: Of the curriculum, by which the samples of all runs are put into thirds; None: by each run's own.
    """
    rows, tables = [], []
    # The store lists the newest first.
    for run in sorted(runs, key=lambda each: each.created_at):
        log = UnlearningFiles(run.directory).steps
        if log.exists() and UnlearningFiles(run.directory).curriculum.exists():
            config = unlearnings.config_of(run)
            table = _by_tercile(run, column or own_column(run), log.stat().st_size)
            curriculum = config.curriculum
            rows.append((config.label, curriculum.sampler, curriculum.column, config.setting, config.seed))
            tables.append(table)
    about = pd.DataFrame(rows, columns=["label", "sampler", "column", "setting", "seed"])
    return gradients.over_seeds(about, tables)


def own_column(run: Run) -> str:
    """Return the column by which a run's own samples are put into thirds."""
    curriculum = unlearnings.config_of(run).curriculum
    return gradients.column_of(curriculum.sampler, curriculum.column)


def note(runs: Sequence[Run], table: pd.DataFrame, column: str | None = None) -> str:
    """Say by what the thirds of `over_seeds` are, and when the gradient was measured."""
    columns = [column] if column else dict.fromkeys(own_column(run) for run in runs)
    titles = [
        f"{MRD_TITLES[name]}, of which small is hard" if name in MRD_TITLES else "the column of the order"
        for name in columns
    ]
    every = sorted({unlearnings.config_of(run).gradient_steps for run in runs} - {0})
    when = f"measured every {' or '.join(map(str, every))} steps, from the first on"
    if table["gradient"].isna().all():
        when = "not measured by these runs"
    return f"Thirds by {'; or by '.join(titles)}. The gradient was {when}."


@st.cache_data(show_spinner=False, max_entries=200, hash_funcs=configs.BY_ATTEMPT)
def _by_tercile(run: Run, column: str, size: int) -> pd.DataFrame:  # noqa: ARG001  (a log that has grown is another key)
    files = UnlearningFiles(run.directory)
    return gradients.by_tercile(pd.read_parquet(files.curriculum), files.read_steps(), column)
