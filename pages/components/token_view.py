"""The token heat map: which tokens of a sample move when the weights are shaken."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

# Blue and orange stay apart for colour-blind readers; the opacity carries the size on either theme.
FALLS, RISES = "224, 138, 30", "58, 143, 203"
MOST_OPACITY = 0.75
DOTTED = "border-bottom:2px dotted currentColor"


def heat_map(tokens: pd.DataFrame) -> str:
    """Return the tokens of one sample as HTML, coloured by their mean relative change.

    Every text is escaped: a sample is a stranger's.

    Args:
        tokens: One row per token in order: piece, in_answer, excluded, log_prob, relative_change,
            relative_change_se.
    """
    largest = float(tokens.loc[tokens["in_answer"], "relative_change"].abs().max())
    spans = "".join(_span(token, largest) for token in tokens.itertuples())
    return (
        f'<div style="line-height:2.1;font-size:1.05rem;white-space:pre-wrap;overflow-wrap:anywhere">{spans}</div>'
    )


def legend() -> str:
    """Return the legend of the heat map as HTML."""
    swatch = '<span style="background:rgba({0},{1});padding:0 .6em;border-radius:3px">&nbsp;</span> {2} &nbsp; '
    return (
        '<div style="font-size:.85rem;opacity:.85">'
        + swatch.format(FALLS, MOST_OPACITY, "log-probability falls under noise")
        + swatch.format(RISES, MOST_OPACITY, "rises")
        + '<span style="opacity:.5">question or not scored</span> &nbsp; '
        + '<span style="'
        + DOTTED
        + '">left out (|log p| &lt; 1e-6)</span></div>'
    )


def _span(token: Any, largest: float) -> str:
    text = escape(token.piece)
    if not token.in_answer:
        return f'<span style="opacity:.5">{text}</span>'
    if token.excluded:
        return f'<span style="{DOTTED}" title="left out: |log p| below 1e-6">{text}</span>'
    strength = abs(token.relative_change) / largest * MOST_OPACITY if largest > 0 else 0.0
    # P is negative, so a negative relative change is a log-probability that falls.
    colour = FALLS if token.relative_change < 0 else RISES
    title = (
        f"relative change {token.relative_change:+.3g} ± {token.relative_change_se:.2g}; "
        f"log p {token.log_prob:.3g} nats"
    )
    return (
        f'<span title="{escape(title)}" '
        f'style="background:rgba({colour},{strength:.2f});border-radius:3px">{text}</span>'
    )
