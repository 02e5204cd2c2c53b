"""A report as one page that opens and prints anywhere: no script, no network, figures as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from analysis.report.content import Chart, Interval, Report, Section, Table
from analysis.report.drawing import svg
from analysis.report.wording import head_of, listed_runs, shown_rows
from analysis.verdict import State

STYLE = Path(__file__).with_name("report.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# Beside the word, so that colour is not all that tells them apart.
MARKS = {
    State.NOT_MEASURED: "○",
    State.HOLDS: "✓",
    State.CANNOT_TELL: "?",
    State.FAILS: "✕",
    State.DAMAGED: "✕",
}
# A cell of more characters gets room for several words a line.
WORDS = 30
# From so many columns on a table is set smaller; up to so many rows it stays on one page, and up to so many
# characters the names of rows are not broken.
WIDE, SHORT, NAME = 6, 12, 26


def html(report: Report) -> str:
    """Return the report as a page. Every text is escaped: names and samples are a stranger's."""
    title = escape(report.title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="soft">{escape(head_of(report))}</p>
{"".join(_front(report))}
{"".join(map(_section, report.sections.values()))}
{_methods(report)}
{_files(report)}
</main>
</body>
</html>
"""


def _front(report: Report) -> Iterator[str]:
    """Yield the first page: verdicts, facts, limits."""
    yield f'<p class="conclusion">{escape(report.conclusion)}</p><dl class="answers">'
    for name, answer in report.answers.items():
        state, name_of_class = f"{MARKS[answer.state]} {answer.state}", answer.state.replace(" ", "-")
        yield (
            f'<div><dt>{escape(name)}<span class="state {name_of_class}">{escape(state)}</span></dt>'
            f'<dd><span class="soft">{escape(answer.question)}</span> {escape(answer.sentence)}</dd></div>'
        )
    yield f"</dl>{_table(report.facts, 'facts')}"
    yield f"<h2>Limits</h2>{_listed(report.limits)}"
    yield f'<section class="runs"><h2>Runs</h2>{_table(listed_runs(report), "runs")}</section>'


def _section(section: Section) -> str:
    parts = []
    for part in section.parts.values():
        if isinstance(part, Chart):
            table = section.parts[part.table]
            assert isinstance(table, Table)
            parts.append(_figure(part, table))
        elif part.is_listed:
            parts.append(_table(part))
    text = "".join(f"<p>{escape(each)}</p>" for each in section.text)
    notes = f'<div class="notes">{_listed(section.notes)}</div>' if section.notes else ""
    return f"<section><h2>{escape(section.title)}</h2>{text}{''.join(parts)}{notes}</section>\n"


def _figure(chart: Chart, table: Table) -> str:
    picture = svg(chart, table)
    if not picture:
        return ""
    drawn = f'<div role="img" aria-label="{escape(chart.alt)}">{picture}</div>'
    return f"<figure><figcaption>{escape(chart.title)}</figcaption>{drawn}</figure>"


def _table(table: Table, name: str = "") -> str:
    """Return a table, its head repeated on every page that it reaches; numbers stand to the right."""
    sides = {
        key: any(isinstance(row.get(key), Interval | int | float) for row in table.rows.values())
        for key in table.columns
    }
    longest = max((len(cells[0]) for cells in shown_rows(table)), default=0)
    looks = {
        name: bool(name),
        "wide": len(table.columns) >= WIDE,
        "short": len(table.rows) <= SHORT,
        "named": longest <= NAME,
    }
    classes = " ".join(look for look, is_so in looks.items() if is_so)
    heads = "".join(
        f'<th scope="col"{_side(is_number)}>{escape(column.title)}</th>'
        for column, is_number in zip(table.columns.values(), sides.values(), strict=True)
    )
    rows = "".join(_row(cells, sides.values()) for cells in shown_rows(table))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(table.caption)}">'
        f'<table class="{classes}"><caption>{escape(table.caption)}</caption>'
        f'<thead><tr><th scope="col">{escape(table.head)}</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(cells: list[str], sides: Iterable[bool]) -> str:
    head, *rest = cells
    values = "".join(
        # A value and its interval break between the two, and nowhere else.
        f'<td class="number">{_unbroken(cell)}</td>' if is_number else f"<td{_width(cell)}>{escape(cell)}</td>"
        for cell, is_number in zip(rest, sides, strict=True)
    )
    return f'<tr><th scope="row">{escape(head)}</th>{values}</tr>'


def _unbroken(cell: str) -> str:
    value, bracket, ends = escape(cell).partition(" [")
    return f"{value} <span>[{ends}</span>" if bracket else value


def _width(cell: str) -> str:
    return ' class="words"' if len(cell) > WORDS else ""


def _side(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _listed(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def _methods(report: Report) -> str:
    methods = (
        f"<dt>{escape(each.title)}</dt><dd>{escape(each.text)}"
        + (f' <span class="soft">{escape("; ".join(each.sources))}.</span>' if each.sources else "")
        + "</dd>"
        for each in report.methods.values()
    )
    return f'<section><h2>Methods and sources</h2><dl class="methods">{"".join(methods)}</dl></section>\n'


def _files(report: Report) -> str:
    rows = (
        f"<li><span>{escape(name)}/{escape(file)}</span> <code>{escape(digest)}</code></li>"
        for name, run in report.runs.items()
        for file, digest in run.files.items()
    )
    return f'<section class="files"><h2>Files (SHA-256)</h2><ul>{"".join(rows)}</ul></section>'
