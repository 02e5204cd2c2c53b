"""What a score run shows, on top of every page: five questions, each with its state and a way to the next step."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from analysis import verdict
from analysis.characteristics.files import CharacteristicsSummary
from analysis.verdict import ASKED, Question, State, Verdict
from mrd_core.runs import Run, RunState
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.records import UnlearningSummary
from pages.shell import experiments, layout, session, tour, unlearnings
from pages.shell.notices import heading, literal

# Icon, word and colour: none of them alone.
BADGES: dict[State, tuple[str, Literal["gray", "green", "orange", "red"]]] = {
    State.NOT_MEASURED: (":material/radio_button_unchecked:", "gray"),
    State.HOLDS: (":material/check_circle:", "green"),
    State.CANNOT_TELL: (":material/help:", "orange"),
    State.FAILS: (":material/cancel:", "red"),
    State.DAMAGED: (":material/heart_broken:", "red"),
}
# Where a question is answered, what that page is called, and what is done there while nothing is measured.
STEPS = {
    Question.EXPLAINED: (tour.CHARACTERISTICS, "Characteristics", "Read the texts"),
    Question.PREDICTIVE: (tour.EVIDENCE, "Evidence", "Find out"),
    Question.UNLEARNED: (tour.UNLEARNING, "Unlearning", "Unlearn"),
}


def show(run: Run) -> None:
    """Show the name of a score run that succeeded, how the five questions stand, and what follows in one line."""
    heading(run.title)
    experiment = experiments.finished_validity(run)
    verdicts, query = _verdicts(run, experiment), {session.RUN: run.id}
    judged_by = {session.EXPERIMENT: experiment.id} if experiment else {}
    with layout.grid("verdict_bar", columns=len(verdicts), least="10.5rem", is_last_wide=False):
        for each in verdicts:
            _cell(each, query | judged_by if each.question is Question.PREDICTIVE else query)
    st.markdown(f"**{verdict.conclusion(verdicts)}**")


def _cell(each: Verdict, query: dict[str, str]) -> None:
    icon, colour = BADGES[each.state]
    with st.container(border=True, height="stretch", gap="small", key=f"verdict_{each.question.lower()}"):
        st.markdown(f"**{each.question}**", help=ASKED[each.question])
        st.badge(each.state, icon=icon, color=colour)
        st.caption(each.sentence)
        if each.question in STEPS:
            page, title, step = STEPS[each.question]
            label = step if each.state is State.NOT_MEASURED else title
            st.page_link(page, label=f"{label} →", query_params=query)


def _verdicts(run: Run, experiment: Run | None) -> list[Verdict]:
    reading = session.current_reading(run)
    done = reading is not None and reading.state is RunState.SUCCEEDED
    claims = CharacteristicsSummary.model_validate(reading.summary).claims if reading and done else None
    return [
        verdict.measured(ScoreSummary.model_validate(run.summary)),
        verdict.explained(claims),
        verdict.predictive(experiments.headlines(experiment) if experiment else None),
        _unlearned(run),
        verdict.durable(),
    ]


def _unlearned(run: Run) -> Verdict:
    """Judge the selected unlearning run that ended last, or else the newest."""
    runs = session.store().list(kinds=("unlearn",), score_run=run)
    done = [each for each in session.current_unlearnings(runs) or runs if each.state is RunState.SUCCEEDED]
    if not done:
        return verdict.unlearned("", None)
    name = literal(unlearnings.names_of(done)[done[0].id])
    return verdict.unlearned(name, UnlearningSummary.model_validate(done[0].summary))
