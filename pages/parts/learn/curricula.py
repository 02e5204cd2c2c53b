"""Step 5: a prediction first, then the two unlearnings side by side, and what comes back of them."""

from __future__ import annotations

import streamlit as st

from analysis import elsewhere
from analysis.evidence.returns import Comeback
from analysis.lesson import comeback, curricula
from mrd_core.dossier.files import Dossier
from pages.parts.learn.memory import chosen, radio, spoken_of
from pages.shell.layout import static_table

PREDICTION, COMEBACK = "prediction", "comeback"
_returned = st.cache_data(show_spinner=False)(lambda directory: comeback.returned(Dossier(directory)))


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
    with spoken_of("curricula_table", is_spoken_of=chosen(COMEBACK) is None):
        static_table(curricula.table_of(of_orders, dossier), "Both orders: updates, what was forgotten and kept")
    judged = "Right." if guess == curricula.right(of_orders) else "Not so."
    st.markdown(f"**What to conclude.** {judged} {curricula.conclusion(of_orders)}")
    st.markdown(f"**On three models, this one among them.** {elsewhere.ORDERS}")
    return _comeback(dossier)


def _comeback(dossier: Dossier) -> str:
    """Have the learner guess what comes back, then show it; return what is yet to be done."""
    lines: list[Comeback] = _returned(dossier.directory)
    one = lines[0]
    st.subheader("What comes back", anchor=False)
    st.markdown(
        f"Both models look as if they had forgotten. Now each is trained for {one.steps} steps on {one.rows} of "
        "the answers that it had forgotten, and the *others* are looked at. How many of them does it know again?"
    )
    guess = radio("Your guess", comeback.GUESSES, COMEBACK)
    if guess is None:
        return "guess what comes back."
    with spoken_of("curricula_back"):
        static_table(comeback.table_of(lines), "What is known again after training on something else")
    judged = "Right." if guess == comeback.right(lines) else "Not so."
    st.markdown(f"**What to conclude.** {judged} {comeback.conclusion(lines)}")
    st.markdown(f"**On three models, this one among them.** {elsewhere.RETURNS}")
    return ""
