"""The ranking as a table; its selected row is the selected sample."""

from __future__ import annotations

import zlib

import pandas as pd
import streamlit as st

from pages.components import session

COLUMNS = {
    "rank": st.column_config.NumberColumn("Rank", help="1 = hardest to unlearn", width="small"),
    "mrd": st.column_config.NumberColumn("MRD", format="%.4g", help="Small: hard to unlearn"),
    "mrd_low": st.column_config.NumberColumn("95 % from", format="%.4g"),
    "mrd_high": st.column_config.NumberColumn("95 % to", format="%.4g"),
    "relative_se": st.column_config.NumberColumn("SE / MRD", format="percent"),
    "prompt": st.column_config.TextColumn("Prompt", width="medium"),
    "answer": st.column_config.TextColumn("Answer", width="medium"),
    "region": st.column_config.TextColumn("Region", help="Quarter of the difficulty map"),
    "mrd_se": st.column_config.NumberColumn("SE", format="%.2g", help="Standard error of MRD"),
    "n_tokens": st.column_config.NumberColumn("Tokens", help="Tokens that entered the score"),
    "mean_log_prob": st.column_config.NumberColumn("Mean log p [nats]", format="%.3g"),
    "training_count": st.column_config.NumberColumn("Times in training"),
    "split": st.column_config.TextColumn("Split"),
    "truncated": st.column_config.CheckboxColumn("Truncated"),
    "sample_id": st.column_config.TextColumn("Id"),
}


def show(shown: pd.DataFrame, selected: str) -> None:
    """Show the samples that the filters leave, hardest first."""
    st.subheader("Ranking, hardest first")
    # A table cannot be told its selection later on, and keeps it by row number: one that came from elsewhere,
    # and other rows, make a new table.
    rows_shown = zlib.crc32("\n".join(shown["sample_id"]).encode())
    key = f"ranking_{session.table_epoch()}_{rows_shown}"
    place = int((shown["sample_id"] == selected).argmax())

    def on_row() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            session.select_sample(str(shown["sample_id"].iloc[rows[0]]))

    order = [name for name in COLUMNS if shown[name].notna().any() and (shown[name] != "").any()]
    st.dataframe(
        shown,
        hide_index=True,
        height=360,
        column_order=[name for name in order if name != "truncated" or shown["truncated"].any()],
        column_config=COLUMNS,
        key=key,
        on_select=on_row,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [place]}},
        placeholder="–",
        alt="Ranking of the samples by MRD, hardest first",
    )
