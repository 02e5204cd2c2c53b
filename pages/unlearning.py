"""Unlearning: launch it from scores, watch it, look at its result, and hold several runs side by side."""

import streamlit as st

from mrd_core.runs import ACTIVE, Run, RunState
from pages.parts.unlearning import comparison, form, live, result, views
from pages.shell import scores_needed, session, tour, unlearnings
from pages.shell.notices import errors_shown, heading


def main() -> None:
    """Show the unlearning runs of the score run at hand, or the way to the first one."""
    st.title("Unlearning")
    tour.show()
    with errors_shown():
        run = session.current_run()
        if run is None or run.state is not RunState.SUCCEEDED:
            scores_needed.show(
                run, "Unlearning starts from a scored forget set. None is scored yet.", "unlearning comes"
            )
            return
        heading(run.title)
        session.store().reap()
        _view(run)


def _view(run: Run) -> None:
    known = session.store().list(kinds=("unlearn",), score_run=run)
    looked_at = session.current_unlearnings(known)
    states = {looked.state for looked in looked_at}
    is_done = RunState.SUCCEEDED in states and not states & ACTIVE
    view = views.choose(views.RESULT if is_done else views.PROGRESS) if known else views.FORM
    if view == views.FORM:
        if form.show(run):
            views.go_to(views.PROGRESS)
            st.rerun()
        return
    looked_at = unlearnings.choose(known, looked_at)
    if view == views.PROGRESS:
        live.show(looked_at)
    elif view == views.RESULT:
        result.show(looked_at)
    else:
        comparison.show(known, looked_at)


main()
