"""Which score run the pages are about, in the side bar of each of them: the newest until another one is picked."""

from __future__ import annotations

import streamlit as st

from mrd_core.runs import Run
from pages.shell import paths, session
from pages.shell.run_names import run_names

PICKED = "picked_run"
# Older ones are in the list of the start page.
MOST = 50


def show() -> Run | None:
    """Show the score runs with their states, and the way to a new one; return the one that is looked at."""
    current = session.current_run()
    listed = session.own_store().list(kinds=("score",), limit=MOST)
    runs = {run.id: run for run in [*listed, *([current] if current else [])]}
    if not runs:
        return None
    labels = run_names(runs.values(), with_state=True)
    # The URL says which it is, whatever this control said last.
    st.session_state[PICKED] = current.id if current else None
    with st.sidebar:
        st.selectbox(
            "Score run",
            list(labels),
            format_func=labels.__getitem__,
            key=PICKED,
            placeholder="None",
            on_change=lambda: session.open_run(st.session_state[PICKED]),
            help="What all pages are about",
        )
        if st.button("New score", icon=":material/add:", key="new_score", width="stretch"):
            session.leave_run()
            st.switch_page(paths.FORGET_SET)
    return current
