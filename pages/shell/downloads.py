"""What a page hands out: tables as CSV, figures as HTML, whatever else as it is."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator


def csv_download(place: DeltaGenerator, table: pd.DataFrame, name: str, label: str = "Table (CSV)") -> None:
    """Offer a table as the file `name`.csv at a place of the page."""
    place.download_button(
        label,
        lambda: table.to_csv(index=False),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"{name}_csv",
        type="tertiary",
        icon=":material/download:",
    )


def figure_download(figure: Any, name: str, label: str = "Figure (HTML)") -> None:
    """Offer a figure as an HTML file that needs no network."""
    st.download_button(
        label,
        lambda: figure.to_html(include_plotlyjs=True),
        file_name=f"{name}.html",
        mime="text/html",
        key=f"download_{name}",
        type="tertiary",
        icon=":material/download:",
        help="The figure as an HTML file that needs no network",
    )
