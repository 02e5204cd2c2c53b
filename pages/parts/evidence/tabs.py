"""A tab for each experiment: the question, what the runs of it show, and the form for another one."""

from __future__ import annotations

import streamlit as st

from analysis.evidence.kinds import interpretation
from mrd_core.errors import UserError
from mrd_core.experiments import kinds
from mrd_core.runs import ACTIVE, Run, RunState
from pages.parts.evidence import form as evidence_form
from pages.parts.evidence import result as evidence_result
from pages.parts.evidence import runs as evidence_runs
from pages.parts.evidence.kinds import presentation
from pages.shell import experiments, run_panel, session
from pages.shell.deletion import confirm_deletion
from pages.shell.notices import show_error

TAB = "evidence_tab"
SO_FAR_SECONDS = 5.0


def show(run: Run) -> None:
    """Show all experiments on a score run; only the tab that is open is drawn up."""
    titles = {kind: interpretation(kind).title for kind in kinds.experiments()}
    tabs = st.tabs(list(titles.values()), default=titles[_first(run)], key=TAB, on_change="rerun")
    for kind, tab in zip(titles, tabs, strict=True):
        if tab.open:
            with tab:
                _experiment(run, kind)


def _first(run: Run) -> str:
    """Return the kind of the experiment that the URL names."""
    named = st.query_params.get(session.EXPERIMENT)
    return next(
        (
            experiment.kind
            for experiment in session.store().list(kinds=kinds.experiments(), score_run=run)
            if experiment.id == named
        ),
        "validity",
    )


def _experiment(run: Run, kind: str) -> None:
    st.markdown(f"#### {interpretation(kind).question}")
    st.caption(interpretation(kind).procedure)
    known = experiments.of_kind(run, kind)
    looked_at = evidence_runs.choose(kind, known)
    if looked_at is not None:
        _run(run, looked_at)
    label = "Run it once more, with other settings" if known else "Run it"
    with st.expander(label, expanded=looked_at is None, icon=":material/tune:"):
        evidence_form.show(run, kind)


def _run(run: Run, experiment: Run) -> None:
    """Show an experiment in whatever state it is."""
    if experiment.state is RunState.SUCCEEDED:
        _result(run, experiment)
        return
    with st.container(border=True):
        st.caption(evidence_runs.in_words(experiment))
        run_panel.body(experiment, leave=lambda: session.open_experiment(experiment.kind, ""))
    so_far = presentation(experiment.kind).so_far
    if so_far is not None:
        st.fragment(so_far, run_every=SO_FAR_SECONDS if experiment.state in ACTIVE else None)(run, experiment)


def _result(run: Run, experiment: Run) -> None:
    try:
        evidence = evidence_runs.judged(experiment)
    except UserError as error:
        show_error(error)
        if st.button("Delete run", icon=":material/delete:", key="delete"):
            confirm_deletion(experiment.id, lambda: session.open_experiment(experiment.kind, ""))
        return
    evidence_result.show(run, experiment, evidence)
