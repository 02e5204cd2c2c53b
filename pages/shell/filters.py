"""The filters of a ranking, shown as chips, and the one selection that all views share."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis import difficulty
from pages.shell import session
from pages.shell.notices import literal


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


def take_points(chart: str, label: str) -> None:
    """Select what was marked in a chart: one point becomes the sample looked at, several filter every view.

    A selection that was undone in the chart, or drawn around nothing, is undone everywhere.

    Args:
        chart: Key of the chart; the customdata of its points begins with the sample's id.
        label: Where the points are from, for the chip.
    """
    points = st.session_state[chart]["selection"]["points"]
    ids = [str(point["customdata"][0]) for point in points if point.get("customdata")]
    if len(ids) > 1:
        session.select_many(set(ids), label)
    elif ids:
        session.select_sample(ids[0])
        session.renew_table()
        # Else the chart would go on to fade all points but this one, whatever sample comes next.
        session.renew_charts()
    else:
        _clear("box")


def clear_box() -> None:
    """Let go of the samples that were chosen in a chart."""
    _clear("box")


def _clear(key: str) -> None:
    if key == "search":
        st.session_state[key] = ""
    else:
        st.session_state.pop(key, None)
        session.renew_charts()


def selected_of(shown: pd.DataFrame) -> str:
    """Return the selected sample; the hardest one shown where there is none, or it is filtered away."""
    selected = session.current_sample()
    if selected is None or not (shown["sample_id"] == selected).any():
        return str(shown["sample_id"].iloc[0])
    return selected
