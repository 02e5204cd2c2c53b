"""Compare: is it forgotten, is the rest intact, and is one run really better than another?"""

import streamlit as st

from pages.parts.compare import choice, launch, runs, views
from pages.shell import reports, verdict_bar
from pages.shell.page import page, scored_run

with page("Compare", of_run=True):
    run = scored_run(
        "Runs that unlearn a scored forget set are compared here. None is scored yet.",
        "evaluation comes",
        with_mrd=False,
    )
    if run is not None:
        verdict_bar.show(run)
        launch.show(run)
    runs.name_left_out()
    if run is not None and not runs.readable():
        st.info(
            "Nothing is evaluated yet. What each run forgot and kept is compared here afterwards.",
            icon=":material/balance:",
        )
    st.header("Side by side")
    chosen = choice.choose(run)
    if chosen is None:
        st.caption("There is nothing to compare yet.")
    else:
        views.show(chosen)
    if run is not None:
        st.header("All of it as one report")
        reports.offer(run)
