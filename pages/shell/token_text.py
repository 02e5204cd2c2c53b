"""The tokens of a sample as coloured text; every text is escaped, for a sample is a stranger's."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

# Blue and orange stay apart for colour-blind readers; the opacity carries the size on either theme.
FALLS, RISES = "224, 138, 30", "58, 143, 203"
# Above that, text on the strongest orange is too pale in the dark theme.
MOST_OPACITY = 0.6


def paragraph(spans: Iterable[str]) -> str:
    """Return the spans of tokens in order as HTML of one text."""
    style = "line-height:2.1;font-size:1.05rem;white-space:pre-wrap;overflow-wrap:anywhere"
    return f'<div style="{style}">{"".join(spans)}</div>'


def coloured(text: str, title: str, colour: str, strength: float) -> str:
    """Return a token as HTML.

    Args:
        text: The token.
        title: Shown while the mouse rests on it.
        colour: Its red, green and blue.
        strength: Opacity of the colour as a share of the strongest, 0 to 1.
    """
    return (
        f'<span title="{escape(title)}" style="background:rgba({colour},{MOST_OPACITY * strength:.2f});'
        f'border-radius:3px">{escape(text)}</span>'
    )


def swatch(colour: str, strength: float, meaning: str) -> str:
    """Return an entry of a legend as HTML."""
    return (
        f'<span style="background:rgba({colour},{MOST_OPACITY * strength:.2f});padding:0 .6em;border-radius:3px">'
        f"&nbsp;</span> {meaning} &nbsp; "
    )


def small(html: str) -> str:
    """Return HTML as a line of small print."""
    return f'<div style="font-size:.85rem;opacity:.85">{html}</div>'
