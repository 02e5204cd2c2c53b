"""A report as Markdown: all that the page says, but for the figures."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.export.files import markdown_table, markdown_text
from analysis.report.content import Report, Section, Table
from analysis.report.wording import head_of, listed_runs, shown_rows


def markdown(report: Report) -> str:
    """Return the report as a Markdown document."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {markdown_text(report.title)}\n"
    yield f"{markdown_text(head_of(report))}\n"
    yield f"**{markdown_text(report.conclusion)}**\n"
    for name, answer in report.answers.items():
        yield f"- **{name}: {answer.state}.** {markdown_text(f'{answer.question} {answer.sentence}')}"
    yield f"\n{_table(report.facts)}\n{_table(listed_runs(report))}"
    yield "## Limits\n"
    yield from (f"- {markdown_text(limit)}" for limit in report.limits)
    for section in report.sections.values():
        yield from _section(section)
    yield "\n## Methods and sources\n"
    for method in report.methods.values():
        sources = f" *{markdown_text('; '.join(method.sources))}.*" if method.sources else ""
        yield f"- **{markdown_text(method.title)}.** {markdown_text(method.text)}{sources}"
    yield "\n## Files\n"
    for name, run in report.runs.items():
        yield from (f"- {markdown_text(name)}/{markdown_text(file)}: `{sha}`" for file, sha in run.files.items())


def _section(section: Section) -> Iterator[str]:
    yield f"\n## {markdown_text(section.title)}\n"
    yield from (f"{markdown_text(text)}\n" for text in section.text)
    for part in section.parts.values():
        if isinstance(part, Table) and part.is_listed:
            yield f"{markdown_text(part.caption)}\n\n{_table(part)}"
    yield from (f"- {markdown_text(note)}" for note in section.notes)


def _table(table: Table) -> str:
    heads = [table.head, *(column.title for column in table.columns.values())]
    frame = pd.DataFrame(list(shown_rows(table)))
    return (
        markdown_table(frame.set_axis([markdown_text(head) for head in heads], axis="columns"))
        if len(frame)
        else ""
    )
