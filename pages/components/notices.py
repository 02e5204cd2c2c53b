"""Errors, empty states and what a run's state looks like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState

# Icon and word: colour alone tells nobody anything.
STATES = {
    RunState.QUEUED: (":material/hourglass_empty:", "queued"),
    RunState.STARTING: (":material/rocket_launch:", "starting"),
    RunState.RUNNING: (":material/play_circle:", "running"),
    RunState.SUCCEEDED: (":material/check_circle:", "succeeded"),
    RunState.FAILED: (":material/error:", "failed"),
    RunState.CANCELLING: (":material/pending:", "cancelling"),
    RunState.CANCELLED: (":material/cancel:", "cancelled"),
    RunState.LOST: (":material/help:", "lost"),
}


def state_label(run: Run) -> str:
    """Return the run's state as icon and word."""
    return " ".join(STATES[run.state])


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show a user error as a card and end this run of the page there."""
    try:
        yield
    except UserError as error:
        show_error(error)
        st.stop()


def show_error(error: UserError) -> None:
    """Show what is wrong, why, and the way out; the texts may quote a user's file, so they stay plain."""
    with st.container(border=True):
        st.markdown("##### :material/error: That did not work")
        st.text(f"{error.what} {error.why}")
        st.text(f"→ {error.fix}")


def empty_state(sentence: str, button: str, key: str) -> bool:
    """Show one sentence and one button; return whether it was pressed."""
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(sentence, text_alignment="center")
        return st.button(button, type="primary", key=key)
