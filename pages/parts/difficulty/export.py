"""Scores and settings to take along, the command that does the same, and the end of a run."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.difficulty import Variant
from mrd_core.runs import Run
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.scoring.command import SCORE
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import shown
from pages.shell import session
from pages.shell.deletion import confirm_deletion


def show(run: Run, table: pd.DataFrame, variant: Variant, config: ScoreConfig) -> None:
    """Show downloads, the shell command, and the buttons that leave or delete the run."""
    st.subheader("Export and reproduce")
    table = table.assign(
        formula=str(variant.formula), scope=str(variant.scope), normalisation=str(variant.normalisation)
    )
    name = f"{run.id}-{variant.formula}-{variant.scope}-{variant.normalisation}"
    row = st.container(horizontal=True)
    row.download_button(
        "Scores (CSV)",
        lambda: table.to_csv(index=False),
        file_name=f"{name}.csv",
        key="csv",
        icon=":material/download:",
    )
    row.download_button(
        "Scores (Parquet)",
        lambda: table.to_parquet(index=False),
        file_name=f"{name}.parquet",
        key="parquet",
        icon=":material/download:",
    )
    row.download_button(
        "config.json",
        (run.directory / CONFIG_FILE).read_text(encoding="utf-8"),
        file_name=CONFIG_FILE,
        key="config",
        icon=":material/download:",
    )
    if row.button("New run", key="new_run", icon=":material/add:"):
        session.leave_run()
        st.rerun()
    if row.button("Delete run", key="delete", icon=":material/delete:"):
        confirm_deletion(run.id, session.leave_run)
    st.code(SCORE.shown(config), language="bash", wrap_lines=True)
    st.caption(f"Or the very same run from its config.json: `{shown('run', 'RUN_DIR')}`")
