"""What exports are made of: tables, JSON, and pages of HTML that need neither this program nor a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mrd_core.errors import UserError
from mrd_core.runs.files import PRIVATE_FOLDER, json_value, write_atomically
from mrd_core.samples.spreadsheet import csv_text

# plotly draws its traces with WebGL, which it compiles at run time, where the points are many; nothing may be
# fetched or sent.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)
# A cell without a value.
NOTHING = "–"
STYLE = Path(__file__).with_name("report.css")
# A figure keeps the width that it was drawn with: while the page was read, or for the screen and not for paper.
FIT_FIGURES = """
for (const event of ["load", "beforeprint", "afterprint"]) {
  addEventListener(event, () => document.querySelectorAll(".js-plotly-plot").forEach(Plotly.Plots.resize));
}
"""


def write_exports(folder: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    """Write a file of each name into `folder`, which is made if need be; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        data = content()
        write_atomically(folder / name, lambda stream, data=data: stream.write(data))  # type: ignore[misc]


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Lend a folder that takes this name with all that was written into it, or not at all.

    Raises:
        UserError: There is something of that name that is no empty folder, or none can be made.
    """
    staging = folder.parent / f".{folder.name}.making"
    # Of one that was killed; its texts do not stay behind.
    shutil.rmtree(staging, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        staging.mkdir(mode=PRIVATE_FOLDER)
        yield staging
        # Onto an empty folder, and onto none.
        staging.replace(folder)
    except OSError as error:
        raise UserError(
            f"--out {folder}", f"cannot be a new folder: {error.strerror}.", "Name a folder that is new or empty."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def csv_file(frame: pd.DataFrame) -> bytes:
    """Return a table as the content of a CSV file, in which no spreadsheet finds a formula."""
    return csv_text(frame).encode()


def json_file(content: Any) -> bytes:
    """Return JSON values as the content of a file."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values: undefined and unbounded figures are None."""
    return [
        {str(name): _plain(value) for name, value in record.items()} for record in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    """Return a cell as a JSON value."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA else json_value(value)


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a table of texts in Markdown, all columns but the first to the right."""
    rows: list[list[str]] = [
        list(map(str, frame)),
        ["---", *["---:"] * (frame.shape[1] - 1)],
        *([markdown_text(cell) for cell in row] for row in frame.to_numpy().tolist()),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def markdown_text(text: str) -> str:
    """Return a text as Markdown that reads the same, on one line."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
    return escape(" ".join(escaped.splitlines()), quote=False)


def document(heading: str, body: str, generated: datetime, style: str = "") -> str:
    """Return a page that opens without a network: what is drawn has plotly in it, and nothing is fetched.

    Args:
        heading: Its title, escaped.
        body: HTML below it.
        generated: When.
        style: CSS beside that of all reports.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading}</title>
<style>
{STYLE.read_text(encoding="utf-8")}{style}</style>
<script>{get_plotlyjs()}</script>
<script>{FIT_FIGURES}</script>
</head>
<body>
<main>
<h1>{heading}</h1>
<p class="soft">MRD Lens, {generated:%Y-%m-%d %H:%M}</p>
<noscript><p>The figures need JavaScript; the tables hold their numbers.</p></noscript>
{body}
</main>
</body>
</html>
"""


def table_html(caption: str, columns: Iterable[str], bodies: Iterable[str], *, large: bool) -> str:
    """Return a table for a page.

    Args:
        caption: What it shows.
        columns: Their titles.
        bodies: Its `tbody` elements.
        large: Whether it scrolls sideways on narrow screens.
    """
    size = ' class="large"' if large else ""
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}"><table{size}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead>{''.join(bodies)}</table></div>"
    )


def figure_html(figure: go.Figure, name: str, alt: str) -> str:
    """Return a figure for a page, whose colours it takes from now on.

    Args:
        figure: What is drawn; it is changed.
        name: Its id in the page.
        alt: What it shows, in words.
    """
    clear, bare = "rgba(0,0,0,0)", {"layout": {"xaxis": {"ticks": ""}, "yaxis": {"ticks": ""}}}
    figure.update_layout(template=bare, paper_bgcolor=clear, plot_bgcolor=clear)
    div = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False, "responsive": True}
    )
    return f'<figure role="group" aria-label="{escape(alt)}">{div}</figure>'
