"""What a score run shows, on top of every page: five questions, each with its state and a way to the next step."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from analysis import verdict
from analysis.characteristics.files import CharacteristicsSummary
from analysis.comparison.kept import rest_with_answers
from analysis.evidence.kinds import interpretation
from analysis.verdict import ASKED, Question, State, Verdict
from mrd_core.experiments import short_check
from mrd_core.experiments.cost import estimate as experiment_cost
from mrd_core.runs import ACTIVE, Run, RunState
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.config import RetainConfig, UnlearnConfig
from mrd_core.unlearning.cost import estimate as unlearning_cost
from mrd_core.unlearning.records import UnlearningSummary
from pages.shell import attacks, configs, experiments, layout, paths, run_panel, session, terms, unlearnings
from pages.shell.notices import errors_shown, literal
from pages.shell.scored import scored
from pages.shell.wording import duration

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
    Question.EXPLAINED: (paths.CHARACTERISTICS, "Characteristics", "Read the texts"),
    Question.PREDICTIVE: (paths.EVIDENCE, "Evidence", "Find out"),
    Question.UNLEARNED: (paths.UNLEARNING, "Unlearning", "Unlearn"),
    Question.DURABLE: (paths.EVIDENCE, "Durability", "Try to bring it back"),
}


def show(run: Run, *, watches: bool = True) -> None:
    """Show how the five questions stand for a score run that succeeded, and what follows in one line.

    Args:
        run: The score run.
        watches: Whether an experiment that goes on is followed beneath; the page of experiments does that itself.
    """
    experiment = experiments.finished_validity(run)
    verdicts, query = _verdicts(run, experiment), {session.RUN: run.id}
    of_question = {Question.DURABLE: {experiments.TAB: interpretation(experiments.DURABILITY).title}}
    if experiment:
        of_question[Question.PREDICTIVE] = {session.EXPERIMENT: experiment.id}
    costs = _costs(run) if any(each.state is State.NOT_MEASURED for each in verdicts) else {}
    with layout.grid("verdict_bar", columns=len(verdicts), least="10.5rem", is_last_wide=False):
        for each in verdicts:
            _cell(each, query | of_question.get(each.question, {}), costs.get(each.question))
    st.markdown(terms.linked(f"**{verdict.conclusion(verdicts)}**"))
    if not watches or experiment is not None:
        return
    if running := experiments.running_validity(run):
        _watch(running.id)
    elif experiments.is_check_due(run):
        _await(run)


@st.fragment(run_every=2.0)
def _watch(run_id: str) -> None:
    """Show how far the experiment is that will say what the ranking foretells, until it has ended."""
    with errors_shown():
        session.look_for_lost()
        running = session.store().get(run_id)
    if running.state not in ACTIVE:
        st.rerun()
    st.caption("Being looked at: does the ranking foretell how many updates forgetting takes?")
    run_panel.progress(running)


@st.fragment(run_every=2.0)
def _await(run: Run) -> None:
    """Draw the page anew as soon as the check that is to follow a score run has begun, or is overdue."""
    with errors_shown():
        due = experiments.is_check_due(run)
    if not due:
        st.rerun()
    st.caption("About to be looked at: does the ranking foretell how many updates forgetting takes?")


@st.cache_data(show_spinner=False, max_entries=32, ttl=60, hash_funcs=configs.BY_ATTEMPT)
def _costs(run: Run) -> dict[Question, float]:
    """Return what the next steps take by their usual settings [s], where it is known."""
    past = session.store().list(limit=50, states=[RunState.SUCCEEDED])
    config, summary = configs.config_of(run, ScoreConfig), ScoreSummary.model_validate(run.summary)
    if summary.preview:
        return {}
    kept = RetainConfig(samples=scored(run).retain)
    unlearning = UnlearnConfig(score_run=run.directory, model=config.model, retain=kept)
    check = short_check.of(config, run.directory)
    costs = {
        Question.PREDICTIVE: experiment_cost(check, summary, summary.n_samples, past).seconds,
        Question.UNLEARNED: unlearning_cost(unlearning, summary, summary.n_samples, None, past).seconds,
    }
    if finished := unlearnings.judged(run):
        attempt = attacks.quick(scored(run), finished[0])
        costs[Question.DURABLE] = experiment_cost(attempt, summary, summary.n_samples, past).seconds
    if reading := next((each.summary for each in past if each.kind == "characteristics"), None):
        done = CharacteristicsSummary.model_validate(reading)
        costs[Question.EXPLAINED] = done.seconds / done.n_samples * summary.n_samples
    return costs


def _cell(each: Verdict, query: dict[str, str], cost: float | None) -> None:
    icon, colour = BADGES[each.state]
    with st.container(border=True, height="stretch", gap="xxsmall", key=f"verdict_{each.question.lower()}"):
        st.markdown(f"**{each.question}**", help=ASKED[each.question])
        st.badge(each.state, icon=icon, color=colour)
        st.caption(terms.linked(each.sentence))
        if each.question in STEPS:
            page, title, step = STEPS[each.question]
            label = title
            if each.state is State.NOT_MEASURED:
                label = f"{step}, about {duration(cost)}" if cost else step
            st.page_link(page, label=f"{label}\u00a0→", query_params=query)


def _verdicts(run: Run, experiment: Run | None) -> list[Verdict]:
    reading = session.current_reading(run)
    done = reading is not None and reading.state is RunState.SUCCEEDED
    claims = CharacteristicsSummary.model_validate(reading.summary).claims if reading and done else None
    return [
        verdict.measured(ScoreSummary.model_validate(run.summary)),
        verdict.explained(claims),
        verdict.predictive(experiments.headlines(experiment) if experiment else None),
        _unlearned(run),
        _durable(run),
    ]


def _unlearned(run: Run) -> Verdict:
    """Judge the selected unlearning run that ended last, or else the newest."""
    done = unlearnings.judged(run)
    if not done:
        return verdict.unlearned("", None)
    name = literal(unlearnings.names_of(done)[done[0].id])
    return verdict.unlearned(name, _summary(done[0]), unlearnings.kept_answers_of(done[0]))


def _durable(run: Run) -> Verdict:
    """Judge what came back of that unlearning run; where nobody tried, of the newest that was attacked."""
    attacked = experiments.attacked(run, [*unlearnings.judged(run), *unlearnings.finished(run)])
    if attacked is None:
        return verdict.durable()
    unlearned, experiment = attacked
    own = [line for line in experiments.comebacks(experiment) if line.model == unlearned.directory.name]
    name = literal(unlearnings.names_of([unlearned])[unlearned.id])
    left, _ = rest_with_answers(_summary(unlearned), unlearnings.kept_answers_of(unlearned))
    return verdict.durable(name, own, left)


def _summary(unlearned: Run) -> UnlearningSummary:
    return UnlearningSummary.model_validate(unlearned.summary)
