"""Boxes side by side where there is room for them, else one below the other."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

# Streamlit's columns keep their number on narrow screens. A last box without a neighbour takes the whole row.
# Formulas stand closer than in a text.
GRID = """<style>.st-key-{key} {{
  display: grid; align-items: stretch;
  grid-template-columns: repeat(auto-fill, minmax(max({least}, (100% - {gaps}rem) / {columns}), 1fr));
}}
.st-key-{key} > :last-child:nth-child({columns}n + 1) {{ grid-column: 1 / -1; }}
.st-key-{key} .katex-display {{ margin: 0 0 .4rem; }}</style>"""
STEADY = "<style>.st-key-{key} [data-stale=true] {{ opacity: 1 !important; }}</style>"


def grid(key: str, columns: int = 2, least: str = "22rem") -> DeltaGenerator:
    """Return a container that lays out what is put into it some in a row.

    Args:
        key: Tells it from the other containers of the page.
        columns: Most that stand in a row.
        least: Width that each has at least, in CSS.
    """
    st.html(GRID.format(key=key, columns=columns, least=least, gaps=columns - 1))
    return st.container(key=key)


def steady(key: str) -> None:
    """Have what is in the container `key` not fade whenever it is drawn anew, which is every second."""
    st.html(STEADY.format(key=key))
