"""A table of samples whose selected row is the selected sample."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.components import session


def show(
    name: str, shown: pd.DataFrame, selected: str, columns: Sequence[str], config: Mapping[str, Any], alt: str
) -> None:
    """Show samples as a table.

    Args:
        name: Tells this table from others.
        shown: The samples that the filters leave.
        selected: The id of the one that is marked.
        columns: Which columns, in which order.
        config: How they look.
        alt: What the table is.
    """
    # A table cannot be told its selection later on, and keeps it by row number: one that came from elsewhere,
    # and other rows, make a new table.
    rows_shown = zlib.crc32("\n".join(shown["sample_id"]).encode())
    key = f"{name}_{session.table_epoch()}_{rows_shown}"
    place = int((shown["sample_id"] == selected).argmax())

    def on_row() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            session.select_sample(str(shown["sample_id"].iloc[rows[0]]))

    st.dataframe(
        shown,
        hide_index=True,
        height=360,
        column_order=list(columns),
        column_config=dict(config),
        key=key,
        on_select=on_row,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [place]}},
        placeholder="–",
        alt=alt,
    )
