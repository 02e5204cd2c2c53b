"""Errors, empty states and what a run's state looks like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from html import escape

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState
from mrd_core.runs.failure import readable
from pages.shell import commands, failures

# Icon and word: colour alone tells nobody anything.
ICONS = {
    RunState.QUEUED: ":material/hourglass_empty:",
    RunState.STARTING: ":material/rocket_launch:",
    RunState.RUNNING: ":material/play_circle:",
    RunState.SUCCEEDED: ":material/check_circle:",
    RunState.FAILED: ":material/error:",
    RunState.CANCELLING: ":material/pending:",
    RunState.CANCELLED: ":material/cancel:",
    RunState.INTERRUPTED: ":material/pause_circle:",
    RunState.LOST: ":material/help:",
    RunState.UNKNOWN: ":material/help:",
}

# The same for cells of a table, which show text only.
SYMBOLS = dict.fromkeys(RunState, "…") | {
    RunState.RUNNING: "▶",
    RunState.SUCCEEDED: "✓",
    RunState.FAILED: "✗",
    RunState.CANCELLED: "–",
    RunState.INTERRUPTED: "‖",
    RunState.LOST: "?",
    RunState.UNKNOWN: "?",
}


def state_label(run: Run) -> str:
    """Return the run's state as icon and word."""
    return f"{ICONS[run.state]} {run.state}"


def literal(text: str) -> str:
    """Return `text` as Markdown that shows it letter by letter: file names and searches may look like Markdown.

    As code it brings neither formatting nor links nor images, which a browser would fetch from elsewhere.
    """
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {' '.join(text.split())} {fence}"


def heading(text: str) -> None:
    """Show a heading that quotes a user's file name, so it stays plain."""
    style = "font-size:1.25rem;font-weight:600;line-height:1.2;margin:0;padding:.5rem 0;overflow-wrap:anywhere"
    st.html(f'<h2 style="{style}">{escape(text)}</h2>')


def bullets(lines: Iterable[str]) -> str:
    """Return lines of HTML as a list; what they quote of a user's file must be escaped in them."""
    items = "".join(f'<li style="overflow-wrap:anywhere">{line}</li>' for line in lines)
    return f'<ul style="margin:0;padding-left:1.2rem">{items}</ul>'


@contextmanager
def errors_shown(*, ends_page: bool = True) -> Iterator[None]:
    """Show a user error as a card, and end this run of the page there where the rest depends on it.

    So does whatever nobody foresaw, which ends it in any case.
    """
    try:
        yield
    except UserError as error:
        show_error(error)
        if ends_page:
            st.stop()
    except OSError as error:
        explained = readable(error)
        if explained is None:
            failures.show(error)
        else:
            show_error(explained)
        st.stop()
    except Exception as error:
        failures.show(error)
        st.stop()


def show_error(error: UserError) -> None:
    """Show what is wrong, why, and the way out; the texts may quote a user's file, so they stay plain."""
    with st.container(border=True):
        st.error("**That did not work**", icon=":material/error:")
        st.text(error.cause)
        st.text(f"→ {commands.in_full(error.fix)}")


def empty_state(sentence: str, button: str, key: str) -> bool:
    """Show one sentence and one button; return whether it was pressed."""
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(sentence, text_alignment="center")
        return st.button(button, type="primary", key=key)
