"""Start: what this is, two ways in, and all runs."""

import streamlit as st

from pages.shell import layout, paths, run_table, session
from pages.shell.page import page
from pages.shell.wording import term

CARDS = {
    "1 · Forget set": "Upload the samples that a model is to unlearn, or take the demo. Every row is checked.",
    "2 · Difficulty": "The weights are shaken with small Gaussian noise. A sample whose log-probability hardly "
    f"moves is hard to unlearn: its {term('MRD')} is small.",
    "3 · Trust": f"Every score has a {term('standard error')}, every ranking a "
    f"{term('reliability')}. When a setting cannot give a trustworthy ranking, the app says so.",
}
FORMULA = (
    r"\mathrm{MRD}(x;\theta)=\left|\;\frac1K\sum_{k=1}^{K}\frac1{|S|}\sum_{t\in S}"
    r"\frac{P_t(\theta)-P_t(\theta+\delta_k)}{P_t(\theta)}\;\right|,\quad \delta_k\sim\mathcal N(0,\sigma^2I)"
)
MEANING = (
    "$P_t(\\theta)=\\log p(x_t\\mid x_{<t};\\theta)$ are the token log-probabilities, $S$ the answer "
    "tokens. Feng et al. (2025), *A Neuro-inspired Interpretation of Unlearning in Large Language Models "
    "through Sample-level Unlearning Difficulty*, arXiv 2504.06658, Definition 3.1."
)
SENTENCE = (
    "Which samples of a forget set will a language model not forget easily, why, and **how sure can we be?**"
)
# The list is of the user's own runs.
if session.is_shipped():
    session.leave_run()
with page("MRD Lens", SENTENCE):
    doorway = st.container(horizontal=True)
    if doorway.button("Use the demo", type="primary", icon=":material/play_arrow:"):
        session.choose_demo()
        session.leave_run()
        st.switch_page(paths.DIFFICULTY)
    if doorway.button("Open a forget set", icon=":material/upload_file:"):
        st.switch_page(paths.FORGET_SET)
    if doorway.button("Guided demo", icon=":material/school:"):
        st.switch_page(paths.LEARN)

    st.header("How it works")
    with layout.grid("cards", len(CARDS), "15rem"):
        for title, text in CARDS.items():
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{title}**")
                st.markdown(text)
    with st.expander("The formula", icon=":material/function:"):
        st.latex(FORMULA)
        st.markdown(MEANING)

    st.header("Runs")
    run_table.show()
