"""A comparison in words and files: its table in four forms from one formatted frame, and a page with figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.comparison.columns import COMPLETENESS, FORGET_QUALITY, UTILITY
from analysis.comparison.strata import DIFFERENCE, INTERACTION
from analysis.comparison.table import Column, Comparison
from analysis.difficulty import EASY, HARD
from analysis.export.report import document
from mrd_core.runs.files import json_value, write_atomically

Form = Literal["plain", "markdown", "latex", "csv"]

NOTHING = "–"
BY_BASELINE, BY_PARTNER, NO_SIGNAL = "*", "‡", "†"
GROUP, RUNS = "Setting", "Runs"
_OWN_STYLE = "figure .gtitle-subtitle { fill: var(--soft) !important; }"
SIDES: Mapping[str, str] = {
    COMPLETENESS: "Completeness",
    UTILITY: "Utility",
    "mean": "Averages",
    "other": "Beside",
}
_LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", BY_BASELINE: r"$^{*}$", BY_PARTNER: r"$^{\ddagger}$"},
    **{NO_SIGNAL: r"$^{\dagger}$", "<": r"\textless{}", ">": r"\textgreater{}", "’": "'", "Σ": r"$\Sigma$"},
    **{"→": r"$\rightarrow$", "ρ": r"$\rho$", "σ": r"$\sigma$"},
}


@overload
def table(comparison: Comparison, form: Literal["plain"] = "plain") -> pd.DataFrame: ...
@overload
def table(comparison: Comparison, form: Literal["markdown", "latex", "csv"]) -> str: ...
def table(comparison: Comparison, form: Form = "plain") -> pd.DataFrame | str:
    """Return the table: a row per group, its columns as Table 1 of Feng et al. has them, every cell text.

    A cell is the mean and ± the spread over seeds, "–" without a value; of forget quality the median. What the
    marks say is in `legend`.

    Args:
        comparison: What was found.
        form: A frame (plain), or text: Markdown, LaTeX (booktabs) or CSV.
    """
    frame = _formatted(comparison)
    if form == "plain":
        return frame
    return {"markdown": _markdown, "latex": _latex, "csv": _csv}[form](comparison, frame)


def legend(comparison: Comparison) -> str:
    """Return what the marks of the table say, in a line."""
    said = ["mean ± spread over seeds"]
    if any(column.key == FORGET_QUALITY for column in comparison.columns):
        said.append("forget quality: median over seeds")
    if len(comparison.groups) > 1:
        said.append(f"{BY_BASELINE} differs from {comparison.baseline} by more than the noise (95 %, Holm)")
    if (comparison.differences["against"] != comparison.baseline).any():
        said.append(f"{BY_PARTNER} so does it from the same method with uniform sampling")
    if not all(column.signal for column in comparison.columns):
        said.append(f"{NO_SIGNAL} no signal in the baseline, in no mean")
    return "; ".join(said) + "."


def by_difficulty(strata: pd.DataFrame, title: str) -> list[str]:
    """Return in sentences which changes differ between hard and easy samples, and of which that is not known.

    Args:
        strata: See `analysis.comparison.strata.by_stratum`.
        title: Of its metric.
    """
    rows = strata[strata["part"] == INTERACTION]
    tested = rows["p"].notna()
    said = [_contrast(row, strata, title) for row in rows[rows["marked"]].itertuples()]
    for kind, found in (
        ("Hard and easy samples are not known to change differently", rows[tested & ~rows["marked"]]),
        ("Not enough values to tell whether hard and easy samples change differently", rows[~tested]),
    ):
        if len(found):
            said.append(f"{kind}: {'; '.join(map(_pair, found.itertuples()))}.")
    return said


def tasks(comparison: Comparison) -> pd.DataFrame:
    """Return what tasks of lm-evaluation-harness gave, a row per task and metric, every cell text.

    Columns: Task, Metric, and for each group, by its label, the mean ± the spread over seeds.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for group in comparison.groups:
        for run in group.runs:
            for task, metrics in (run.harness or {}).items():
                for metric, value in metrics.items():
                    found.setdefault((task, metric), {}).setdefault(group.label, []).append(value)
    labels = [group.label for group in comparison.groups]
    rows = [
        (task, metric, *(_over_seeds(by_group.get(label, ())) for label in labels))
        for (task, metric), by_group in found.items()
    ]
    return pd.DataFrame(rows, columns=["Task", "Metric", *labels])


