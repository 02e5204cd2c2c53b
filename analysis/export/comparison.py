"""A comparison in words and files: data, and a table in three forms from one formatted frame."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.comparison.columns import COMPLETENESS, FORGET_QUALITY, LEADING, UTILITY, Column
from analysis.comparison.long import BEYOND_NOISE, MEANINGS, WITHOUT_SIGNAL, long
from analysis.comparison.strata import DIFFERENCE, INTERACTION
from analysis.comparison.table import Comparison, with_columns
from analysis.difficulty import EASY, HARD
from analysis.export.files import (
    NOTHING,
    csv_file,
    json_file,
    markdown_table,
    markdown_text,
    records,
)
from mrd_core.evaluation.soundness import DAMAGE_MARK

Form = Literal["plain", "markdown", "latex"]

BY_BASELINE, BY_PARTNER, NO_SIGNAL = "*", "‡", "†"
IS_DAMAGED = "the model is damaged, and a high forget quality is no good sign"
GROUP, RUNS = "Setting", "Runs"
SIDES: Mapping[str, str] = {
    LEADING: "Leading",
    COMPLETENESS: "Completeness",
    UTILITY: "Utility",
    "mean": "Averages",
    "other": "Beside",
}
_LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", BY_BASELINE: r"$^{*}$", BY_PARTNER: r"$^{\ddagger}$"},
    DAMAGE_MARK: r"$^{\S}$",
    **{NO_SIGNAL: r"$^{\dagger}$", "<": r"\textless{}", ">": r"\textgreater{}", "’": "'", "Σ": r"$\Sigma$"},
    **{"→": r"$\rightarrow$", "ρ": r"$\rho$", "σ": r"$\sigma$"},
}


@overload
def table(
    comparison: Comparison, form: Literal["plain"] = "plain", *, intervals: bool = False
) -> pd.DataFrame: ...
@overload
def table(comparison: Comparison, form: Literal["markdown", "latex"], *, intervals: bool = False) -> str: ...
def table(comparison: Comparison, form: Form = "plain", *, intervals: bool = False) -> pd.DataFrame | str:
    """Return the table: a row per group, its columns as Table 1 of Feng et al. has them, every cell text.

    A cell is the mean and ± the spread over seeds, "–" without a value; of forget quality the median. What the
    marks say is in `legend`.

    Args:
        comparison: What was found.
        form: A frame (plain), or text: Markdown or LaTeX (booktabs).
        intervals: Whether each cell has its 95 % interval over samples.
    """
    cells = comparison.cells
    keys = list(zip(cells["group"], cells["column"], strict=True))
    names = ("mean", "sd", "low", "high")
    means, spreads, lows, highs = (dict(zip(keys, cells[name], strict=True)) for name in names)
    marks = _marks(comparison)
    rows: list[dict[str, str]] = []
    for group in comparison.groups:
        row = {GROUP: group.label, RUNS: str(len(group.runs))}
        for column in comparison.columns:
            key = (group.label, column.key)
            spread = f" ± {number(column, spreads[key])}" if np.isfinite(spreads[key]) else ""
            interval = ""
            if intervals and np.isfinite(lows[key]) and np.isfinite(highs[key]):
                interval = f" [{number(column, lows[key])}, {number(column, highs[key])}]"
            row[heading(column)] = number(column, means[key]) + spread + interval + marks.get(key, "")
        rows.append(row)
    frame = pd.DataFrame(rows, columns=[GROUP, RUNS, *map(heading, comparison.columns)])
    if form == "plain":
        return frame
    text = legend(comparison, intervals=intervals)
    if form == "latex":
        return _latex(comparison, frame, text)
    return f"{markdown_table(frame)}\n{markdown_text(text)}\n"


def legend(comparison: Comparison, *, intervals: bool = False) -> str:
    """Return what the marks of the table say, in a line."""
    clauses = ["mean ± spread over seeds" + (" [95 % over samples]" if intervals else "")]
    if any(column.key == FORGET_QUALITY for column in comparison.columns):
        clauses.append("forget quality: median over seeds")
    if len(comparison.groups) > 1:
        clauses.append(f"{BY_BASELINE} differs from {comparison.baseline} {BEYOND_NOISE}")
    if (comparison.differences["against"] != comparison.baseline).any():
        clauses.append(f"{BY_PARTNER} so does it from the same method with uniform sampling")
    if not all(column.signal for column in comparison.columns):
        clauses.append(f"{NO_SIGNAL} {WITHOUT_SIGNAL}")
    if (comparison.cells["caution"] != "").any():
        clauses.append(f"{DAMAGE_MARK} {IS_DAMAGED}")
    return "; ".join(clauses) + "."


def data_csv(comparison: Comparison) -> bytes:
    """Return all figures of a comparison as the content of a CSV file, see `analysis.comparison.long`."""
    return csv_file(long(comparison))


def data_parquet(comparison: Comparison) -> bytes:
    """Return the same as the content of a Parquet file, with what a reader must know in its schema.

    Each field has its `meaning`; the schema has under `mrd_comparison` a JSON object: baseline, columns (what each
    of `column` says), marks, notes.
    """
    about = {
        "baseline": comparison.baseline,
        "columns": {column.key: column.help for column in comparison.columns},
        "marks": {"marked": f"differs {BEYOND_NOISE}", "note": legend(comparison)},
        "notes": comparison.notes,
    }
    rows = pa.Table.from_pandas(long(comparison), preserve_index=False)
    fields = [field.with_metadata({"meaning": MEANINGS[field.name]}) for field in rows.schema]
    metadata = (rows.schema.metadata or {}) | {b"mrd_comparison": json.dumps(about, ensure_ascii=False).encode()}
    content = io.BytesIO()
    pq.write_table(rows.cast(pa.schema(fields, metadata)), content)
    return content.getvalue()


def by_difficulty(strata: pd.DataFrame, title: str) -> list[str]:
    """Return in sentences which changes differ between hard and easy samples, and of which that is not known.

    Args:
        strata: See `analysis.comparison.strata.by_stratum`.
        title: Of its metric.
    """
    rows = strata[strata["part"] == INTERACTION]
    tested = rows["p"].notna()
    sentences = []
    row: Any  # Named as the columns are, which no type says.
    for row in rows[rows["marked"]].itertuples():
        pair = (strata["group"] == row.group) & (strata["against"] == row.against)
        changes = strata[pair & (strata["part"] == DIFFERENCE)].set_index("stratum")["value"]
        sentences.append(
            f"{_pair(row)}: {title} changes by {signed(changes[HARD])} on hard and {signed(changes[EASY])} on "
            f"easy samples (difference {signed(row.value)}, 95 % from {signed(row.low)} to {signed(row.high)})."
        )
    for beginning, pairs in (
        ("Hard and easy samples are not known to change differently", rows[tested & ~rows["marked"]]),
        ("Not enough values to tell whether hard and easy samples change differently", rows[~tested]),
    ):
        if len(pairs):
            sentences.append(f"{beginning}: {'; '.join(map(_pair, pairs.itertuples()))}.")
    return sentences


def tasks(comparison: Comparison) -> pd.DataFrame:
    """Return what tasks of lm-evaluation-harness gave, a row per task and metric, every cell text.

    Columns: Task, Metric, and for each group, by its label, the mean ± the spread over seeds.
    """
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    for group in comparison.groups:
        for run in group.runs:
            for task, metrics in (run.harness or {}).items():
                for metric, value in metrics.items():
                    scores.setdefault((task, metric), {}).setdefault(group.label, []).append(value)
    labels, rows = [group.label for group in comparison.groups], []
    for names, by_group in scores.items():
        cells = dict.fromkeys(labels, NOTHING)
        for label, each in by_group.items():
            # A broken model has no number of a task.
            if not (values := [value for value in each if np.isfinite(value)]):
                continue
            spread = f" ± {_decimals(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
            cells[label] = _decimals(float(np.mean(values))) + spread
        rows.append((*names, *cells.values()))
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
    tables = comparison.frames | frames
    return {
        "baseline": comparison.baseline,
        "groups": groups,
        "columns": [column.__dict__ for column in comparison.columns],
        **{name: records(frame) for name, frame in tables.items()},
        "notes": list(comparison.notes),
    }


def exports(
    comparison: Comparison,
    columns: Sequence[str] = (),
    *,
    intervals: bool = False,
    **frames: pd.DataFrame,
) -> Mapping[str, Callable[[], bytes]]:
    """Return for each file name what makes its content.

    Args:
        comparison: What was found.
        columns: Of the tables in Markdown and LaTeX; by default all.
        intervals: Whether their cells have intervals.
        frames: Become CSV files under their names.
    """
    tables, chosen = comparison.frames | frames, with_columns(comparison, columns)
    return {
        "comparison.csv": lambda: data_csv(comparison),
        "comparison.parquet": lambda: data_parquet(comparison),
        "table.md": lambda: table(chosen, "markdown", intervals=intervals).encode(),
        "table.tex": lambda: table(chosen, "latex", intervals=intervals).encode(),
        **{f"{name}.csv": partial(csv_file, frame) for name, frame in tables.items()},
        "comparison.json": lambda: json_file(comparison_json(comparison, **frames)),
    }


def heading(column: Column) -> str:
    """Return what a column is called in a table, marked where the baseline has no signal."""
    return column.title if column.signal else f"{column.title}{NO_SIGNAL}"


def _pair(row: Any) -> str:
    return f"{row.group} beside {row.against}"


def _decimals(value: float) -> str:
    return _minus(f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _marks(comparison: Comparison) -> dict[tuple[str, str], str]:
    """Return the marks of each cell: one for a difference from the baseline, one for that from the partner."""
    marks: dict[tuple[str, str], str] = {}
    marked = comparison.differences[comparison.differences["marked"]]
    for group, column, against in zip(marked["group"], marked["column"], marked["against"], strict=True):
        mark = BY_BASELINE if against == comparison.baseline else BY_PARTNER
        marks[group, column] = marks.get((group, column), "") + mark
    doubted = comparison.cells[comparison.cells["caution"] != ""]
    for group, column in zip(doubted["group"], doubted["column"], strict=True):
        marks[group, column] = marks.get((group, column), "") + DAMAGE_MARK
    return marks


def _latex(comparison: Comparison, frame: pd.DataFrame, marks: str) -> str:
    # Above the titles a row names the sides; rules below it span their columns.
    heads, rules, at = [" ", " "], [], 3
    for side, title in SIDES.items():
        count = sum(column.side == side for column in comparison.columns)
        if count:
            heads.append(rf"\multicolumn{{{count}}}{{c}}{{{title}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + count - 1}}}")
            at += count
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (frame.shape[1] - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        " ".join(rules),
        _latex_row(list(map(str, frame))),
        r"\midrule",
        *(_latex_row(row) for row in frame.to_numpy().tolist()),
        r"\bottomrule",
        rf"\multicolumn{{{frame.shape[1]}}}{{l}}{{\footnotesize {_latex_text(marks)}}} \\",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex_text, cells)) + r" \\"


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
