"""The views of a comparison: table, trade-off, difficulty, samples, settings and cost; one is looked at."""

from __future__ import annotations

from html import escape

import streamlit as st

from pages.parts.compare import choice as compare_choice
from pages.parts.compare import difficulty as compare_difficulty
from pages.parts.compare import export as compare_export
from pages.parts.compare import samples as compare_samples
from pages.parts.compare import settled as compare_settled
from pages.parts.compare import table as compare_table
from pages.parts.compare import tradeoff as compare_tradeoff
from pages.parts.compare.choice import ComparedRuns
from pages.shell.notices import bullets

TABLE, TRADEOFF, DIFFICULTY, SAMPLES, SETTINGS = VIEWS = (
    "Table",
    "Trade-off",
    "By difficulty",
    "Samples",
    "Settings and cost",
)
VIEW = "compare_view"
MOST_NOTES = 4


def show(chosen: ComparedRuns) -> None:
    """Show what was chosen in the view that is looked at, and what a reader must know of it."""
    comparison = compare_choice.compared(chosen)
    view = st.segmented_control(
        "Look at", VIEWS, default=TABLE, required=True, key=VIEW, label_visibility="collapsed"
    )
    if view == TABLE:
        compare_table.show(comparison)
        compare_export.show(chosen, comparison)
    elif view == TRADEOFF:
        compare_tradeoff.show(comparison)
    elif view == DIFFICULTY:
        compare_difficulty.show(chosen, comparison)
    elif view == SAMPLES:
        compare_samples.show(chosen.key, comparison)
    else:
        compare_settled.show(comparison)
    if comparison.notes:
        with st.expander(
            "How far this can be trusted", icon=":material/info:", expanded=len(comparison.notes) <= MOST_NOTES
        ):
            st.html(bullets(map(escape, comparison.notes)))