def number(column: Column, value: float) -> str:
    """Return a value of a column as text: three decimals, one from 10 on, and of a p-value two digits."""
    if not np.isfinite(value):
        return NOTHING
    return _minus(f"{value:.2g}") if column.key == FORGET_QUALITY else _decimals(value)


def signed(value: float) -> str:
    """Return a difference as text."""
    return _minus(f"{value:+.3f}") if np.isfinite(value) else NOTHING


def comparison_json(comparison: Comparison, **frames: pd.DataFrame) -> dict[str, Any]:
    """Return a comparison as JSON values, undefined figures None; `frames` go beside it, each a list of records.

    Keys: baseline, groups (label, seeds, runs, is_baseline), columns, settings, cells, runs, differences, costs,
    notes.
    """
    groups = [
        {
            "label": group.label,
            "seeds": list(group.seeds),
            "runs": [str(run.source) for run in group.runs],
            "is_baseline": group.is_baseline,
        }
        for group in comparison.groups
    ]
    tables = _frames(comparison) | frames
    return {
        "baseline": comparison.baseline,
        "groups": groups,
        "columns": [column.__dict__ for column in comparison.columns],
        **{name: _records(frame) for name, frame in tables.items()},
        "notes": list(comparison.notes),
    }


def page(comparison: Comparison, figures: Mapping[str, go.Figure], generated: datetime) -> str:
    """Return table, notes and figures as one HTML page that needs neither this program nor a network.

    Args:
        comparison: What was found.
        figures: By what they show, in words.
        generated: When, as the page says.
    """
    title = f"Compared with {escape(comparison.baseline)}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    settings = _html_table(comparison.settings, "Settings that differ") if len(comparison.settings) else ""
    asked = _html_table(found, "Tasks of lm-evaluation-harness") if len(found := tasks(comparison)) else ""
    drawn = "".join(_html_figure(figure, f"figure-{at}", alt) for at, (alt, figure) in enumerate(figures.items()))
    body = f"""{_html_table(table(comparison), legend(comparison))}
{asked}
{settings}
<ul>{notes}</ul>
<div class="panels">{drawn}</div>"""
    return document(title, body, generated, _OWN_STYLE)


def exports(
    comparison: Comparison, figures: Mapping[str, go.Figure], **frames: pd.DataFrame
) -> Mapping[str, Callable[[], bytes]]:
    """Return for each file name what makes its content; `frames` become CSV files under their names."""
    tables = _frames(comparison) | frames
    return {
        "table.csv": lambda: table(comparison, "csv").encode(),
        "table.md": lambda: table(comparison, "markdown").encode(),
        "table.tex": lambda: table(comparison, "latex").encode(),
        **{f"{name}.csv": _frame_csv(frame) for name, frame in tables.items()},
        "comparison.json": lambda: _json(comparison_json(comparison, **frames)),
        "report.html": lambda: page(comparison, figures, datetime.now(UTC)).encode(),
    }


