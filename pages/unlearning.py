"""Unlearning: launch it from scores, watch it, look at its result, and hold several runs side by side."""

import streamlit as st

from mrd_core.runs import ACTIVE, Run, RunState
from pages.parts.unlearning import compare as unlearn_compare
from pages.parts.unlearning import form as unlearn_form
from pages.parts.unlearning import live as unlearn_live
from pages.parts.unlearning import result as unlearn_result
from pages.shell import scores_needed, session, tour, unlearnings
from pages.shell.notices import errors_shown, heading

FORM, PROGRESS, RESULT, COMPARISON = VIEWS = ("New runs", "Progress", "Result", "Comparison")
VIEW = "unlearn_view"


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
        _views(run)


def _views(run: Run) -> None:
    known = session.store().list(kinds=("unlearn",), score_run=run)
    looked_at = session.current_unlearnings(known)
    if not known:
        if unlearn_form.show(run):
            _go(PROGRESS)
        return
    view = _view(looked_at)
    if view == FORM:
        if unlearn_form.show(run):
            _go(PROGRESS)
        return
    looked_at = unlearnings.choose(known, looked_at)
    if view == PROGRESS:
        unlearn_live.show(looked_at)
    elif view == RESULT:
        unlearn_result.show(looked_at)
    else:
        unlearn_compare.show(known, looked_at)


def _view(looked_at: list[Run]) -> str:
    st.session_state.setdefault(VIEW, _first_view(looked_at))
    if (wanted := st.session_state.pop(unlearnings.GO_TO, None)) is not None:
        st.session_state[VIEW] = wanted
    return st.segmented_control("Look at", VIEWS, required=True, key=VIEW, label_visibility="collapsed")


def _first_view(looked_at: list[Run]) -> str:
    if any(run.state is RunState.SUCCEEDED for run in looked_at) and not any(
        run.state in ACTIVE for run in looked_at
    ):
        return RESULT
    return PROGRESS


def _go(view: str) -> None:
    st.session_state[unlearnings.GO_TO] = view
    st.rerun()


session.require_router()
main()
