"""A table of samples whose selected row is the selected sample."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis import difficulty
from analysis.figures.difficulty import titles_of
from analysis.figures.theme import with_unit
from pages.shell import session

# One of each kind: how likely, how well known, how often seen, how strong a pull.
USUAL_MEASURES = ("nll", "exact_memorization", "training_count", "gradient_norm")
# Columns that many tables have.
MRD = st.column_config.NumberColumn("MRD", format="%.4g", help="Small: hard to unlearn")
PROMPT = st.column_config.TextColumn("Prompt", width="medium")
ANSWER = st.column_config.TextColumn("Answer", width="medium")
ID = st.column_config.TextColumn("Id")


def measure_columns(name: str, table: pd.DataFrame, preset: Sequence[str] = USUAL_MEASURES) -> dict[str, Any]:
    """Let the user choose which other measures of difficulty a table shows; return how its columns are configured.

    Args:
        name: Tells this table from others.
        table: The samples, with the measures that they have.
        preset: Those that are shown until the user chooses.
    """
    measures = {measure.name: measure for measure in difficulty.measures_in(table)}
    if not measures:
        return {}
    titles = titles_of(measures.values())
    with st.popover("Columns", icon=":material/view_column:"):
        chosen = st.multiselect(
            "Other measures of difficulty",
            list(measures),
            default=[measure for measure in preset if measure in measures],
            format_func=titles.__getitem__,
            key=f"{name}_measures",
            persist_state="session",
        )
    return {
        # In the order of the declaration, whatever the order of the choice.
        name: st.column_config.NumberColumn(
            measure.title, width="small", format="%.4g", help=with_unit(measure.help, measure.unit)
        )
        for name, measure in measures.items()
        if name in chosen
    }


def show(name: str, samples: pd.DataFrame, selected: str, columns: Mapping[str, Any], alt: str) -> None:
    """Show samples as a table.

    Args:
        name: Tells this table from others.
        samples: Those that the filters leave, a row each.
        selected: The id of the one that is marked.
        columns: Title, format and help of each column, in their order.
        alt: What the table is.
    """
    # A table cannot be told its selection later on, and keeps it by row number: one that came from elsewhere,
    # and other rows, make a new table.
    digest = zlib.crc32("\n".join(samples["sample_id"]).encode())
    key = f"{name}_{session.table_epoch()}_{digest}"
    place = int((samples["sample_id"] == selected).argmax())

    def on_row() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            session.select_sample(str(samples["sample_id"].iloc[rows[0]]))

    st.dataframe(
        samples,
        hide_index=True,
        # A head and ten rows.
        height=390,
        column_order=list(columns),
        column_config=dict(columns),
        key=key,
        on_select=on_row,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [place]}},
        placeholder="–",
        alt=alt,
    )
