"""What a page hands out: tables as CSV, figures as HTML, whatever else as it is."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import streamlit as st

from mrd_core.samples.spreadsheet import csv_text
from pages.shell import redaction

# The app's own charts save themselves as PNG.
SAVES_SVG = {"toImageButtonOptions": {"format": "svg"}, "displayModeBar": True, "displaylogo": False}


def download(
    place: Any,
    label: str,
    content: Any,
    file: str,
    key: str,
    kind: Literal["secondary", "tertiary"] = "secondary",
    help_text: str | None = None,
) -> None:
    """Offer content as a file.

    Args:
        place: Of the page, where the button stands; `st` where the page is drawn.
        label: Of the button.
        content: Text, bytes, or what returns them once the button is pressed.
        file: Its name.
        key: Tells the button from the others of the app.
        kind: How much the button stands out.
        help_text: What the file holds.
    """
    mime, _ = mimetypes.guess_type(file)
    icon = ":material/download:"
    place.download_button(label, content, file_name=file, mime=mime, key=key, type=kind, icon=icon, help=help_text)


def csv_download(table: pd.DataFrame, name: str, label: str = "Table (CSV)", place: Any = None) -> None:
    """Offer a table as the file `name`.csv at a place of the page."""
    place, table = place or st.container(), redaction.applied(table)
    download(place, label, lambda: csv_text(table), f"{name}.csv", f"{name}_csv", "tertiary")


def figure_download(figure: Callable[[], Any], name: str, label: str | None = None) -> None:
    """Offer a figure, drawn once it is asked for, as an HTML file that needs no network.

    Args:
        figure: Draws it.
        name: Of the file; the button is called after it, so that buttons of a page are told apart.
        label: Of the button, if not so.
    """
    called = name.removeprefix("evidence_").replace("_", " ").capitalize()
    download(
        st,
        f"{called} (HTML)" if label is None else label,
        lambda: figure().to_html(include_plotlyjs=True, config=SAVES_SVG),
        f"{name}.html",
        f"download_{name}",
        "tertiary",
        "HTML of about 5 MB that needs no network; its camera saves SVG, the one on this page PNG",
    )
