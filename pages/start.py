"""Start: what this is, two ways in, and what ran lately."""

import pandas as pd
import streamlit as st

from mrd_core.runs.launcher import unlisted
from mrd_core.settings.command import shown
from pages.shell import doors, session, tour
from pages.shell.notices import SYMBOLS, errors_shown

CARDS = {
    "1 · Forget set": "Upload the samples that a model is to unlearn, or take the demo. Every row is checked.",
    "2 · Difficulty": "The weights are shaken with small Gaussian noise. A sample whose log-probability hardly "
    "moves is hard to unlearn: its MRD is small.",
    "3 · Trust": "Every score has a standard error, every ranking a reliability. When a setting cannot give a "
    "trustworthy ranking, the app says so.",
}
# Of the summaries, those of score runs in full.
FIGURES = {
    "Preset": "preset",
    "Samples": "n_samples",
    "Median relative SE": "median_relative_se",
    "Reliability (mean)": "reliability_mean",
}

st.title("MRD Lens")
st.markdown(
    "Which samples of a forget set will a language model not forget easily, why, and **how sure can we be?**"
)
tour.show()

doorway = st.container(horizontal=True)
if doorway.button("Use the demo", type="primary", icon=":material/play_arrow:"):
    session.choose_demo()
    session.leave_run()
    st.switch_page(tour.DIFFICULTY)
if doorway.button("Open a forget set", icon=":material/upload_file:"):
    st.switch_page(tour.FORGET_SET)
if doorway.button("Guided demo", icon=":material/school:"):
    tour.begin()
    st.switch_page(tour.FORGET_SET)

st.subheader("How it works")
for column, (title, text) in zip(st.columns(len(CARDS)), CARDS.items(), strict=True):
    with column.container(border=True, height="stretch"):
        st.markdown(f"**{title}**")
        st.markdown(text)
with st.expander("The formula", icon=":material/function:"):
    st.latex(
        r"\mathrm{MRD}(x;\theta)=\left|\;\frac1K\sum_{k=1}^{K}\frac1{|S|}\sum_{t\in S}"
        r"\frac{P_t(\theta)-P_t(\theta+\delta_k)}{P_t(\theta)}\;\right|,\quad \delta_k\sim\mathcal N(0,\sigma^2I)"
    )
    st.markdown(
        "$P_t(\\theta)=\\log p(x_t\\mid x_{<t};\\theta)$ are the token log-probabilities, $S$ the answer "
        "tokens. Feng et al. (2025), *A Neuro-inspired Interpretation of Unlearning in Large Language Models "
        "through Sample-level Unlearning Difficulty*, arXiv 2504.06658, Definition 3.1."
    )

st.subheader("Recent runs")
with errors_shown():
    store = session.store()
    session.look_for_lost()
    runs = store.list(limit=20)
if not store.obstacle and (left := unlisted(store)):
    st.caption(f"{len(left)} run(s) on this machine are in no list. Take them up with:")
    st.code(shown("runs", "adopt", store.home / "runs"), language="bash")


def note_selected() -> None:
    """Note the run whose row was clicked."""
    rows = st.session_state["recent"]["selection"]["rows"]
    if rows:
        st.session_state["opened"] = runs[rows[0]].id


if not runs:
    st.caption("None yet. The first one is two clicks away: *Use the demo*, then *Score*.")
else:
    st.dataframe(
        pd.DataFrame(
            {
                "State": [f"{SYMBOLS[run.state]} {run.state}" for run in runs],
                "Run": [run.title for run in runs],
            }
            | {title: [(run.summary or {}).get(field) for run in runs] for title, field in FIGURES.items()}
            | {"Started": [run.created_at for run in runs], "Id": [run.id for run in runs]}
        ),
        hide_index=True,
        key="recent",
        on_select=note_selected,
        selection_mode="single-row",
        placeholder="–",
        column_config={
            "Median relative SE": st.column_config.NumberColumn(format="percent"),
            "Reliability (mean)": st.column_config.NumberColumn(format="%.3f"),
            "Started": st.column_config.DatetimeColumn(format="distance"),
        },
        alt="Recent runs, newest first",
    )
    st.caption("Select a row to open its run.")
if opened := st.session_state.pop("opened", None):
    with errors_shown():
        doors.go_to(store.get(opened))