def write_exports(folder: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    """Write every file into `folder`, which is made if need be; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _write(folder / name, content())


def _write(path: Path, data: bytes) -> None:
    write_atomically(path, lambda stream: stream.write(data))


def _contrast(row: Any, strata: pd.DataFrame, title: str) -> str:
    ours = (strata["group"] == row.group) & (strata["against"] == row.against) & (strata["part"] == DIFFERENCE)
    changes = strata[ours].set_index("stratum")["value"]
    return (
        f"{_pair(row)}: {title} changes by {signed(changes[HARD])} on hard and {signed(changes[EASY])} on easy "
        f"samples (difference {signed(row.value)}, 95 % from {signed(row.low)} to {signed(row.high)})."
    )


def _pair(row: Any) -> str:
    return f"{row.group} beside {row.against}"


def _decimals(value: float) -> str:
    return _minus(f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _over_seeds(values: Sequence[float]) -> str:
    if not values:
        return NOTHING
    spread = f" ± {_decimals(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
    return _decimals(float(np.mean(values))) + spread


def _formatted(comparison: Comparison) -> pd.DataFrame:
    means, spreads = (_by_cell(comparison.cells, name) for name in ("mean", "sd"))
    marks = _marks(comparison)
    rows: list[dict[str, str]] = []
    for group in comparison.groups:
        row = {GROUP: group.label, RUNS: str(len(group.runs))}
        for column in comparison.columns:
            key = (group.label, column.key)
            row[_title(column)] = _cell(column, means[key], spreads[key]) + marks.get(key, "")
        rows.append(row)
    return pd.DataFrame(rows, columns=[GROUP, RUNS, *map(_title, comparison.columns)])


def _by_cell(frame: pd.DataFrame, name: str) -> dict[tuple[str, str], Any]:
    """Return what a column of a frame has for each group and column of the comparison."""
    return dict(zip(zip(frame["group"], frame["column"], strict=True), frame[name], strict=True))


def _marks(comparison: Comparison) -> dict[tuple[str, str], str]:
    """Return the marks of each cell: one for a difference from the baseline, one for that from the partner."""
    found: dict[tuple[str, str], str] = {}
    marked = comparison.differences[comparison.differences["marked"]]
    for group, column, against in zip(marked["group"], marked["column"], marked["against"], strict=True):
        mark = BY_BASELINE if against == comparison.baseline else BY_PARTNER
        found[group, column] = found.get((group, column), "") + mark
    return found


def _title(column: Column) -> str:
    return column.title if column.signal else f"{column.title}{NO_SIGNAL}"


def _cell(column: Column, mean: float, sd: float) -> str:
    spread = f" ± {number(column, sd)}" if np.isfinite(sd) else ""
    return number(column, mean) + spread


def _markdown(comparison: Comparison, frame: pd.DataFrame) -> str:
    rows: list[list[str]] = [
        list(map(str, frame)),
        ["---", *["---:"] * (frame.shape[1] - 1)],
        *frame.to_numpy().tolist(),
    ]
    lines = [f"| {' | '.join(map(_markdown_cell, row))} |" for row in rows]
    return "\n".join([*lines, "", _markdown_cell(legend(comparison)), ""])


def _markdown_cell(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
    return escape(escaped, quote=False)


def _latex(comparison: Comparison, frame: pd.DataFrame) -> str:
    head, rules = _latex_sides(comparison.columns)
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (frame.shape[1] - 1)}}}",
        r"\toprule",
        head,
        rules,
        _latex_row(list(map(str, frame))),
        r"\midrule",
        *(_latex_row(row) for row in frame.to_numpy().tolist()),
        r"\bottomrule",
        rf"\multicolumn{{{frame.shape[1]}}}{{l}}{{\footnotesize {_latex_text(legend(comparison))}}} \\",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_sides(columns: Sequence[Column]) -> tuple[str, str]:
    """Return the row above the titles, which names the sides, and the rules below it."""
    cells, rules, at = [" ", " "], [], 3
    for side, title in SIDES.items():
        count = sum(column.side == side for column in columns)
        if count:
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{title}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + count - 1}}}")
            at += count
    return " & ".join(cells) + r" \\", " ".join(rules)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex_text, cells)) + r" \\"


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _csv(comparison: Comparison, frame: pd.DataFrame) -> str:  # noqa: ARG001  (every form takes the same)
    text: str = frame.to_csv(index=False)
    return text


def _frames(comparison: Comparison) -> dict[str, pd.DataFrame]:
    return {
        "settings": comparison.settings,
        "cells": comparison.cells,
        "runs": comparison.runs,
        "differences": comparison.differences,
        "costs": comparison.costs,
    }


def _frame_csv(frame: pd.DataFrame) -> Callable[[], bytes]:
    return lambda: frame.to_csv(index=False).encode()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
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


def _html_table(frame: pd.DataFrame, caption: str) -> str:
    heads = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in frame)
    rows = (
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{_html_cell(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in frame.to_numpy().tolist()
    )
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="large">'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _html_cell(text: str) -> str:
    """Return a cell in which a value stays beside its spread."""
    return escape(text).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _html_figure(figure: go.Figure, name: str, alt: str) -> str:
    """Return a copy of a figure that takes its colours from the page."""
    clear, bare = "rgba(0,0,0,0)", {"layout": {"xaxis": {"ticks": ""}, "yaxis": {"ticks": ""}}}
    shown = go.Figure(figure).update_layout(template=bare, paper_bgcolor=clear, plot_bgcolor=clear)
    div = shown.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False, "responsive": True}
    )
    return f'<figure role="group" aria-label="{escape(alt)}">{div}</figure>'
