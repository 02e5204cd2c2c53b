"""Characteristics: what makes a sample of a scored forget set hard to unlearn."""

from mrd_core.runs import RunState
from pages.parts.characteristics import reading_form, view
from pages.shell import run_panel, session
from pages.shell.page import page, scored_run

with page("Characteristics", of_run=True):
    run = scored_run(
        "Characteristics explain the scores of a forget set. None is scored yet.", "its characteristics come"
    )
    reading = session.current_reading(run) if run else None
    if run and reading is None:
        reading_form.show(run)
    elif run and reading and reading.state is RunState.SUCCEEDED:
        view.show(run, reading)
    elif reading:
        run_panel.show(reading, leave=lambda: session.open_reading(""))
