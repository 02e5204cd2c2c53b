"""The switch that leaves the texts of samples out of a page and of all that is downloaded from it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from analysis.redaction import without_texts

_KEY = "hide_texts"


def offer(place: Any) -> None:
    """Show the switch, which stands for all pages of the session."""
    place.toggle(
        "Hide texts",
        key=_KEY,
        persist_state="session",
        help="Leaves prompts and answers out of tables, charts and everything that is downloaded here. Ids and "
        "figures stay. What a single sample is made of is not shown.",
    )


def is_on() -> bool:
    """Tell whether texts are hidden."""
    return bool(st.session_state.get(_KEY, False))


def applied(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table, without texts where they are hidden."""
    return without_texts(table) if is_on() else table
