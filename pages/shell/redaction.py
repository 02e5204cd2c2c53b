"""The switch that leaves the texts of samples out of a page and of all that is downloaded from it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from analysis.redaction import without_texts
from mrd_core.runs import RunError

_KEY = "hide_texts"


def offer(place: Any) -> None:
    """Show the switch, which stands for all pages of the session."""
    place.toggle(
        "Hide texts",
        key=_KEY,
        persist_state="session",
        help="Leaves prompts and answers out of tables, charts and everything that is downloaded here. Ids and "
        "figures stay. What a single sample is made of is not shown, nor are tracebacks and logs.",
    )


def is_on() -> bool:
    """Tell whether texts are hidden."""
    return bool(st.session_state.get(_KEY, False))


def applied(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table, without texts where they are hidden."""
    return without_texts(table) if is_on() else table


def cause(error: RunError) -> str:
    """Return why a run ended; where texts are hidden, of an error that nobody foresaw only its type.

    What comes with a traceback is in the words of an exception, which may quote a sample; all else is in the
    program's own.
    """
    return f"{error.type} (its words are left out)" if is_on() and error.traceback else error.cause
