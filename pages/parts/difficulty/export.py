"""Scores and settings to take along, the command that does the same, and the end of a run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis.difficulty import Variant
from mrd_core.runs import Run
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.samples.spreadsheet import csv_text
from mrd_core.scoring.command import SCORE, reproducible
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.command import shown
from pages.shell import commands, deletion, redaction, reports, session
from pages.shell.downloads import download, figures_download


def show(
    run: Run,
    table: pd.DataFrame,
    variant: Variant,
    config: ScoreConfig,
    figures: Mapping[str, Callable[[], Any]],
) -> None:
    """Show downloads, the shell command, and the buttons that leave or delete the run.

    Args:
        run: The score run.
        table: All samples of it.
        variant: Which scores are looked at.
        config: Of the run.
        figures: Draw those of the page, by the names of their files.
    """
    st.header("Export and reproduce")
    table = table.assign(
        formula=str(variant.formula), scope=str(variant.scope), normalisation=str(variant.normalisation)
    )
    name = f"{run.id}-{variant.formula}-{variant.scope}-{variant.normalisation}"
    row = st.container(horizontal=True, vertical_alignment="center")
    download(row, "Scores (CSV)", lambda: csv_text(table), f"{name}.csv", "csv")
    download(row, "Scores (Parquet)", lambda: table.to_parquet(index=False), f"{name}.parquet", "parquet")
    if figures:
        figures_download(row, figures, f"{run.id}-charts")
    again, samples = reproducible(config, run.directory), ScoreFiles(run.directory).samples
    download(row, CONFIG_FILE, again.model_dump_json(indent=2) + "\n", CONFIG_FILE, "config")
    if not redaction.is_on():
        download(row, "Samples (Parquet)", samples.read_bytes, f"{run.id}-{samples.name}", "samples")
    if row.button("New run", key="new_run", icon=":material/add:"):
        session.leave_run()
        st.rerun()
    deletion.offer(run.id, session.leave_run, row)
    redaction.offer(row)
    reports.offer(run, row)
    commands.show(SCORE.shown(again))
    st.caption("Or the very same run, from a copy of its config.json and its samples in a new folder:")
    folder = f"{run.id}-again"
    files = shlex.join(["cp", str(run.directory / CONFIG_FILE), str(samples), f"{folder}/"])
    commands.show(shown("run", folder), before=f"mkdir {folder} && {files} && ")
