"""What commands print: tables and notices for people, one line of JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from mrd_core.errors import UserError
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.runs.printing import Terminal, visible_json

out = Terminal()
# The terminal wraps: a path that is broken here could not be copied.
err = Terminal(stderr=True, soft_wrap=True)


def failed(error: UserError) -> None:
    """Print an error that the user can mend."""
    err.print(f"[bold red]Error[/] {escape(error.cause)}\n{escape(error.fix)}", highlight=False)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings, a line each."""
    for warning in warnings:
        err.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False)


def note(text: str) -> None:
    """Print what is no result, such as where the files are."""
    err.print(text, highlight=False, markup=False)


def say(text: str, style: str | None = None) -> None:
    """Print a result in words."""
    out.print(text, style=style, highlight=False, markup=False)


def print_json(content: Any) -> None:
    """Print one line of JSON."""
    print(visible_json(json.dumps(content, ensure_ascii=False, allow_nan=False)), flush=True)


def grid(title: str, frame: pd.DataFrame) -> Table:
    """Return a frame of texts as a table."""
    table = Table(title=escape(title), title_justify="left", box=None)
    # In a narrow terminal lines are broken between words: no name goes, and no figure is cut.
    for column in frame:
        words = " ".join([str(column), *frame[column]]).split()
        table.add_column(escape(str(column)), min_width=max(map(len, words), default=1))
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*map(escape, row))
    return table


def require_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to, and a run's: what it holds would be written over."""
    if (folder / CONFIG_FILE).exists():
        raise UserError(f"--out {folder}", "is the directory of a run.", "Name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {folder}", f"cannot be a folder: {error.strerror}.", "Name a folder that can be written to."
        ) from error
