"""The progress bar of a run in the foreground."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mrd_core.runs.printing import Terminal
from mrd_core.runs.store import Level

STYLES: dict[Level, str] = {"info": "dim", "warning": "yellow", "error": "bold red"}


class ProgressBar:
    """A bar on stderr: title, done of total, time left, message.

    Args:
        title: Shown before the bar.
    """

    def __init__(self, title: str) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("{task.fields[message]}", markup=False),
            console=Terminal(stderr=True),
        )
        self._task = self._bar.add_task(title, total=None, left="", message="")

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def progress(self, progress: dict[str, Any]) -> None:
        """Show done of total, the time left and the message."""
        eta = progress.get("eta_seconds")
        self._bar.update(
            self._task,
            completed=progress.get("done", 0),
            total=progress.get("total"),
            left="" if eta is None else f"{eta:.0f} s left",
            message=f"{progress.get('message') or ''}"
            + (f", {progress['within']:.0%} of a pass" if progress.get("within") else ""),
        )

    def event(self, level: Level, message: str) -> None:
        """Print one line above the bar."""
        self._bar.console.print(f"{level}: {escape(message)}", style=STYLES[level], highlight=False)
