"""Boxes side by side where there is room for them, else one below the other."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

# Streamlit's columns keep their number on narrow screens. Formulas stand closer than in a text.
GRID = """<style>.st-key-{key} {{
  display: grid; align-items: stretch;
  grid-template-columns: repeat(auto-fill, minmax(max({least}, (100% - {gaps}rem) / {columns}), 1fr));
}}
.st-key-{key} .katex-display {{ margin: 0 0 .4rem; }}{last}</style>"""
LAST = """
.st-key-{key} > :last-child:nth-child({columns}n + 1) {{ grid-column: 1 / -1; }}"""
LAYERS = """<style>
.st-key-{key} {{ position: relative; }}
.st-key-{key} > :last-child:not(:first-child) {{ position: absolute; inset: 0; }}
.st-key-{key} > :last-child:not(:first-child), .st-key-{key} > :last-child:not(:first-child) * {{
  pointer-events: none !important; background: none !important;
}}
.st-key-{key} > :last-child [data-testid=stElementToolbar] {{ display: none; }}
</style>"""
BROKEN = """<style>
[data-testid=stTable] > div { overflow-x: auto; }
[data-testid=stTable] table { min-width: 50rem; }
</style>"""
UNBROKEN = """<style>
[data-testid=stTable] > div { overflow-x: auto; }
[data-testid=stTable] td, [data-testid=stTable] td * { white-space: nowrap; }
</style>"""
STEADY = "<style>.st-key-{key} [data-stale=true] {{ opacity: 1 !important; }}</style>"


def grid(key: str, columns: int = 2, least: str = "22rem", *, is_last_wide: bool = True) -> DeltaGenerator:
    """Return a container that lays out what is put into it some in a row.

    Args:
        key: Tells it from the other containers of the page.
        columns: Most that stand in a row.
        least: Width that each has at least, in CSS.
        is_last_wide: Whether a last box without a neighbour takes the whole row.
    """
    last = LAST.format(key=key, columns=columns) if is_last_wide else ""
    st.html(GRID.format(key=key, columns=columns, least=least, gaps=columns - 1, last=last))
    return st.container(key=key)


def layers(key: str) -> DeltaGenerator:
    """Return a container whose last figure lies over the first; clicks go through it."""
    st.html(LAYERS.format(key=key))
    return st.container(key=key)


def steady(key: str) -> None:
    """Have what is in the container `key` not fade whenever it is drawn anew, which is every second."""
    st.html(STEADY.format(key=key))


def static_table(frame: pd.DataFrame, alt: str, *, is_broken: bool = True) -> None:
    """Show a static table, whose cells show their whole text; on a narrow screen it scrolls sideways.

    Args:
        frame: What is shown.
        alt: What it is.
        is_broken: Whether long texts take several lines; else a figure stays beside its deviation.
    """
    st.html(BROKEN if is_broken else UNBROKEN)
    st.table(frame, hide_index=True, alt=alt)
