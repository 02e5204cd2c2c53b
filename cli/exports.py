"""What commands write besides what they print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from analysis.export.files import write_exports
from cli.terminal import note
from mrd_core.errors import UserError
from mrd_core.runs.printing import visible


def write_files(folder: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    """Write a file of each name into a folder, each whole or not at all, and say so."""
    write_exports(folder, contents)
    note(f"Written to {folder}: {', '.join(contents)}")


def write_text(text: str, file: Path | None, printed: Callable[[str], str] = visible) -> None:
    """Write a text into a file, or print it where none is named.

    Args:
        text: What is written.
        file: Where.
        printed: Returns what a terminal is given.

    Raises:
        UserError: The file cannot be written.
    """
    if file is None:
        print(printed(text), end="", flush=True)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(str(file), f"cannot be written: {error.strerror}.", "Name a file in a folder.") from error
