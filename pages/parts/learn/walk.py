"""The walk through the steps: which one the address names, and whether the next one may come."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from analysis.lesson.sheet import sheet
from mrd_core.dossier.files import Dossier, Part
from pages.parts.learn import answers, curricula, forecast, hardness, memory, shake
from pages.shell import paths, session
from pages.shell.downloads import download
from pages.shell.notices import errors_shown

STEP = "step"


class Step(NamedTuple):
    """A step.

    Attributes:
        title: Of the step.
        show: Draws it, and returns what is yet to be done in it; "" where nothing is.
    """

    title: str
    show: Callable[[Dossier], str]


STEPS = (
    Step("What unlearning is", answers.show),
    Step("What MRD measures: shake it", shake.show),
    Step("What makes a sample hard", hardness.show),
    Step("Does it predict?", forecast.show),
    Step("What a curriculum buys, and what comes back", curricula.show),
)


def place() -> int:
    """Return the number of the step that the address names, from 1; the first where it names none."""
    named = st.query_params.get(STEP, "")
    return min(max(int(named), 1), len(STEPS)) if named.isascii() and named.isdecimal() else 1


def show(dossier: Dossier) -> None:
    """Show the step that the address names, the ways to its neighbours, and what may be taken along."""
    st.html(memory.LOOK)
    _step(dossier)
    row = st.container(horizontal=True)
    name = "learn_exercises"
    download(
        row, "Exercises with answers", lambda: sheet(dossier), "learn.md", name, help_text="Markdown, to print"
    )
    if row.button("Look at these runs", icon=":material/open_in_new:", key="learn_runs"):
        st.switch_page(paths.DIFFICULTY, query_params={session.RUN: str(Part.SCORE)})


@st.fragment
def _step(dossier: Dossier) -> None:
    at = place()
    title, show_step = STEPS[at - 1]
    with errors_shown(), st.container(key="learn"):
        st.progress(at / len(STEPS), f"Step {at} of {len(STEPS)}")
        st.header(title, anchor=False)
        missing = show_step(dossier)
        with st.container(horizontal=True, vertical_alignment="center"):
            _way("Back", "Left", at - 1, is_open=at > 1)
            _way("Next", "Right", at + 1, is_open=at < len(STEPS) and not missing)
            if at < len(STEPS) and missing:
                st.caption(f"To go on: {missing}")


def _way(label: str, key: str, to: int, *, is_open: bool) -> None:
    st.button(
        label,
        shortcut=key,
        key=f"learn_{label.lower()}",
        type="primary" if label == "Next" else "secondary",
        disabled=not is_open,
        on_click=lambda: st.query_params.update({STEP: str(to)}),
    )
