"""The filters of a ranking, shown as chips, and the one selection that all views share."""

from __future__ import annotations

import base64
from contextlib import suppress

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import difficulty
from mrd_core.runs import Run
from pages.shell import session
from pages.shell.notices import literal
from pages.shell.scored import sample_ids

# The page whose address names the samples that are chosen.
LINKED_ON = "box_linked_on"


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
    box: set[str] | None = st.session_state.get(session.BOX)
    return box


def follow_link(run: Run, page: str) -> None:
    """Choose the samples that the URL names, or else name those there that are chosen.

    Args:
        run: The score run that they are of.
        page: That is drawn.
    """
    box, code = marked(), st.query_params.get(session.BOX)
    if code:
        linked = _unpacked(code, sample_ids(run))
        if linked and linked != box:
            session.select_many(linked, "from the link")
        elif not linked:
            st.query_params.pop(session.BOX)
    elif box and st.session_state.get(LINKED_ON) == page:
        # The browser went back to before they were chosen.
        clear_box()
    if box := marked():
        st.query_params[session.BOX] = _packed(box, sample_ids(run))
    st.session_state[LINKED_ON] = page if box else None


def _packed(sample_ids: set[str], order: list[str]) -> str:
    """Return a bit for each sample in order, in the letters of a URL: 40 for 240 samples, 3,334 for 20,000."""
    bits = np.packbits([sample in sample_ids for sample in order])
    return base64.urlsafe_b64encode(bits.tobytes()).decode().rstrip("=")


def _unpacked(code: str, order: list[str]) -> set[str]:
    """Return the samples that a URL names; none where it is no list of samples of this run."""
    with suppress(ValueError):
        letters = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
        bits = np.unpackbits(np.frombuffer(letters, dtype=np.uint8))
        return {sample for sample, bit in zip(order, bits, strict=False) if bit}
    return set()


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
    st.session_state.pop(session.BOX, None)
    st.query_params.pop(session.BOX, None)
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
