"""Conversations as one prompt: readable for people, and taken apart again for a chat template.

    ⟦system⟧ Answer briefly.
    ⟦user⟧ Who hums?
    ⟦assistant⟧ A bee.
    ⟦user⟧ And who stings?

A single question is itself, without a mark. What looks like a mark within a turn is text: it has one bracket more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
# Role and text.
Turn = tuple[str, str]

_MARK = re.compile(r"(?:\A|\n)⟦([^⟦⟧\n]+)⟧ ")
_IN_TEXT = re.compile(r"^⟦+(?=[^⟦⟧\n]+⟧ )", re.MULTILINE)


def prompt_of(turns: Sequence[Turn]) -> str | None:
    """Return the turns before an answer as a prompt; None of none."""
    if not turns:
        return None
    quoted = [(role, _IN_TEXT.sub(lambda brackets: brackets.group() + "⟦", text)) for role, text in turns]
    if len(turns) == 1 and turns[0][0] == USER:
        return quoted[0][1]
    return "\n".join(f"⟦{role}⟧ {text}" for role, text in quoted)


def turns_of(prompt: str) -> list[Turn]:
    """Return the turns that a prompt is made of: one of the user, unless it is a conversation."""
    _, *parts = _MARK.split(prompt) if _MARK.match(prompt) else ("", USER, prompt)
    texts = (_IN_TEXT.sub(lambda brackets: brackets.group()[1:], text) for text in parts[1::2])
    return list(zip(parts[::2], texts, strict=True))
