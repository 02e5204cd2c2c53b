"""A report as files: a page, the same as Markdown, its JSON, and its figures one by one."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from analysis.report.content import FORMAT, Chart, Report, Table
from analysis.report.drawing import svg_file
from analysis.report.html import html
from analysis.report.markdown import markdown
from mrd_core.errors import UserError

JSON, HTML, MARKDOWN = "report.json", "report.html", "report.md"
FIGURES = "figures"


def contents(report: Report) -> dict[str, bytes]:
    """Return the files of a report by name."""
    return {
        HTML: html(report).encode(),
        MARKDOWN: markdown(report).encode(),
        JSON: (report.model_dump_json(indent=1) + "\n").encode(),
    }


def figures(report: Report) -> dict[str, bytes]:
    """Return each figure of a report that has something to draw as an SVG file, by SECTION-NAME.svg."""
    drawn = {
        f"{key.replace('_', '-')}-{name.replace('_', '-')}.svg": svg_file(part, table)
        for key, section in report.sections.items()
        for name, part in section.parts.items()
        if isinstance(part, Chart) and isinstance(table := section.parts[part.table], Table)
    }
    return {name: content for name, content in drawn.items() if content}


def read(path: Path) -> Report:
    """Read the JSON of a report.

    Raises:
        UserError: It cannot be read, or is no report of this version.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}.", f"Name a {JSON}.") from error
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "its beginning"
        raise UserError(
            str(path),
            f"is no report of format {FORMAT}: at {place} it says something else.",
            f"Name a {JSON} that `mrd-lens report` wrote, of this version of the program.",
        ) from error
