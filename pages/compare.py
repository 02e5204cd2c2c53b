"""Compare: is it forgotten, is the rest intact, and is one run really better than another?"""

import streamlit as st

from mrd_core.runs import Run, RunState
from pages.parts.compare import choice as compare_choice
from pages.parts.compare import launch as compare_launch
from pages.parts.compare import runs as compare_runs
from pages.parts.compare import views as compare_views
from pages.shell import scores_needed, session, tour
from pages.shell.notices import errors_shown, heading


def main() -> None:
    """Evaluate the runs of the score run at hand, and hold finished evaluations against each other."""
    st.title("Compare")
    tour.show()
    with errors_shown():
        run = session.current_run()
        session.store().reap()
        if run is not None and run.state is RunState.SUCCEEDED:
            heading(run.title)
            compare_launch.show(run)
            _comparison(run)
            return
        scores_needed.show(
            run, "Runs that unlearn a scored forget set are compared here. None is scored yet.", "evaluation comes"
        )
        _comparison(None)


def _comparison(run: Run | None) -> None:
    compare_runs.tell_left_out()
    if run is not None and not compare_runs.known():
        st.info(
            "Nothing is evaluated yet. What each run forgot and kept is compared here afterwards.",
            icon=":material/balance:",
        )
    st.subheader("Side by side")
    chosen = compare_choice.choose(run)
    if chosen is None:
        st.caption("There is nothing to compare yet.")
        return
    compare_views.show(chosen)


main()
