"""A table of samples whose selected row is the selected sample."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import difficulty
from analysis.figures.difficulty import titles_of
from analysis.figures.theme import shortened, with_unit
from pages.shell import session

# One of each kind: how likely, how well known, how often seen, how strong a pull.
USUAL_MEASURES = ("nll", "exact_memorization", "training_count", "gradient_norm")
# Up to how many rows all are sent, and how many of more; characters of a text in a cell.
MOST_ROWS, PAGE, CELL_WIDTH = 60, 25, 100
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


def show(
    name: str,
    samples: pd.DataFrame,
    selected: str,
    columns: Mapping[str, Any],
    alt: str,
    order: str = "Hardest first",
) -> None:
    """Show samples as a table.

    Args:
        name: Tells this table from others.
        samples: Those that the filters leave, a row each.
        selected: The id of the one that is marked.
        columns: Title, format and help of each column, in their order.
        alt: What the table is.
        order: That of the samples, in words.
    """
    table, foot = st.container(), st.container(horizontal=True, vertical_alignment="center")
    page = samples if len(samples) <= MOST_ROWS else _page(name, samples, selected, columns, foot, order)
    # A table cannot be told its selection later on, and keeps it by row number: one that came from elsewhere,
    # and other rows, make a new table.
    digest = zlib.crc32("\n".join(page["sample_id"]).encode())
    key = f"{name}_{session.table_epoch()}_{digest}"

    def on_row() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            session.select_sample(str(page["sample_id"].iloc[rows[0]]))

    # What no column shows would be sent all the same.
    visible = page[[column for column in dict.fromkeys(["sample_id", *columns]) if column in page]]
    for text in ("prompt", "answer"):
        if text in visible:
            visible = visible.assign(**{text: visible[text].map(lambda whole: shortened(whole, CELL_WIDTH))})
    table.dataframe(
        visible,
        hide_index=True,
        # A head and ten rows.
        height=390,
        column_order=list(columns),
        column_config=dict(columns),
        key=key,
        on_select=on_row,
        selection_mode="single-row",
        selection_default={
            "selection": {"rows": [int(at) for at in np.flatnonzero(page["sample_id"] == selected)]}
        },
        placeholder="–",
        alt=alt,
    )


def _page(
    name: str, samples: pd.DataFrame, selected: str, columns: Mapping[str, Any], place: DeltaGenerator, order: str
) -> pd.DataFrame:
    """Let the user choose which rows of many are sent; it is the page of the selected sample until then."""
    orders = {column: (columns[column] or {}).get("label") or column for column in columns if column in samples}
    by = place.selectbox(
        "Sort all rows by",
        ["", *orders],
        format_func=({"": order} | orders).__getitem__,
        key=f"{name}_order",
        label_visibility="collapsed",
        bind=session.IN_URL,
        width=190,
    )
    if by:
        samples = samples.sort_values(by, kind="stable", na_position="last")
    at = int((samples["sample_id"] == selected).argmax())
    number = place.pagination(
        -(-len(samples) // PAGE),
        default=at // PAGE + 1,
        max_visible_pages=3,
        key=f"{name}_page_{by}_{zlib.crc32(selected.encode())}_{len(samples)}",
    )
    first, last = (number - 1) * PAGE, min(number * PAGE, len(samples))
    place.caption(f"Rows {first + 1:,} to {last:,} of {len(samples):,}", width="content")
    return samples.iloc[first:last]
