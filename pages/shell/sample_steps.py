"""From one sample to the next, by button and by arrow key."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.shell import session


def heading(title: str, shown: pd.DataFrame, place: int) -> None:
    """Show a heading with buttons to the neighbours of the sample at `place` among those shown."""
    bar = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom")
    bar.subheader(title)
    with bar.container(horizontal=True, width="content"):
        _step("Previous", "Left", shown, place - 1)
        _step("Next", "Right", shown, place + 1)


def _step(label: str, key: str, shown: pd.DataFrame, to: int) -> None:
    def go() -> None:
        session.select_sample(str(shown["sample_id"].iloc[to]))
        session.renew_table()

    st.button(label, shortcut=key, key=label.lower(), on_click=go, disabled=not 0 <= to < len(shown))
