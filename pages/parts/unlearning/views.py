"""The views of the unlearning runs; one is looked at."""

from __future__ import annotations

import streamlit as st

from pages.shell import session

FORM, PROGRESS, RESULT, COMPARISON = "New runs", "Progress", "Result", "Comparison"
VIEWS = (FORM, PROGRESS, RESULT, COMPARISON)
VIEW, NEXT = "unlearn_view", "unlearn_next_view"


def choose(first: str) -> str:
    """Let the user choose a view; `first` is the one at first."""
    if VIEW not in st.query_params:
        st.session_state.setdefault(VIEW, first)
    if (view := st.session_state.pop(NEXT, None)) is not None:
        st.session_state[VIEW] = view
    return str(
        st.segmented_control(
            "Look at", VIEWS, required=True, key=VIEW, bind=session.IN_URL, label_visibility="collapsed"
        )
    )


def go_to(view: str) -> None:
    """Look at a view from the next run of the page on; the control itself cannot be set once it is drawn."""
    st.session_state[NEXT] = view
