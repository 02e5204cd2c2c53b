"""What a page hands out: tables as CSV, figures as HTML, whatever else as it is."""

from __future__ import annotations

import io
import mimetypes
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import pandas as pd
import streamlit as st
from plotly.offline import get_plotlyjs

from mrd_core.samples.spreadsheet import csv_text
from pages.shell import redaction

ICON_ALONE = """<style>
[class*=st-key-icon_] button p { position: absolute; width: 1px; overflow: hidden; clip-path: inset(50%); }
</style>"""
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
    *,
    disabled: bool = False,
) -> None:
    """Offer content as a file.

    Args:
        place: Of the page, where the button stands; `st` where the page is drawn.
        label: Of the button.
        content: Text, bytes, or what returns them once the button is pressed.
        file: Its name.
        key: Tells the button from the others of the app.
        kind: How much the button stands out.
        help_text: What the file holds; or why there is none.
        disabled: Whether there is none.
    """
    mime, _ = mimetypes.guess_type(file)
    place.download_button(
        label,
        content,
        file_name=file,
        mime=mime,
        key=key,
        type=kind,
        icon=":material/download:",
        help=help_text,
        disabled=disabled,
    )


def archive(contents: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Return files, by name, as the content of a ZIP file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents:
            packed.writestr(name, content)
    return file.getvalue()


def in_words(name: str) -> str:
    """Return the name of a file in words, so that buttons that are called after files are told apart."""
    return re.sub("^(evidence|unlearn|compare)_", "", name).replace("_", " ").replace("-", " ").capitalize()


def csv_download(table: pd.DataFrame, name: str, label: str = "", place: Any = None) -> None:
    """Offer a table as the file `name`.csv at a place of the page."""
    place, table = place or st.container(), redaction.applied(table)
    label = label or f"{in_words(name)} (CSV)"
    download(place, label, lambda: csv_text(table), f"{name}.csv", f"{name}_csv", "tertiary")


def figure_download(figure: Callable[[], Any], name: str, *, is_icon: bool = False) -> None:
    """Offer a figure, drawn once it is asked for, as an HTML file that needs no network.

    Args:
        figure: Draws it.
        name: Of the file; the button is called after it, so that buttons of a page are told apart.
        is_icon: Whether the button shows its icon alone; its name is there for who does not see it.
    """
    if is_icon:
        st.html(ICON_ALONE)
    download(
        st,
        f"Download the chart of {in_words(name).lower()}" if is_icon else f"{in_words(name)} (HTML)",
        lambda: figure().to_html(include_plotlyjs=True, config=SAVES_SVG),
        f"{name}.html",
        f"icon_{name}" if is_icon else f"download_{name}",
        "tertiary",
        "HTML of about 5 MB that needs no network; its camera saves SVG, the one on this page PNG",
    )


def figures_download(place: Any, figures: Mapping[str, Callable[[], Any]], name: str) -> None:
    """Offer figures as the file `name`.zip: each as HTML and as plotly's JSON, and plotly.js once for all.

    Args:
        place: Of the page, where the button stands.
        figures: Draw them, by the names of their files.
        name: Of the file.
    """

    def drawn() -> Iterator[tuple[str, str]]:
        yield "plotly.min.js", get_plotlyjs()
        for each, draw in figures.items():
            figure = draw()
            yield f"{each}.html", figure.to_html(include_plotlyjs="directory", config=SAVES_SVG)
            yield f"{each}.json", figure.to_json()

    about = "About 1.5 MB: HTML and JSON of each chart; the camera in the HTML saves SVG, the one on this page PNG"
    download(place, "All charts (ZIP)", lambda: archive(drawn()), f"{name}.zip", "figures", help_text=about)
