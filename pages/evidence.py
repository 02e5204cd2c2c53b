"""Evidence: does difficulty predict unlearning on this model? Experiments, their verdicts and their figures."""

import streamlit as st

from mrd_core.runs import RunState
from pages.parts.evidence import league as evidence_league
from pages.parts.evidence import tabs as evidence_tabs
from pages.shell import scores_needed, session, tour
from pages.shell.notices import errors_shown, heading


def main() -> None:
    """Show the league table of the score run at hand, and a tab for each experiment on it."""
    st.title("Evidence")
    tour.show()
    with errors_shown():
        run = session.current_run()
        if run is None or run.state is not RunState.SUCCEEDED:
            scores_needed.show(
                run, "Evidence is gathered for the scores of a forget set. None is scored yet.", "evidence comes"
            )
            return
        heading(run.title)
        session.store().reap()
        evidence_league.show(run)
        evidence_tabs.show(run)


main()
