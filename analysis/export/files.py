"""What exports are made of: tables, JSON, Markdown, and folders that are whole or not there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrd_core.errors import UserError
from mrd_core.runs.files import PRIVATE_FOLDER, json_value, write_atomically
from mrd_core.samples.spreadsheet import csv_text

# A cell without a value.
NOTHING = "–"
# Marks of Markdown, and the bracket that makes a link or an image of the one before it; intervals keep theirs.
_MARKS = re.compile(r"([\\`*_|~$]|(?<=\])\()")


def write_exports(folder: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    """Write a file of each name into `folder`, which is made if need be; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        data = content()
        write_atomically(folder / name, lambda stream, data=data: stream.write(data))  # type: ignore[misc]


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Lend a folder that takes this name with all that was written into it, or not at all.

    Raises:
        UserError: There is something of that name that is no empty folder, or none can be made.
    """
    staging = folder.parent / f".{folder.name}.making"
    # Of one that was killed; its texts do not stay behind.
    shutil.rmtree(staging, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        staging.mkdir(mode=PRIVATE_FOLDER)
        yield staging
        # Onto an empty folder, and onto none.
        staging.replace(folder)
    except OSError as error:
        raise UserError(
            f"--out {folder}", f"cannot be a new folder: {error.strerror}.", "Name a folder that is new or empty."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def csv_file(frame: pd.DataFrame) -> bytes:
    """Return a table as the content of a CSV file, in which no spreadsheet finds a formula."""
    return csv_text(frame).encode()


def json_file(content: Any) -> bytes:
    """Return JSON values as the content of a file."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values: undefined and unbounded figures are None."""
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


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a table of texts in Markdown, all columns but the first to the right."""
    rows: list[list[str]] = [
        list(map(str, frame)),
        ["---", *["---:"] * (frame.shape[1] - 1)],
        *([markdown_text(cell) for cell in row] for row in frame.to_numpy().tolist()),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def markdown_text(text: str) -> str:
    """Return a text as Markdown that reads the same, on one line: no image of it is fetched, no link is live."""
    return escape(_MARKS.sub(r"\\\1", " ".join(text.splitlines())), quote=False)
