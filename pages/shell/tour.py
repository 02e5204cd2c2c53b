"""A guided demo: a few steps that a teacher clicks through, each on the page that it is about."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from pages.shell import session

START, FORGET_SET, DIFFICULTY = "pages/start.py", "pages/forget_set.py", "pages/difficulty.py"
CHARACTERISTICS, EVIDENCE = "pages/characteristics.py", "pages/evidence.py"
UNLEARNING, COMPARE = "pages/unlearning.py", "pages/compare.py"


@dataclass(frozen=True)
class Step:
    """One step of the tour."""

    page: str
    title: str
    text: str


STEPS = (
    Step(
        FORGET_SET,
        "A forget set",
        "These questions are about invented people, and a small language model has learnt the answers by heart. "
        "Suppose they ask to be forgotten. Will every answer be equally hard to remove?",
    ),
    Step(
        DIFFICULTY,
        "Shake the weights",
        "Add a little random noise to all weights and look how far each answer's log-probability moves. An answer "
        "that hardly moves sits deep: its **Memory Removal Difficulty (MRD)** is *small*, and it is expected to "
        "resist unlearning. Press **Score**; it takes about a minute.",
    ),
    Step(
        DIFFICULTY,
        "A ranking with error bars",
        "The noise is random, so every MRD has a standard error. Each sample is measured with pairs of opposite "
        "noise until the errors are small. On the *difficulty map*, left is hard and right is easy; up is less "
        "sure. Click a point.",
    ),
    Step(
        DIFFICULTY,
        "Token by token",
        "The token view shows which words move under the noise. Use ← and → to walk through the ranking. Do rare "
        "words and names behave like common ones?",
    ),
    Step(
        DIFFICULTY,
        "Can we trust it?",
        "Split the draws into two halves and rank the samples twice: how well do they agree? That is the "
        "*reliability*. Compare *Recommended* with the *Paper* preset: same formula, no paired noise, a far "
        "smaller σ. Its ranking is mostly noise, and the app says so.",
    ),
    Step(
        UNLEARNING,
        "Let it forget",
        "Choose *SGA against CGA* and press **Unlearn**: the same model forgets the same answers twice, once "
        "drawn at random, once drawn by MRD. Each bar below is a sample, hard ones on the left; its height is how "
        "often the weights had to be moved for it. Are the left ones higher?",
    ),
    Step(
        UNLEARNING,
        "Did the order pay off?",
        "When both have ended, *Comparison* holds them side by side: updates, what is left of other knowledge, "
        "and the whole cost, that of measuring MRD included. One seed proves little. What does it say with three?",
    ),
    Step(
        COMPARE,
        "Is it really gone?",
        "Press **Evaluate these runs**: the model before unlearning and both results are asked the same things, "
        "what to forget, what to keep, and what none of them has ever seen. The table marks with ▲ and ▼ what is "
        "larger than the noise. *Samples* shows the answers side by side. Which would you trust?",
    ),
    Step(
        EVIDENCE,
        "Is any of this true?",
        "A difficulty score is worth what it predicts. Here some samples are unlearned one by one, each from the "
        "same starting weights, and their updates are counted. The *league table* ranks every measure by how well "
        "it foretold them. Does MRD come first? Does it know more than plain length does?",
    ),
)


def begin() -> None:
    """Start the tour with the demo."""
    session.choose_demo()
    st.session_state["tour"] = 0


def show() -> None:
    """Show the present step, if a tour is on."""
    at = st.session_state.get("tour")
    if at is None:
        return
    step = STEPS[at]
    with st.container(border=True):
        st.markdown(f"**:material/school: {at + 1} of {len(STEPS)} · {step.title}**  \n{step.text}")
        back, forward, end, _ = st.columns([1, 1, 1, 5])
        if back.button("Back", disabled=at == 0, key="tour_back", width="stretch"):
            _go(at - 1)
        last = at + 1 == len(STEPS)
        if forward.button("Next", disabled=last, key="tour_next", type="primary", width="stretch"):
            _go(at + 1)
        if end.button("End tour", key="tour_end", width="stretch"):
            del st.session_state["tour"]
            st.rerun()


def _go(to: int) -> None:
    st.session_state["tour"] = to
    st.switch_page(STEPS[to].page)
