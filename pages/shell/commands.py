"""Commands to copy: each runs as it stands, from any directory and in a fresh shell, on the runs of this app."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.settings.command import PROGRAM, anywhere
from mrd_core.settings.installation import Settings

_COMMAND = re.compile(rf"(?<![\w/.-]){PROGRAM}(?= [a-z])")


def show(*commands: str, place: Any = st, before: str = "") -> None:
    """Show commands, one a line.

    Args:
        commands: As `mrd_core.settings.command.shown` returns them.
        place: Of the page.
        before: What the shell does first.
    """
    environment = Settings.from_environment().environment
    lines = (before + anywhere(command, environment) for command in commands)
    place.code("\n".join(lines), language="bash", wrap_lines=True)


def in_full(sentence: str) -> str:
    """Return a sentence with the commands in it as any shell carries them out."""
    # Settings that are no good may be what the sentence is about.
    with suppress(UserError):
        program = anywhere(PROGRAM, Settings.from_environment().environment)
        return _COMMAND.sub(lambda _: program, sentence)
    return sentence
