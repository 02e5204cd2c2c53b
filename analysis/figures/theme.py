"""How every figure looks: colours, marks, labels, error bars, and the frame of heading, note and legend.

Text and grid get their colours from the page that a figure stands on, light or dark, so nothing here sets them.
For the same reason this is no template of plotly: a figure has one, and Streamlit puts its own there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

# Mid-tones that stand out on white and on black and stay apart for colour-blind readers; the first five of
# chartCategoricalColors in .streamlit/config.toml.
BLUE, ORANGE, GREEN, PURPLE, GREY = COLOURS = ("#3A8FCB", "#E08A1E", "#1BA784", "#B07CC6", "#8A8F98")
# Four against five colours: twenty settings before a pair comes again.
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-down")
# Even in lightness, and far enough from white and from black to be seen on either; hard is the eye-catcher.
HARD_TO_EASY = ("#E58A36", "#CB4C7B", "#8E3FBE")
# From −1 to 1, told apart by colour-blind readers.
NEGATIVE_TO_POSITIVE = ("#1F6FA8", "#8FBFE0", "#F4F4F2", "#F0B672", "#B5620C")

NAME_WIDTH = 60
# In pixels.
HEIGHT, TWO_PANELS = 380, 480
ABOVE, BELOW, NOTE_HEIGHT, LEGEND_ROW = 61, 58, 17, 20
# The line below a title breaks where the narrowest box would cut it; an entry of the legend that is longer than a
# short one has a row of its own.
NOTE_WIDTH, SHORT_ENTRY = 64, 22
# Up to here points are drawn as vectors, which print sharply; a browser lends a page few WebGL contexts.
MOST_VECTOR_POINTS = 2000
DOTTED = {"color": GREY, "dash": "dot", "width": 1}
UNSEEN = "rgba(0,0,0,0)"
# Of the range of an axis, beyond its first and last value.
ROOM = 0.06

Values = pd.Series | npt.NDArray[np.float64]


class Style(NamedTuple):
    """How the runs of one setting are drawn."""

    colour: str
    dash: str
    symbol: str


def styles(settings: Iterable[str]) -> dict[str, Style]:
    """Return the style of each setting, by the order in which they first appear."""
    return {
        setting: Style(COLOURS[at % len(COLOURS)], DASHES[at % len(DASHES)], SYMBOLS[at % len(SYMBOLS)])
        for at, setting in enumerate(dict.fromkeys(settings))
    }


def shortened(text: str, width: int) -> str:
    """Return a text on one line, cut to `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def labelled(text: str, width: int = NAME_WIDTH) -> str:
    """Return a text cut for a label; plotly reads tags, so angle brackets are spelt out."""
    return escape(shortened(text, width), quote=False)


def with_unit(title: str, unit: str) -> str:
    """Return a title with its unit in brackets; a pure number has none."""
    return f"{title} [{unit}]" if unit else title


def axis_type(values: pd.Series[float]) -> str:
    """Return log for an axis whose values are all positive and span two decades, else linear."""
    wide = len(values) and values.min() > 0 and values.max() >= 100 * values.min()
    return "log" if wide else "linear"


def reach(values: pd.Series[float] | pd.DataFrame, kind: str = "linear", floor: float | None = None) -> Any:
    """Return from where to where an axis goes that shows these values; None without any.

    Args:
        values: What is shown.
        kind: Of the axis, linear or log, which has its ends as powers of 10.
        floor: Where it begins, if not a little before the first value.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return None
    low, high = (np.log10(flat) if kind == "log" else flat)[[np.argmin(flat), np.argmax(flat)]]
    room = ROOM * (high - low) or ROOM * max(abs(high), 1e-9)
    return [float(low - room) if floor is None else floor, float(high + room)]


def evenly(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return so many rows at most, evenly spaced, the first and the last among them."""
    return rows if len(rows) <= most else rows.iloc[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def colour_scale(colours: tuple[str, ...]) -> list[list[Any]]:
    """Return a scale through these colours, evenly spaced."""
    return [[at / (len(colours) - 1), colour] for at, colour in enumerate(colours)]


def error_bars(value: Values, low: Values, high: Values, colour: str | None = None) -> dict[str, Any]:
    """Return bars from `low` to `high`: thin and grey behind many points, or with ends given a colour."""
    look = (
        {"color": colour, "thickness": 1.5, "width": 3} if colour else {"color": GREY, "thickness": 1, "width": 0}
    )
    return {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low} | look


def matrix(cells: pd.DataFrame, text: pd.DataFrame, names: Sequence[str], hover: str, **look: Any) -> go.Figure:
    """Return a square matrix of rank correlations, its first row on top, the colours fixed to −1 … 1.

    Args:
        cells: Spearman's ρ, a row and a column for each name.
        text: What is written into the cells.
        names: As the columns are labelled.
        hover: Of a cell, in plotly's template.
        look: What else the trace is.
    """
    trace = go.Heatmap(
        z=cells.to_numpy(),
        x=names,
        y=names,
        text=text.to_numpy(),
        texttemplate="%{text}",
        zmin=-1,
        zmax=1,
        colorscale=colour_scale(NEGATIVE_TO_POSITIVE),
        hovertemplate=f"{hover}<extra></extra>",
        xgap=2,
        ygap=2,
    )
    figure = go.Figure(trace.update(look))
    figure.update_xaxes(showgrid=False)
    return figure.update_yaxes(showgrid=False, autorange="reversed")


def panels(above: str, below: str, x: str) -> go.Figure:
    """Return an empty figure of two panels over one horizontal axis, with the titles of the axes."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    figure.update_yaxes(title=above, row=1, col=1)
    figure.update_yaxes(title=below, row=2, col=1)
    return figure.update_xaxes(title=x, row=2, col=1)


def marks(
    rows: pd.DataFrame, x: str | Values, y: str | Values, about: Sequence[str], hover: str, **look: Any
) -> go.Scatter:
    """Return a mark for each row.

    Args:
        rows: What is drawn.
        x: Column of the horizontal axis, or its values.
        y: The same of the vertical axis.
        about: Columns of the customdata; the first, cut for a label, is the text as well.
        hover: Of a mark, in plotly's template.
        look: What else the trace is; `kind` is its class where it is no `go.Scatter`.
    """
    kind = look.pop("kind", go.Scatter)
    drawn = {"mode": "markers", "text": [labelled(str(name)) for name in rows[about[0]]]} | look
    return kind(
        x=rows[x] if isinstance(x, str) else x,
        y=rows[y] if isinstance(y, str) else y,
        customdata=rows[list(about)].to_numpy(object),
        hovertemplate=f"{hover}<extra></extra>",
        **drawn,
    )


def line(x: Any, y: Any, colour: str, hover: str = "", *, dash: str | None = None, **look: Any) -> go.Scatter:
    """Return a line through points.

    Args:
        x: Of the points.
        y: Of the points; None is a gap.
        colour: Of the line.
        hover: Of a point, in plotly's template; without one the line is silent.
        dash: Its pattern.
        look: What else the trace is; `width` is that of the line.
    """
    hovering = {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    stroke = {"color": colour, "dash": dash, "width": look.pop("width", 2.5)}
    return go.Scatter(x=x, y=y, line=stroke, **({"mode": "lines"} | hovering | look))


def points_of(total: int) -> Any:
    """Return the kind of trace that so many points of a figure are drawn as."""
    return go.Scatter if total <= MOST_VECTOR_POINTS else go.Scattergl


def ring(x: pd.Series[float], y: pd.Series[float], kind: Any = go.Scatter, colour: str = ORANGE) -> go.Scatter:
    """Return the ring around the sample that is selected, empty where none is."""
    marker = {"symbol": "circle-open", "size": 18, "color": colour, "line": {"width": 3}}
    return kind(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip", showlegend=False)


def identity(*values: Iterable[float]) -> go.Scatter:
    """Return the line from 0 to the greatest of the values on which both axes are equal."""
    ends = [0.0, float(np.nanmax([0.0, *(value for each in values for value in each)]))]
    return line(ends, ends, GREY, dash="dot", width=1, showlegend=False)


def framed(
    figure: go.Figure,
    heading: str,
    note: str = "",
    x: str = "",
    y: str = "",
    height: int = HEIGHT,
    *,
    fewest_entries: int = 2,
    revision: str | None = None,
) -> go.Figure:
    """Return the figure with its heading, a note below it, the titles of its axes, and the legend at its foot.

    Args:
        figure: Changed in place; its axes keep their titles where none is given.
        heading: What it shows.
        note: How to read it; breaks where it is long.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        height: Of the whole [pixels], which grows with the rows of the legend.
        fewest_entries: The legend is left out below so many.
        revision: Where it stays the same, the browser keeps what the reader has zoomed and hidden.
    """
    for update, title in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        update({"title": title} if title else {}, automargin=True, exponentformat="power")
    entries = [trace.name for trace in figure.data if trace.name and trace.showlegend is not False]
    legend, rows = _legend_below(entries) if len(entries) >= fewest_entries else ({}, 0)
    height += max(rows - 1, 0) * LEGEND_ROW
    lines = [piece for line in note.split("<br>") for piece in wrap(line, NOTE_WIDTH)]
    return figure.update_layout(
        title={
            "text": heading,
            "font_size": 15,
            "subtitle": {"text": "<br>".join(lines), "font_size": 12},
            "x": 0,
            "xanchor": "left",
            "y": 1 - 14 / height,
            "yanchor": "top",
        },
        showlegend=rows > 0,
        legend=legend,
        margin={
            "l": 8,
            "r": 8,
            "t": ABOVE + NOTE_HEIGHT * len(lines),
            "b": BELOW + rows * LEGEND_ROW if rows else 8,
        },
        height=height,
        uirevision=revision,
    )


def _legend_below(entries: list[str]) -> tuple[dict[str, Any], int]:
    """Return the legend along the lower edge and its rows, whose number does not depend on the chart's width."""
    # Beside its label an entry has a mark, so that half the width each would be too much for two. Plotly would
    # keep the width of a vertical legend free along the whole height.
    per_row, width = (1, 0.9) if max(map(len, entries)) > SHORT_ENTRY else (2, 0.4)
    place = {"xref": "container", "x": 0, "xanchor": "left", "yref": "container", "y": 0, "yanchor": "bottom"}
    entry = {"orientation": "h", "entrywidth": width, "entrywidthmode": "fraction"}
    return place | entry, -(-len(entries) // per_row)
