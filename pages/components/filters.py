"""The filters of a ranking, shown as chips, and the one selection that all views share."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis import difficulty
from pages.components import session
from pages.components.notices import literal


def filtered(table: pd.DataFrame) -> pd.DataFrame:
    """Apply the filters and show them as chips."""
    text = st.text_input(
        "Search",
        key="search",
        placeholder="Search in ids, prompts and answers",
        label_visibility="collapsed",
        icon=":material/search:",
        persist_state="session",
    )
    box: set[str] | None = st.session_state.get("box")
    shown = difficulty.matching(table, text, box)
    if text or box is not None:
        chips = st.container(horizontal=True, vertical_alignment="center")
        chips.markdown(f"**{len(shown)} of {len(table)}**")
        if text:
            chips.button(
                literal(text), icon=":material/close:", key="clear_search", on_click=_clear, args=("search",)
            )
        if box is not None:
            label = f"{len(box)} {st.session_state['box_label']}"
            chips.button(label, icon=":material/close:", key="clear_box", on_click=_clear, args=("box",))
    if shown.empty:
        st.info("No sample matches these filters.", icon=":material/filter_alt_off:")
        st.stop()
    return shown


def _clear(key: str) -> None:
    if key == "search":
        st.session_state[key] = ""
    else:
        del st.session_state[key]
        session.renew_charts()


def selected_of(shown: pd.DataFrame) -> str:
    """Return the selected sample; the hardest one shown where there is none, or it is filtered away."""
    selected = session.current_sample()
    if selected is None or not (shown["sample_id"] == selected).any():
        return str(shown["sample_id"].iloc[0])
    return selected
