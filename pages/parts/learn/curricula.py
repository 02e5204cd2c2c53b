"""Step 5: a prediction first, then the two unlearnings side by side."""

from __future__ import annotations

import streamlit as st

from analysis.lesson import curricula
from mrd_core.dossier.files import Dossier
from pages.parts.learn.memory import chosen, radio, spoken_of
from pages.shell.layout import static_table

PREDICTION = "prediction"


def show(dossier: Dossier) -> str:
    """Have the learner predict, then show what both orders came to; return what is yet to be done."""
    st.markdown(
        "A *curriculum* draws the samples not at random but by their difficulty: here in proportion to the sum of "
        "their MRD, easy ones more often. The model forgot all samples once with each order. How many updates did "
        "the order by MRD take, beside the random one?"
    )
    with spoken_of("curricula_prediction", is_spoken_of=chosen(PREDICTION) is None):
        guess = radio("Your prediction", curricula.PREDICTIONS, PREDICTION)
    if guess is None:
        return "make a prediction."
    of_orders = curricula.summaries(dossier)
    with spoken_of("curricula_table"):
        static_table(curricula.table_of(of_orders, dossier), "Both orders: updates, what was forgotten and kept")
    judged = "Right." if guess == curricula.right(of_orders) else "Not so."
    st.markdown(f"**What to conclude.** {judged} {curricula.conclusion(of_orders)}")
    return ""
