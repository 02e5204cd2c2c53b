"""What predicts unlearning, and a tab for each experiment: what the runs of it show, the form for another one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import streamlit as st

from analysis.evidence.kinds import interpretation
from mrd_core.errors import UserError
from mrd_core.experiments import kinds
from mrd_core.runs import ACTIVE, Run, RunState
from pages.parts.evidence import form, imported, launch, league, result, runs
from pages.parts.evidence.kinds import presentation
from pages.shell import deletion, experiments, run_panel, session
from pages.shell.notices import errors_shown, show_error
from pages.shell.scored import scored
from pages.shell.terms import linked

LEAGUE = "League table"
SO_FAR_SECONDS = 5.0


def show(run: Run) -> None:
    """Show what predicts unlearning, and all experiments on a score run; only the tab that is open is drawn up."""
    titles = {kind: interpretation(kind).title for kind in kinds.experiments()}
    if (launched := st.session_state.pop(launch.LAUNCHED, None)) is not None:
        st.session_state[experiments.TAB] = titles[launched]
    tabs = st.tabs(
        [LEAGUE, *titles.values()], default=_first(run, titles), key=experiments.TAB, bind=session.IN_URL
    )
    if tabs[0].open:
        with tabs[0]:
            league.show(run)
            imported.show(run)
    for kind, tab in zip(titles, tabs[1:], strict=True):
        if tab.open:
            with tab:
                _of_kind(run, kind)


def _first(run: Run, titles: Mapping[str, str]) -> str:
    """Return the tab of the experiment that the URL names, or else of the newest where it has not succeeded."""
    earlier = session.store().list(kinds=kinds.experiments(), score_run=run)
    experiment_id = st.query_params.get(session.EXPERIMENT)
    named = next((each for each in earlier if each.id == experiment_id), None)
    newest = next((each for each in earlier[:1] if each.state is not RunState.SUCCEEDED), None)
    return titles[first.kind] if (first := named or newest) else LEAGUE


def _of_kind(run: Run, kind: str) -> None:
    st.markdown(f"## {interpretation(kind).question}")
    st.caption(linked(interpretation(kind).procedure))
    earlier = experiments.of_kind(run, kind)
    experiment = runs.choose(kind, earlier)
    leave = partial(session.open_experiment, kind, "")
    if experiment is not None and experiment.state is RunState.SUCCEEDED:
        try:
            evidence = runs.judged(experiment)
        except UserError as error:
            show_error(error)
            deletion.offer(experiment.id, leave)
        else:
            result.show(run, experiment, evidence)
    elif experiment is not None:
        with st.container(border=True):
            st.caption(runs.in_words(experiment))
            run_panel.show(experiment, leave)
        so_far = presentation(kind).so_far
        if so_far is not None:
            often = SO_FAR_SECONDS if experiment.state in ACTIVE else None
            st.fragment(so_far, run_every=often)(run, experiment)
    one_click = presentation(kind).one_click
    if not earlier and one_click is not None:
        with st.container(border=True), errors_shown():
            one_click(scored(run))
    label = "Run it once more, with other settings" if earlier else "Run it"
    with st.expander(label, expanded=experiment is None and one_click is None, icon=":material/tune:"):
        form.show(run, kind)
