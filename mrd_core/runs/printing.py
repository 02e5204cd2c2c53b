"""Text of strangers on a terminal: what would command the terminal, or turn the order of letters, is spelt out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# C0 but for tab and line feed, DEL, C1, and what changes the direction of writing.
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Return the text with each control character as its escape: `\x1b`, `\u202e`."""

    def escape(control: re.Match[str]) -> str:
        code = ord(control.group())
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _COMMANDS.sub(escape, text)


def visible_json(text: str) -> str:
    """Return JSON that says the same without a control character."""
    return _COMMANDS.sub(lambda control: f"\\u{ord(control.group()):04x}", text)


class Terminal(Console):
    """A console on which no text is a command."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it is printed, which is measured for columns."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed, each with its text made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def print_json(self, *args: Any, **options: Any) -> None:
        """Print JSON in colours, escapes included."""
        super().print_json(*args, **{"ensure_ascii": True} | options)
