"""Abbreviations lead to the glossary, each where it first stands on a page."""

from __future__ import annotations

import re

import streamlit as st

from analysis.glossary import abbreviations
from pages.shell.wording import term

LINKED = "linked_terms"
# Code, links and formulas stay as they are.
APART = re.compile(r"(`+[^`]*`+|\[[^\]]*\]\([^)]*\)|\$[^$]+\$)")


def begin() -> None:
    """Begin a page, on which no abbreviation stands yet."""
    st.session_state[LINKED] = set()


def linked(text: str) -> str:
    """Return Markdown in which each abbreviation that has not stood on the page before leads to the glossary.

    For what the whole page draws: a fragment, which is drawn anew alone, would lose its links.
    """
    pieces = APART.split(text)
    pieces[::2] = [abbreviations().sub(_first, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _first(match: re.Match[str]) -> str:
    word, before = match[0], st.session_state.setdefault(LINKED, set())
    if word in before:
        return word
    before.add(word)
    return term(word)
