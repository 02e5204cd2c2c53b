"""From one sample to the next, by button and by arrow key."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.shell import session


def heading(title: str, samples: pd.DataFrame, selected: str) -> tuple[str, pd.Series]:
    """Show a heading with buttons to the neighbours of a sample in a table.

    Args:
        title: The heading.
        samples: Those that the filters leave, a row each.
        selected: The id of the sample that is looked at; of one that is not in the table the first stands for it.

    Returns:
        Where it stands, as `3 of 40`, and its row.
    """
    place = int((samples["sample_id"] == selected).argmax())
    bar = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom")
    bar.header(title)
    with bar.container(horizontal=True, width="content"):
        for label, key, to in (("Previous", "Left", place - 1), ("Next", "Right", place + 1)):
            is_there = 0 <= to < len(samples)
            st.button(
                label,
                shortcut=key,
                key=label.lower(),
                on_click=session.step_to,
                args=(str(samples["sample_id"].iloc[to]) if is_there else selected,),
                disabled=not is_there,
            )
    return f"{place + 1} of {len(samples)}", samples.iloc[place]
