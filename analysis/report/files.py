"""A report as files: a page, the same as Markdown, and its JSON."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from analysis.report.content import FORMAT, Report
from analysis.report.html import html
from analysis.report.markdown import markdown
from mrd_core.errors import UserError

JSON, HTML, MARKDOWN = "report.json", "report.html", "report.md"


def contents(report: Report) -> dict[str, bytes]:
    """Return the files of a report by name."""
    return {
        HTML: html(report).encode(),
        MARKDOWN: markdown(report).encode(),
        JSON: (report.model_dump_json(indent=1) + "\n").encode(),
    }


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
