"""Characteristics: what makes a sample of a scored forget set hard to unlearn."""

import streamlit as st

from mrd_core.runs import RunState
from pages.parts.characteristics import reading_form
from pages.parts.characteristics import view as characteristics_view
from pages.shell import run_panel, scores_needed, session, tour
from pages.shell.notices import errors_shown


def main() -> None:
    """Show the newest reading of the score run at hand, or the way to one."""
    st.title("Characteristics")
    tour.show()
    with errors_shown():
        run = session.current_run()
        if run is None or run.state is not RunState.SUCCEEDED:
            scores_needed.show(
                run,
                "Characteristics explain the scores of a forget set. None is scored yet.",
                "its characteristics come",
            )
            return
        reading = session.current_reading(run)
        if reading is None:
            reading_form.show(run)
        elif reading.state is RunState.SUCCEEDED:
            characteristics_view.show(run, reading)
        else:
            run_panel.show(reading, leave=lambda: session.open_reading(""))


main()
