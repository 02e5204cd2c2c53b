"""Characteristics: what makes a sample of a scored forget set hard to unlearn."""

import streamlit as st

from mrd_core.runs import Run, RunState
from pages.components import characteristics_view, reading_form, run_panel, session, tour
from pages.components.notices import empty_state, errors_shown


def main() -> None:
    """Show the newest reading of the score run at hand, or the way to one."""
    st.title("Characteristics")
    tour.show()
    with errors_shown():
        run = session.current_run()
        if run is None or run.state is not RunState.SUCCEEDED:
            _without_scores(run)
            return
        reading = session.current_reading(run)
        if reading is None:
            reading_form.show(run)
        elif reading.state is RunState.SUCCEEDED:
            characteristics_view.show(run, reading)
        else:
            run_panel.show(reading, leave=lambda: session.open_reading(""))


def _without_scores(run: Run | None) -> None:
    if run is None:
        sentence, button = "Characteristics explain the scores of a forget set. None is scored yet.", "Score one"
    else:
        sentence, button = f"This score run is {run.state}; its characteristics come after it.", "Look at the run"
    if empty_state(sentence, button, "empty_scores"):
        st.switch_page(tour.DIFFICULTY, query_params={session.RUN: run.id} if run else None)


session.require_router()
main()
