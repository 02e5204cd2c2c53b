"""Unlearning: launch it from scores, watch it, look at its result, and hold several runs side by side."""

import streamlit as st

from mrd_core.runs import ACTIVE, RunState
from mrd_core.scoring.records import ScoreSummary
from pages.parts.unlearning import comparison, form, live, result, views
from pages.shell import session, unlearnings, verdict_bar
from pages.shell.page import page, scored_run


def main() -> None:
    """Show the unlearning runs of the score run at hand, or the way to the first one."""
    none_yet = "Unlearning starts from a scored forget set. None is scored yet."
    run = scored_run(none_yet, "unlearning comes", with_mrd=False)
    if run is None:
        return
    verdict_bar.show(run)
    if (figures := ScoreSummary.of(run)) is not None and figures.preview:
        st.info(
            "These scores are a preview: speed + spread, not MRD. Sample uniformly, or weigh or sort by the "
            "column speed_and_spread.",
            icon=":material/preview:",
        )
    runs = session.store().list(kinds=("unlearn",), score_run=run)
    selection = session.current_unlearnings(runs)
    states = {selected.state for selected in selection}
    is_done = RunState.SUCCEEDED in states and not states & ACTIVE
    view = views.choose(views.RESULT if is_done else views.PROGRESS) if runs else views.FORM
    if view == views.FORM:
        if form.show(run):
            views.go_to(views.PROGRESS)
            st.rerun()
        return
    selection = unlearnings.choose(runs, selection)
    if view == views.PROGRESS:
        live.show(selection)
    elif view == views.RESULT:
        result.show(selection)
    else:
        comparison.show(runs, selection)


with page("Unlearning", of_run=True):
    main()
