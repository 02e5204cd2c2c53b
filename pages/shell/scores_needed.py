"""What a page shows that builds on a finished score run while there is none."""

from __future__ import annotations

import streamlit as st

from mrd_core.runs import Run
from pages.shell import session, tour
from pages.shell.notices import empty_state


def show(run: Run | None, none_yet: str, afterwards: str) -> None:
    """Say what is missing, and lead to it.

    Args:
        run: A score run that has not succeeded; None where there is none at all.
        none_yet: Sentence for the latter.
        afterwards: What comes after the run, for `This score run is queued; … after it.`
    """
    if run is None:
        sentence, button = none_yet, "Score one"
    else:
        sentence, button = f"This score run is {run.state}; {afterwards} after it.", "Look at the run"
    if empty_state(sentence, button, "empty_scores"):
        st.switch_page(tour.DIFFICULTY, query_params={session.RUN: run.id} if run else None)
