"""The views of a comparison: table, trade-off, difficulty, samples, settings and cost; one is looked at."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import streamlit as st

from pages.parts.compare import choice, difficulty, export, samples, settled, table, tradeoff
from pages.parts.compare.choice import ComparedRuns
from pages.shell import session
from pages.shell.notices import bullets

VIEW = "compare_view"
MOST_NOTES = 4


def show(chosen: ComparedRuns) -> None:
    """Show what was chosen in the view that is looked at, and what a reader must know of it."""
    comparison = choice.compared(chosen)

    def show_table() -> None:
        table.show(comparison)
        export.show(chosen, comparison)

    views: dict[str, Callable[[], None]] = {
        "Table": show_table,
        "Trade-off": lambda: tradeoff.show(comparison),
        "By difficulty": lambda: difficulty.show(chosen, comparison),
        "Samples": lambda: samples.show(chosen, comparison),
        "Settings and cost": lambda: settled.show(comparison),
    }
    view = st.segmented_control(
        "Look at",
        list(views),
        default="Table",
        required=True,
        key=VIEW,
        bind=session.IN_URL,
        label_visibility="collapsed",
    )
    views[view]()
    if comparison.notes:
        with st.expander(
            "How far this can be trusted", icon=":material/info:", expanded=len(comparison.notes) <= MOST_NOTES
        ):
            st.html(bullets(map(escape, comparison.notes)))
