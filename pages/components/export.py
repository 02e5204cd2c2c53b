"""Scores and settings to take along, the command that does the same, and the end of a run."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import streamlit as st

from mrd_core.config import ScoreConfig
from mrd_core.runs import Run, command_for
from mrd_core.runs.directory import CONFIG_FILE
from mrd_core.shell import score_command
from pages.components import session
from pages.components.notices import errors_shown


def show(run: Run, table: pd.DataFrame, config: ScoreConfig) -> None:
    """Show downloads, the shell command, and the buttons that leave or delete the run."""
    st.subheader("Export and reproduce")
    csv, parquet, settings, new, delete = st.columns(5)
    csv.download_button(
        "Scores (CSV)",
        lambda: table.to_csv(index=False),
        file_name=f"{run.id}.csv",
        key="csv",
        width="stretch",
        icon=":material/download:",
    )
    parquet.download_button(
        "Scores (Parquet)",
        lambda: _as_parquet(table),
        file_name=f"{run.id}.parquet",
        key="parquet",
        width="stretch",
        icon=":material/download:",
    )
    settings.download_button(
        "config.json",
        (run.directory / CONFIG_FILE).read_text(encoding="utf-8"),
        file_name=CONFIG_FILE,
        key="config",
        width="stretch",
        icon=":material/download:",
    )
    if new.button("New run", key="new_run", icon=":material/add:", width="stretch"):
        session.leave_run()
        st.rerun()
    if delete.button("Delete run", key="delete", icon=":material/delete:", width="stretch"):
        _confirm_deletion(run.id)
    st.code(score_command(config), language="bash", wrap_lines=True)
    st.caption(
        f"Or the very same run from its config.json: `{' '.join(['python', *command_for(Path('RUN_DIR'))[1:]])}`"
    )


@st.dialog("Delete this run?")
def _confirm_deletion(run_id: str) -> None:
    st.markdown(
        "Its copies of the texts, its results and its rows in the store go with it. This cannot be undone."
    )
    if st.button("Delete", type="primary", key="really_delete"):
        with errors_shown():
            session.store().delete(run_id)
        # The cached ranking holds the texts too.
        st.cache_data.clear()
        session.leave_run()
        st.rerun()


def _as_parquet(table: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.to_parquet(stream, index=False)
    return stream.getvalue()
