"""Charts in a page: those whose points are samples select, and their data are drawn up while somebody looks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import pandas as pd
import streamlit as st

from pages.shell import filters, session
from pages.shell.downloads import csv_download, figure_download, in_words

# A box is too narrow for plotly's whole tool bar beside its title; the wheel and the reset button zoom as well.
NARROW = {"modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "autoScale2d"]}


def chart(figure: Any, name: str, alt: str, file: str = "", *, is_narrow: bool = False) -> None:
    """Show a figure.

    Args:
        figure: What is shown.
        name: Tells it from the other charts of the app.
        alt: What it is.
        file: Name of the file as which it is offered; "" offers none.
        is_narrow: Whether it stands in a narrow box.
    """
    st.plotly_chart(figure, key=name, config=NARROW if is_narrow else None, alt=alt)
    if file:
        figure_download(lambda: figure, file)


def sample_chart(
    figure: Any, name: str, origin: str, alt: str, file: str = "", *, is_narrow: bool = False
) -> None:
    """Show a figure whose points are samples: one becomes the selected sample, several filter every view.

    Args:
        figure: The customdata of its points begins with the sample's id.
        name: Tells it from the other charts of the app.
        origin: Where samples that are chosen in it are from, for the chip.
        alt: What it is.
        file: Name of the file as which it is offered; "" offers none.
        is_narrow: Whether it stands in a narrow box.
    """
    key = f"{name}_{session.charts_epoch()}"
    st.plotly_chart(
        figure,
        key=key,
        on_select=partial(filters.take_points, key, origin),
        selection_mode=("points", "box", "lasso"),
        config=NARROW if is_narrow else None,
        alt=alt,
    )
    if file:
        figure_download(lambda: figure, file)


def data_beneath(
    table: pd.DataFrame,
    name: str,
    alt: str,
    *,
    figure: Any = None,
    height: int | Literal["auto"] = "auto",
) -> None:
    """Offer the data of a chart as a table and as a file, drawn up only while somebody looks at them.

    Args:
        table: The data.
        name: Of the file; tells it from the other tables of the app.
        alt: What the table is.
        figure: Offered beside the table where there is one.
        height: Of the table [px].
    """
    details = st.expander(
        f"{in_words(name)} as a table",
        icon=":material/table:",
        key=f"{name}_table",
        on_change="rerun",
        type="compact",
    )
    if not details.open:
        return
    with details:
        st.dataframe(table, hide_index=True, placeholder="–", height=height, alt=alt)
        row = st.container(horizontal=True)
        csv_download(table, name, place=row)
        if figure is not None:
            with row:
                figure_download(lambda: figure, name)


def reasons_table(reasons: Mapping[str, str]) -> None:
    """Show what a run chose automatically, each choice with its reason."""
    st.dataframe(
        pd.DataFrame({"Choice": reasons.keys(), "Value and reason": reasons.values()}),
        hide_index=True,
        alt="Automatic choices of this run with their reasons",
    )
