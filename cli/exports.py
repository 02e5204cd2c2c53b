"""What commands write besides what they print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from analysis.export.files import write_exports
from cli.terminal import note


def write_files(folder: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    """Write a file of each name into a folder, each whole or not at all, and say so."""
    write_exports(folder, contents)
    note(f"Written to {folder}: {', '.join(contents)}")
