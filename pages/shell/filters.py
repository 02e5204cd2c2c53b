"""The filters of a ranking, shown as chips, and the one selection that all views share."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import difficulty
from pages.shell import session
from pages.shell.notices import literal


def filtered(table: pd.DataFrame, place: DeltaGenerator | None = None) -> tuple[pd.DataFrame, str]:
    """Apply the filters, show them as chips, and return what they leave and the selected sample among it.

    Args:
        table: All samples.
        place: Where the search stands, such as a row of buttons; by default where it is asked for.
    """
    if st.session_state.pop(session.STALE_SEARCH, False):
        clear_search()
    text = (place or st).text_input(
        "Search",
        key=session.SEARCH,
        placeholder="Search in ids, prompts and answers",
        label_visibility="collapsed",
        icon=":material/search:",
        bind=session.IN_URL,
    )
    box = marked()
    samples = difficulty.matching(table, text, box)
    if text or box is not None:
        chips = st.container(horizontal=True, vertical_alignment="center")
        chips.markdown(f"**{len(samples)} of {len(table)}**")
        if text:
            chips.button(literal(text), icon=":material/close:", key="clear_search", on_click=clear_search)
        if box is not None:
            label = f"{len(box)} {st.session_state['box_label']}"
            chips.button(label, icon=":material/close:", key="clear_box", on_click=clear_box)
    if samples.empty:
        st.info("No sample matches these filters.", icon=":material/filter_alt_off:")
        st.stop()
    return samples, selected_of(samples)


def marked() -> set[str] | None:
    """Return the ids of the samples that were chosen in a chart; None where none were."""
    box: set[str] | None = st.session_state.get("box")
    return box


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
        session.step_to(ids[0])
        # Else the chart would go on to fade all points but this one, whatever sample comes next.
        session.renew_charts()
    else:
        clear_box()


def clear_box() -> None:
    """Let go of the samples that were chosen in a chart."""
    st.session_state.pop("box", None)
    session.renew_charts()


def clear_search() -> None:
    """Search for nothing."""
    st.session_state[session.SEARCH] = ""


def selected_of(samples: pd.DataFrame) -> str:
    """Return the id of the selected sample; of the first where there is none, or it is not among these."""
    selected = session.current_sample()
    if selected is None or not (samples["sample_id"] == selected).any():
        return str(samples["sample_id"].iloc[0])
    return selected
