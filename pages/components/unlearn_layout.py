"""Boxes side by side where there is room for them, else one below the other."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

# Streamlit's columns keep their number on narrow screens. What is drawn anew every second does not fade meanwhile.
STYLE = """<style>.st-key-{key} {{
  display: grid; align-items: stretch;
  grid-template-columns: repeat(auto-fill, minmax(max(22rem, (100% - 1rem) / 2), 1fr));
}}
.st-key-{key} [data-stale=true] {{ opacity: 1 !important; }}</style>"""


def grid(key: str) -> DeltaGenerator:
    """Return a container that lays out what is put into it two in a row.

    Args:
        key: Tells it from the other grids of the page.
    """
    st.html(STYLE.format(key=key))
    return st.container(key=key)
