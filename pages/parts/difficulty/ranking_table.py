"""The ranking as a table; its selected row is the selected sample."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.shell import sample_table

FIRST = {
    "rank": st.column_config.NumberColumn("Rank", help="1 = hardest to unlearn", width="small"),
    "mrd": sample_table.MRD,
    "prompt": sample_table.PROMPT,
    "answer": sample_table.ANSWER,
    "relative_se": st.column_config.NumberColumn("SE / MRD", format="percent"),
    "mrd_low": st.column_config.NumberColumn("95 % from", format="%.4g"),
    "mrd_high": st.column_config.NumberColumn("95 % to", format="%.4g"),
}
OF_PREVIEW = {
    "rank": FIRST["rank"],
    "speed_and_spread": st.column_config.NumberColumn(
        "Speed + spread", format="%.4g", help="What a preview ranks by, without σ. Small: probably hard to unlearn"
    ),
    "speed_and_spread_se": st.column_config.NumberColumn("SE", format="%.2g", help="Standard error, at most"),
    "prompt": sample_table.PROMPT,
    "answer": sample_table.ANSWER,
}
# Behind the measures that the user chooses.
LAST = {
    "region": st.column_config.TextColumn(
        "Region", help="Quarter of the difficulty map; not known: nothing to forget"
    ),
    "mrd_se": st.column_config.NumberColumn("SE", format="%.2g", help="Standard error of MRD"),
    "n_tokens": st.column_config.NumberColumn("Tokens", help="Tokens that entered the score"),
    "mean_log_prob": st.column_config.NumberColumn("Mean log p [nats]", format="%.3g"),
    "split": st.column_config.TextColumn("Split"),
    "truncated": st.column_config.CheckboxColumn("Truncated"),
    "bookmarked": st.column_config.CheckboxColumn("Bookmarked"),
    "sample_note": st.column_config.TextColumn("Note"),
    "sample_id": sample_table.ID,
}


def show(
    table: pd.DataFrame, samples: pd.DataFrame, selected: str, quantiles: Sequence[str], *, is_preview: bool
) -> None:
    """Show the samples that the filters leave, hardest first.

    Args:
        table: All samples of the run.
        samples: Those that the filters leave.
        selected: The sample that is marked.
        quantiles: Whether a value of MRD is large, in sentences.
        is_preview: Whether they are ranked by speed + spread.
    """
    heading = st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute")
    heading.header("Hardest first", width="content", anchor=False)
    with heading:
        first, measures = OF_PREVIEW if is_preview else FIRST, sample_table.measure_columns("ranking", table)
        config = first | measures | first | LAST
    empty = {name for name in config if samples[name].isna().all() or (samples[name] == "").all()}
    empty |= {name for name in ("truncated", "bookmarked") if not samples[name].any()}
    by = "speed + spread" if is_preview else "MRD"
    columns = {name: column for name, column in config.items() if name not in empty}
    sample_table.show("ranking", samples, selected, columns, f"Ranking of the samples by {by}, hardest first")
    for sentence in quantiles:
        st.caption(sentence)
