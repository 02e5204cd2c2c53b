"""Unlearning runs while they go on: how far each is, what to do about it, and their charts over each other."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run, RunState
from mrd_core.settings.command import shown
from pages.parts.unlearning import charts as unlearn_charts
from pages.parts.unlearning import result as unlearn_result
from pages.shell import layout as unlearn_layout
from pages.shell import run_panel, session, unlearnings
from pages.shell.deletion import confirm_deletion
from pages.shell.launching import resume
from pages.shell.notices import errors_shown, literal, show_error, state_label

# More runs than these scroll, so that the charts stay within reach.
MOST_ROWS, ROWS_HEIGHT = 4, 260
SECONDS_PER_RUN = 0.5


def show(runs: Sequence[Run]) -> None:
    """Show the runs; what is shown follows them until all have ended."""
    goes_on = any(run.state in ACTIVE for run in runs)
    # Charts of many runs take long to draw, and the processor is wanted for the runs themselves.
    often = max(1.0, len(runs) * SECONDS_PER_RUN)
    st.fragment(_progress, run_every=1.0 if goes_on else None)([run.id for run in runs], _ended(runs))
    st.fragment(unlearn_charts.show, run_every=often if goes_on else None)(runs)
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
    names = unlearnings.names_of(runs)
    unlearn_layout.steady("unlearn_rows")
    height = ROWS_HEIGHT if len(runs) > MOST_ROWS else "content"
    with st.container(border=True, height=height, gap="small", key="unlearn_rows"):
        # Those that go on stand first, where they need no scrolling.
        for run in sorted(runs, key=lambda run: run.state not in ACTIVE):
            _row(run, names[run.id])
    for run in runs:
        _notices(run, names[run.id])


def _row(run: Run, name: str) -> None:
    title, how_far, button = st.columns([4, 6, 4], vertical_alignment="center")
    title.markdown(f"**{name}**  \n:small[{state_label(run)}]")
    with how_far:
        if run.state in ACTIVE:
            run_panel.progress(run)
        else:
            st.caption(_ending(run))
    with button:
        _button(run)


def _ending(run: Run) -> str:
    if run.state is RunState.SUCCEEDED and run.summary:
        done = run.summary
        return (
            f"{unlearn_result.reason_of(done)} {done['updates']:,} updates; at the end {done['forgotten_at_end']} "
            f"of {done['n_samples']} forgotten."
        )
    if run.error:
        return "Its cause is told below."
    return "Stopped; it can go on from its last checkpoint."


def _button(run: Run) -> None:
    if run.state is RunState.CANCELLING:
        st.caption("Stopping …")
    elif run.state in ACTIVE:
        st.button(
            "Stop",
            icon=":material/stop_circle:",
            key=f"stop_{run.id}",
            width="stretch",
            on_click=session.store().request_cancel,
            args=(run.id,),
        )
    elif run.state is RunState.SUCCEEDED:
        if st.button("Result", icon=":material/monitoring:", key=f"result_{run.id}", width="stretch"):
            unlearn_result.open_result(run)
            st.rerun()
    elif st.button("Resume", icon=":material/replay:", key=f"resume_{run.id}", width="stretch"):
        with errors_shown():
            resume(run)
        st.rerun()


def _notices(run: Run, name: str) -> None:
    """Show the warnings of a run, and why it broke down."""
    for event in session.store().events(run.id).query("level == 'warning'").itertuples():
        st.warning(f"{name}: {literal(str(event.message))}", icon=":material/warning:")
    if run.error:
        show_error(UserError(f"{name} did not finish", run.error.cause, run.error.advice))


def _details(runs: Sequence[Run]) -> None:
    """Offer log, command and deletion of one of the runs, drawn up only while somebody looks at them."""
    log = st.expander("Log", icon=":material/terminal:", key="unlearn_log", on_change="rerun")
    if not log.open:
        return
    names = unlearnings.names_of(runs)
    with log:
        wanted = st.selectbox("Run", list(names), format_func=names.__getitem__, key="unlearn_log_run")
        run = session.store().get(wanted)
        st.code(shown("run", run.directory), language="bash", wrap_lines=True)
        run_panel.log(run.id)
        if run.error and run.error.traceback:
            st.code(run.error.traceback, language=None, wrap_lines=True)
        if run.state not in ACTIVE and st.button("Delete run", icon=":material/delete:", key=f"delete_{run.id}"):
            confirm_deletion(run.id, lambda: unlearnings.leave(run))
