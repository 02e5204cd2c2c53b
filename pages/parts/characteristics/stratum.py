"""Keeping a selection by name, and going on with it as a forget set."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mrd_core.runs import Run
from mrd_core.samples import ForgetSet, read, save_stratum
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.files import ScoreFiles
from pages.shell import paths, session
from pages.shell.notices import errors_shown, literal


def show(run: Run, samples: pd.DataFrame, whole: int) -> None:
    """Offer to save the samples that the filters leave, and to score them as a forget set."""
    if len(samples) == whole:
        return
    st.header("Keep this stratum")
    with st.form("stratum_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            f"Name for these {len(samples)} samples", placeholder="hard and rare", key="stratum_name"
        )
        saved = st.form_submit_button("Save", icon=":material/save:")
    selected = set(samples["sample_id"])
    if saved:
        # A name that is refused leaves the rest of the page standing.
        with errors_shown(ends_page=False):
            whole_set = ForgetSet.load(ScoreFiles(run.directory).samples)
            file = save_stratum(whole_set, selected, name.strip(), session.settings().home)
            st.session_state["stratum"] = file, selected
    path, held = st.session_state.get("stratum", (None, set()))
    if path and path.exists() and held == selected:
        row = st.container(horizontal=True, vertical_alignment="center")
        row.markdown(f":material/check: Saved as {literal(path.stem)}")
        if row.button("Use as forget set", icon=":material/arrow_forward:", key="use_stratum"):
            config = ForgetSetConfig(source=str(path))
            with errors_shown():
                session.choose_forget_set(read(config), config)
            session.leave_run()
            st.switch_page(paths.DIFFICULTY)
