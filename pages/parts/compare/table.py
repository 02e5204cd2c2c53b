"""The table of a comparison in the layout of the paper's Table 1, with what is larger than the noise marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import starmap
from typing import Any

import pandas as pd
import streamlit as st

from analysis.comparison.columns import Column
from analysis.comparison.table import Comparison
from analysis.export.comparison import IS_DAMAGED, NO_SIGNAL, SIDES, number, signed, tasks
from analysis.export.files import NOTHING
from mrd_core.evaluation.soundness import DAMAGE_MARK, RULE
from pages.shell.downloads import csv_download
from pages.shell.notices import bullets
from pages.shell.terms import linked

BETTER, WORSE = "▲", "▼"
GOOD_ENDS = {"high": "↑", "low": "↓", "half": "→½", "zero": "→0"}
GOOD_WORDS = {"high": "high", "low": "low", "half": "one half", "zero": "zero"}
# The text's own colour, faint, is a line in either theme. The first column stays while the others scroll.
STYLE = """<style>
.compare-table { overflow-x: auto; }
.compare-table table { border-collapse: collapse; width: 100%; font-size: .85rem; }
.compare-table th, .compare-table td { padding: .35rem .45rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); vertical-align: top; }
.compare-table thead th { font-weight: 600; vertical-align: bottom; white-space: normal; }
.compare-table thead th[title] { cursor: help; }
.compare-table thead tr:first-child th { text-align: center; font-weight: 400; opacity: .8; }
.compare-table .first { border-left: 1px solid color-mix(in srgb, currentColor 30%, transparent); }
.compare-table tr > :first-child { position: sticky; left: 0; background: light-dark(#FFFFFF, #10151B); }
.compare-table tbody th { text-align: left; font-weight: 600; min-width: 6rem; max-width: 14rem;
  white-space: normal; overflow-wrap: anywhere; }
.compare-table small { display: block; opacity: .7; font-weight: 400; font-size: .75rem; }
.compare-table .quiet { opacity: .6; }
.compare-table .mark { padding-left: .15rem; font-size: .7rem; }
</style>"""


def show(comparison: Comparison) -> None:
    """Show what leads, completeness, utility and their averages, then what is beside, and what differs."""
    st.html(STYLE)
    main = [column for column in comparison.columns if column.side != "other"]
    beside = [column for column in comparison.columns if column.side == "other"]
    if main:
        st.html(as_html(comparison, main, "What leads, completeness, utility and their averages"))
    if beside:
        st.html(as_html(comparison, beside, "Measures beside, which are in no average"))
    st.caption(linked(_legend(comparison)))
    differences = comparison.differences[comparison.differences["against"] != comparison.baseline]
    # What each order of the samples changes beside the same method drawn uniformly.
    titles = {column.key: column.title for column in comparison.columns}
    lines = [
        f"<b>{escape(str(group))}</b> beside {escape(str(against))}: {'; '.join(_findings(rows, titles))}."
        for (group, against), rows in differences.groupby(["group", "against"], sort=False)
    ]
    if lines:
        st.html(bullets(lines))
    if len(asked := tasks(comparison)):
        st.dataframe(asked, hide_index=True, alt="Tasks of lm-evaluation-harness, mean ± sd over the seeds")
        st.caption("Tasks of lm-evaluation-harness. Which samples they asked is not known here.")
    _columns(comparison)


def as_html(comparison: Comparison, columns: Sequence[Column], caption: str) -> str:
    """Return a table as HTML: a row per group, columns under their sides. Every text is escaped."""
    cells = {(cell["group"], cell["column"]): cell for _, cell in comparison.cells.iterrows()}
    marks = _marks(comparison)
    sides = Counter(column.side for column in columns)
    # A line stands before the first column of each side.
    before = [None, *(column.side for column in columns)]
    edges = ["first" if column.side != side else "" for column, side in zip(columns, before, strict=False)]
    heads = "".join(
        f'<th scope="colgroup" colspan="{count}" class="first">{SIDES[side]}</th>' for side, count in sides.items()
    )
    titles = "".join(
        f'<th scope="col" class="{edge}" title="{escape(column.help)}">{escape(column.title)}'
        f"{'' if column.signal else NO_SIGNAL} {GOOD_ENDS[column.good]}</th>"
        for column, edge in zip(columns, edges, strict=True)
    )
    rows = []
    for group in comparison.groups:
        keys = [(group.label, column.key) for column in columns]
        row = zip([cells[key] for key in keys], columns, [marks.get(key, "") for key in keys], edges, strict=True)
        rows.append(f"<tr>{_row_head(group, comparison)}{''.join(starmap(_cell, row))}</tr>")
    return (
        f'<div class="compare-table" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<thead><tr><td></td>{heads}</tr><tr><td></td>{titles}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row_head(group: Any, comparison: Comparison) -> str:
    seeds = f"{len(group.runs)} seeds" if len(group.runs) > 1 else ""
    below = "baseline" if group.is_baseline and len(comparison.groups) > 1 else ""
    note = ", ".join(filter(None, (below, seeds)))
    return f'<th scope="row">{escape(group.label)}{f"<small>{note}</small>" if note else ""}</th>'


def _cell(cell: pd.Series, column: Column, mark: str, edge: str) -> str:
    classes = " ".join(filter(None, (edge, "" if column.signal else "quiet")))
    undefined = f"{cell['undefined']:.0f} samples without a value" if cell["undefined"] else ""
    spread = "" if pd.isna(cell["sd"]) else f" ± {number(column, cell['sd'])}"
    figure, interval = number(column, cell["mean"]) + spread, "&nbsp;"
    if not (pd.isna(cell["low"]) or pd.isna(cell["high"])):
        interval = f"{number(column, cell['low'])} to {number(column, cell['high'])}"
    if words := escape(str(cell["caution"])):
        mark += f'<span class="mark" role="img" aria-label="{words}" title="{words}">{DAMAGE_MARK}</span>'
    return f'<td class="{classes}" title="{undefined}">{figure}{mark}<small>{interval}</small></td>'


def _marks(comparison: Comparison) -> dict[tuple[str, str], str]:
    """Return the mark of each cell that differs from the baseline by more than the noise."""
    marks = {}
    differences = comparison.differences
    is_marked = (differences["against"] == comparison.baseline) & differences["marked"].astype(bool)
    for row in differences[is_marked].to_dict("records"):
        words, sign = ("better", BETTER) if row["better"] else ("worse", WORSE)
        words += " than the baseline"
        marks[str(row["group"]), str(row["column"])] = (
            f'<span class="mark" role="img" aria-label="{words}" title="{words}">{sign}</span>'
        )
    return marks


def _legend(comparison: Comparison) -> str:
    spread = " ± standard deviation over seeds" if comparison.cells["sd"].notna().any() else ""
    sentence = (
        f"Mean{spread}, below it the 95 % interval over samples. ↑ high is good, ↓ low is good, "
        "→½ one half is good, →0 zero is good."
    )
    if len(comparison.groups) > 1:
        sentence += (
            f" {BETTER} better and {WORSE} worse than the baseline by more than the noise: in pairs of samples "
            "and seeds, p < 0.05 after Holm’s correction over the columns."
        )
    if not all(column.signal for column in comparison.columns):
        sentence += f" {NO_SIGNAL} no signal: the baseline knows nothing there, so it is in no average."
    if (comparison.cells["caution"] != "").any():
        sentence += f" {DAMAGE_MARK} {IS_DAMAGED}. {RULE}"
    return sentence


def _findings(rows: pd.DataFrame, titles: dict[str, str]) -> Iterable[str]:
    """Yield as HTML the differences that are marked, or that none is, and what could not be tested."""
    untested = rows["p"].isna()
    for row in rows[rows["marked"]].to_dict("records"):
        sign, title = BETTER if row["better"] else WORSE, escape(titles[str(row["column"])])
        interval = f"(95 % from {signed(row['low'])} to {signed(row['high'])})"
        yield f"{sign} {title} {signed(row['difference'])} {interval}"
    if not rows["marked"].any() and not untested.all():
        yield "nothing is larger than the noise"
    if untested.any():
        yield f"not enough values: {', '.join(escape(titles[key]) for key in rows.loc[untested, 'column'])}"


def _columns(comparison: Comparison) -> None:
    columns, differences = comparison.columns, comparison.differences
    with st.expander("What the columns say", icon=":material/help:"):
        about = {
            "Column": [column.title for column in columns],
            "Side": [SIDES[column.side] for column in columns],
            "Good": [GOOD_WORDS[column.good] for column in columns],
            "What it says": [column.help for column in columns],
        }
        st.dataframe(pd.DataFrame(about), hide_index=True, alt="Every column with what it says")
    place = st.expander("All differences", icon=":material/table:", key="compare_differences", on_change="rerun")
    if place.open and len(differences):
        with place:
            st.dataframe(differences, hide_index=True, placeholder=NOTHING, alt="Every difference with its noise")
            csv_download(differences, "differences", "Differences (CSV)")
    elif place.open:
        place.caption("One setting alone differs from nothing.")
