"""Evaluations that go on or ended early: how far each is, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run, RunState
from mrd_core.settings.command import shown
from pages.parts.compare import runs as compare_runs
from pages.shell import layout as unlearn_layout
from pages.shell import run_panel, session
from pages.shell.deletion import confirm_deletion
from pages.shell.launching import resume
from pages.shell.notices import errors_shown, show_error, state_label
from pages.shell.wording import duration


def show(runs: Sequence[Run]) -> None:
    """Show the runs where any of them is not finished; what is shown follows them until all have ended."""
    runs = list({run.id: run for run in runs}.values())
    if all(run.state is RunState.SUCCEEDED for run in runs):
        return
    goes_on = any(run.state in ACTIVE for run in runs)
    st.fragment(_progress, run_every=1.0 if goes_on else None)([run.id for run in runs], _ended(runs))
    _details(runs)


def _ended(runs: Sequence[Run]) -> set[str]:
    return {run.id for run in runs if run.state not in ACTIVE}


def _progress(run_ids: Sequence[str], ended: set[str]) -> None:
    """Show where the runs stand; the whole page follows when one of them has ended or goes on again."""
    store = session.store()
    store.reap()
    with errors_shown():
        runs = [store.get(run_id) for run_id in run_ids]
    if _ended(runs) != ended:
        st.rerun()
    unlearn_layout.steady("compare_rows")
    with st.container(border=True, gap="small", key="compare_rows"):
        for run in runs:
            _row(run)
        _cancel_all(runs)
    for run in runs:
        if run.error:
            name = compare_runs.subject_of(run).name
            show_error(UserError(f"The evaluation of {name} did not finish", run.error.cause, run.error.advice))


def _row(run: Run) -> None:
    title, how_far, button = st.columns([4, 6, 3], vertical_alignment="center")
    title.markdown(f"**{compare_runs.subject_of(run).name}**  \n:small[{state_label(run)}]")
    with how_far:
        if run.state in ACTIVE:
            run_panel.progress(run)
        else:
            st.caption(_ending(run))
    with button:
        _button(run)


def _ending(run: Run) -> str:
    if run.state is RunState.SUCCEEDED and run.summary:
        return f"{run.summary['n_samples']} samples in {duration(run.summary['seconds'])}."
    if run.error:
        return "Its cause is told below."
    return "Stopped; the parts that are done are kept."


def _button(run: Run) -> None:
    if run.state is RunState.CANCELLING:
        st.caption("Stopping …")
    elif run.state in ACTIVE:
        st.button(
            "Cancel",
            icon=":material/stop_circle:",
            key=f"cancel_{run.id}",
            width="stretch",
            on_click=session.store().request_cancel,
            args=(run.id,),
        )
    elif run.state is not RunState.SUCCEEDED and st.button(
        "Resume", icon=":material/replay:", key=f"resume_{run.id}", width="stretch"
    ):
        with errors_shown():
            resume(run)
        st.rerun()


def _cancel_all(runs: Sequence[Run]) -> None:
    going_on = [run.id for run in runs if run.state in ACTIVE and run.state is not RunState.CANCELLING]
    if len(going_on) > 1:
        st.button(
            "Cancel all",
            icon=":material/stop_circle:",
            key="cancel_all",
            type="tertiary",
            on_click=lambda: [session.store().request_cancel(run_id) for run_id in going_on],
        )


def _details(runs: Sequence[Run]) -> None:
    """Offer log, command and deletion of one of the runs, drawn up only while somebody looks at them."""
    log = st.expander("Log", icon=":material/terminal:", key="compare_log", on_change="rerun")
    if not log.open:
        return
    named = {run.id: f"{compare_runs.name_of(run)} · {run.id}" for run in runs}
    with log:
        wanted = st.selectbox("Evaluation", list(named), format_func=named.__getitem__, key="compare_log_run")
        run = session.store().get(wanted)
        st.code(shown("run", run.directory), language="bash", wrap_lines=True)
        run_panel.log(run.id)
        if run.error and run.error.traceback:
            st.code(run.error.traceback, language=None, wrap_lines=True)
        if run.state not in ACTIVE and st.button("Delete run", icon=":material/delete:", key=f"delete_{run.id}"):
            confirm_deletion(run.id, lambda: None)
