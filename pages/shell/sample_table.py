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
SHOWN_MEASURES = ("nll", "exact_memorization", "training_count", "gradient_norm")


def measure_columns(name: str, table: pd.DataFrame, preset: Sequence[str] = SHOWN_MEASURES) -> dict[str, Any]:
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
        measure: st.column_config.NumberColumn(
            measures[measure].title,
            width="small",
            format="%.4g",
            help=with_unit(measures[measure].help, measures[measure].unit),
        )
        for measure in measures
        if measure in chosen
    }


def show(
    name: str, samples: pd.DataFrame, selected: str, columns: Sequence[str], config: Mapping[str, Any], alt: str
) -> None:
    """Show samples as a table.

    Args:
        name: Tells this table from others.
        samples: Those that the filters leave, a row each.
        selected: The id of the one that is marked.
        columns: Which columns, in which order.
        config: Title, format and help of each column.
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
