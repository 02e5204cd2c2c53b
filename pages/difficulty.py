"""Difficulty: launch a score run, watch it, read its ranking."""

import streamlit as st

from mrd_core.runs import RunState
from pages.parts.difficulty import launch, results
from pages.shell import run_panel, session
from pages.shell.notices import empty_state
from pages.shell.page import page

with page("Difficulty", of_run=True):
    run = session.current_run()
    chosen = session.forget_set()
    if run is not None and run.state is RunState.SUCCEEDED:
        results.show(run)
    elif run is not None:
        run_panel.show(run)
    elif chosen is not None:
        launch.show(chosen)
    elif empty_state("Scores need a forget set. The demo brings one, and a model.", "Use the demo", "empty_demo"):
        session.choose_demo()
        st.rerun()
