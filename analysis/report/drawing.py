"""The charts of a report as SVG, which prints sharply and needs no script. The same chart has the same bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures import theme
from analysis.report.content import Cell, Chart, Interval, Table

# In inches: as wide as the text of a page.
WIDTH, HEIGHT, ROW, AROUND = 7.0, 2.7, 0.27, 0.75
# What a legend has beside one another, the rows of it that the height has room for, and the height of one more.
SIDE_BY_SIDE, ROOM, LEGEND_ROW = 2, 2, 0.16
MOST_POINTS = 800
LABEL_WIDTH = 44
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mrd-lens",
    # A `$` in the name of a sample is no formula.
    "text.parse_math": False,
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": theme.GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": "#3c4650",
    "ytick.color": "#3c4650",
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
}
# Its settings are those of the process, and sessions of the app share it.
_ALONE = Lock()
# What nothing in the picture points to; of several pictures on a page these would be alike.
_UNUSED = re.compile(r'\s(?:id="[A-Za-z]+_\d+"|xmlns(?::xlink)?="[^"]*")')


def svg(chart: Chart, table: Table) -> str:
    """Return a chart, drawn from its table, as an element for a page; "" where there is nothing to draw."""
    return _picture(chart.model_dump_json(), table.model_dump_json())


def svg_file(chart: Chart, table: Table) -> bytes:
    """Return a chart as a file of its own, on white: what it is put into may be dark; empty as `svg`."""
    head, end, drawn = svg(chart, table).partition(">")
    if not end:
        return b""
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    paper = f'<title>{escape(chart.title)}</title><rect width="100%" height="100%" fill="#fff"/>'
    return f"{head.replace('<svg', f'<svg {spaces}')}>{paper}{drawn}\n".encode()


# A report that is checked, or made once more without texts, has the same charts.
@lru_cache(maxsize=64)
def _picture(of_chart: str, of_table: str) -> str:
    # Takes half a second to load, and most of the program draws nothing with it.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    chart, table = Chart.model_validate_json(of_chart), Table.model_validate_json(of_table)
    with _ALONE, mpl.rc_context(STYLE):
        rows = dict(list(table.rows.items())[: chart.most]) if chart.form == "forest" else table.rows
        height = AROUND + ROW * len(rows) if chart.form == "forest" else HEIGHT
        figure = Figure((WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        if not DRAW[chart.form](axes, chart, table.model_copy(update={"rows": rows})):
            return ""
        if legend := axes.get_legend():
            rows_above = math.ceil(len(legend.get_texts()) / SIDE_BY_SIDE)
            figure.set_figheight(height + LEGEND_ROW * max(0, rows_above - ROOM))
        file = io.StringIO()
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    picture = file.getvalue()
    return _UNUSED.sub("", picture[picture.index("<svg") :]).replace("\n", "")


def _forest(axes: Any, chart: Chart, table: Table) -> int:
    """Draw a line a row with the intervals of each series, the first row on top."""
    names, drawn = list(table.rows), 0
    labels = [theme.shortened(table.titles.get(name, name), LABEL_WIDTH) for name in names]
    for at, column in enumerate(chart.y):
        shift = (at - (len(chart.y) - 1) / 2) * 0.28
        values = pd.DataFrame(
            [_ends(table.rows[name].get(column)) for name in names], columns=["value", "low", "high"]
        )
        places = np.arange(len(names)) + shift
        colour, marker = theme.COLOURS[at], "os"[at % 2]
        axes.hlines(places, values["low"], values["high"], color=colour, linewidth=1.3)
        axes.plot(values["value"], places, marker, color=colour, markersize=4, label=table.columns[column].title)
        drawn += int(values["value"].notna().sum())
    axes.axvline(0, color=theme.GREY, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(chart.unit)
    _explain(axes, len(chart.y))
    return drawn


def _ranked(axes: Any, chart: Chart, table: Table) -> int:
    """Draw values with their intervals along their order."""
    (column,) = chart.y
    rows = [(row.get(chart.x), *_ends(row.get(column))) for row in table.rows.values()]
    frame = pd.DataFrame(rows, columns=["x", "value", "low", "high"]).dropna(subset=["x", "value"])
    values = theme.evenly(frame, MOST_POINTS)
    axes.vlines(values["x"], values["low"], values["high"], color="#b9cfe0", linewidth=0.9)
    axes.plot(values["x"], values["value"], ".", color=theme.BLUE, markersize=3)
    axes.set_yscale(theme.axis_type(values["value"]))
    _name(axes, chart, table)
    return len(values)


def _points(axes: Any, chart: Chart, table: Table) -> int:
    """Draw a point a row."""
    drawn = 0
    for label, group, style in _grouped(chart, table):
        shown = theme.evenly(group, MOST_POINTS)
        axes.plot(shown["x"], shown["y"], style.symbol, color=style.colour, markersize=4, alpha=0.75, label=label)
        drawn += len(shown)
    _scale(axes, chart, table)
    _name(axes, chart, table)
    _explain(axes, len(axes.lines))
    if chart.has_diagonal and drawn:
        ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
        axes.plot(ends, ends, ":", color=theme.GREY, linewidth=1)
    return drawn


def _curves(axes: Any, chart: Chart, table: Table) -> int:
    """Draw a line a group, or several that look alike."""
    drawn = 0
    for label, group, style in _grouped(chart, table):
        for at, (_, line) in enumerate(group.groupby("line", sort=False)):
            name = label if at == 0 else None
            axes.plot(line["x"], line["y"], color=style.colour, linestyle=style.dash, linewidth=1.4, label=name)
        drawn += len(group)
    _scale(axes, chart, table)
    _name(axes, chart, table)
    _explain(axes, 1 + len(axes.lines))
    return drawn


DRAW = {"forest": _forest, "ranked": _ranked, "points": _points, "curves": _curves}
_SYMBOLS = {"circle": "o", "diamond": "D", "square": "s", "triangle-down": "v"}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def _grouped(chart: Chart, table: Table) -> Iterator[tuple[str, pd.DataFrame, theme.Style]]:
    """Yield the rows of each group with its name and its looks."""
    (column,) = chart.y
    rows = [
        (
            row.get(chart.x),
            _value(row.get(column)),
            *(str(row.get(name, "")) for name in (chart.group, chart.line)),
        )
        for row in table.rows.values()
    ]
    frame = pd.DataFrame(rows, columns=["x", "y", "group", "line"]).dropna()
    looks = theme.styles(frame["group"])
    for name, group in frame.groupby("group", sort=False):
        style = looks[str(name)]
        yield str(name), group, style._replace(symbol=_SYMBOLS[style.symbol], dash=_DASHES[style.dash])


def _scale(axes: Any, chart: Chart, table: Table) -> None:
    """Make axes logarithmic that span decades; both or neither where they are held against each other."""
    x, y = (
        pd.Series([_value(row.get(column)) for row in table.rows.values()], dtype=np.float64).dropna()
        for column in (chart.x, chart.y[0])
    )
    if chart.has_diagonal:
        x = y = pd.concat([x, y])
    axes.set_xscale(theme.axis_type(x))
    axes.set_yscale(theme.axis_type(y))


def _name(axes: Any, chart: Chart, table: Table) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    along = np.array([_value(row.get(chart.x)) for row in table.rows.values()])
    if axes.get_xscale() == "linear" and (along[np.isfinite(along)] % 1 == 0).all():
        # There is no selection and a half.
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(table.columns[chart.x].title)
    axes.set_ylabel(chart.unit)
    for axis in (axes.xaxis, axes.yaxis):
        # The library would write powers as formulas.
        axis.set_major_formatter(FuncFormatter(lambda value, _place: _in_figures(value)))
        axis.set_minor_formatter(NullFormatter())


def _in_figures(value: float) -> str:
    """Return a number as 40, 0.05 or 2.5e6."""
    text = f"{value:.3g}" if abs(value) >= 100_000 else f"{value:g}"
    return re.sub(r"e\+?(-?)0*", r"e\1", text).replace("-", "−")


def _explain(axes: Any, series: int) -> None:
    if series > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=SIDE_BY_SIDE, fontsize=7.5)


def _ends(cell: Cell) -> Sequence[float]:
    """Return a cell as value, low and high; NaN where undefined."""
    if isinstance(cell, Interval):
        return [np.nan if each is None else each for each in (cell.value, cell.low, cell.high)]
    value = _value(cell)
    return [value, value, value]


def _value(cell: Cell) -> float:
    value = cell.value if isinstance(cell, Interval) else cell
    return float(value) if isinstance(value, int | float) else np.nan
