"""Conversations as one prompt: readable for people, and taken apart again for a chat template.

    ⟦system⟧ Answer briefly.
    ⟦user⟧ Who hums?
    ⟦assistant⟧ A bee.
    ⟦user⟧ And who stings?

A single question is itself, without a mark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

USER, ASSISTANT = "user", "assistant"
# Role and text.
Turn = tuple[str, str]

_MARK = re.compile(r"(?:\A|\n)⟦([\w-]+)⟧ ")


def prompt_of(turns: Sequence[Turn]) -> str | None:
    """Return the turns before an answer as a prompt; None of none."""
    if not turns:
        return None
    if len(turns) == 1 and turns[0][0] == USER:
        return turns[0][1]
    return "\n".join(f"⟦{role}⟧ {text}" for role, text in turns)


def turns_of(prompt: str) -> list[Turn]:
    """Return the turns that a prompt is made of: one of the user, unless it is a conversation."""
    if not _MARK.match(prompt):
        return [(USER, prompt)]
    _, *parts = _MARK.split(prompt)
    return list(zip(parts[::2], parts[1::2], strict=True))
