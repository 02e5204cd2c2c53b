"""Step 3: a guess first, then the figure."""

from __future__ import annotations

import streamlit as st

from analysis import elsewhere
from analysis.figures.lesson import correlations
from analysis.lesson import hardness
from mrd_core.dossier.files import Dossier
from pages.parts.learn.memory import chosen, radio, spoken_of
from pages.shell.charts import chart, data_beneath

GUESS = "guess"
_ties = st.cache_data(show_spinner=False)(lambda directory: hardness.ties(Dossier(directory)))


def show(dossier: Dossier) -> str:
    """Have the learner guess, then show what the demo says; return what is yet to be done."""
    st.markdown(
        "A sample whose tokens hardly move has a small MRD: it is expected to be *hard* to unlearn. Look at the "
        "whole forget set. Which answers will have the smallest MRD?"
    )
    with spoken_of("hardness_guess", is_spoken_of=chosen(GUESS) is None):
        guess = radio("Your guess", hardness.GUESSES, GUESS)
    if guess is None:
        return "make a guess."
    of_demo: hardness.Ties = _ties(dossier.directory)
    table = hardness.table_of(of_demo)
    with spoken_of("hardness_figure"):
        figure = correlations(table, "What goes with MRD on the demo", "Spearman’s ρ with MRD (right: easy)")
        chart(
            figure,
            "what_goes_with_difficulty",
            "Rank correlation of four characteristics with MRD, with intervals",
        )
    data_beneath(table, "what_goes_with_difficulty", "Rank correlation of four characteristics with MRD")
    judged = "Right." if guess == hardness.hardest(of_demo) else "Not on this model."
    st.markdown(f"**What to conclude.** {judged} {hardness.conclusion(of_demo)}")
    st.markdown(f"**On three models, this one among them.** {elsewhere.HARDNESS}")
    return ""
