"""Runs that go on or ended early, a row each: how far each is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run, RunState
from pages.shell import deletion, layout, redaction, run_panel, session
from pages.shell.inputs import select
from pages.shell.launching import resume
from pages.shell.notices import errors_shown, show_error, state_label

# More runs than these scroll, so that what is below stays within reach.
MOST_ROWS, ROWS_HEIGHT = 4, 260


@dataclass(frozen=True)
class RunList:
    """What a list of runs says of them.

    Attributes:
        name: Tells it from the other lists of the app.
        noun: What a run is called where one of them is chosen.
        stop: The word on the button that ends a run.
        names: Returns what the rows call the runs, by id.
        outcome: Returns in a sentence what a run that succeeded has done.
        rest: Says what is left of a run that was stopped.
        leave: Looks at no deleted run any more, where the page names it elsewhere.
        open_result: Looks at the result of a run; None where the page shows it below anyway.
    """

    name: str
    noun: str
    stop: str
    names: Callable[[Sequence[Run]], Mapping[str, str]]
    outcome: Callable[[Run], str]
    rest: str
    leave: Callable[[Run], None] = field(default=lambda _run: None)
    open_result: Callable[[Run], None] | None = None


def show(listing: RunList, runs: Sequence[Run]) -> None:
    """Show the runs; the rows follow them until all have ended."""
    goes_on = any(run.state in ACTIVE for run in runs)
    st.fragment(_progress, run_every=1.0 if goes_on else None)(listing, runs)


def _progress(listing: RunList, drawn: Sequence[Run]) -> None:
    """Show where the runs stand; the whole page follows when one of them has ended or goes on again."""
    store = session.store()
    with errors_shown():
        session.look_for_lost()
        runs = [store.get(run.id) for run in drawn]
    if [run.state in ACTIVE for run in runs] != [run.state in ACTIVE for run in drawn]:
        st.rerun()
    names, key = listing.names(runs), f"{listing.name}_rows"
    layout.steady(key)
    with st.container(
        border=True, height=ROWS_HEIGHT if len(runs) > MOST_ROWS else "content", gap="small", key=key
    ):
        # Those that go on stand first, where they need no scrolling.
        for run in sorted(runs, key=lambda run: run.state not in ACTIVE):
            _row(listing, run, names[run.id])
        running = [run.id for run in runs if run.state in ACTIVE - {RunState.CANCELLING}]
        if len(running) > 1:
            _stop_button(listing, running, " all", "all")
    for run in runs:
        run_panel.warnings(run.id, f"{names[run.id]}: ")
        if run.error:
            show_error(UserError(f"{names[run.id]} did not finish", redaction.cause(run.error), run.error.advice))


def _row(listing: RunList, run: Run, name: str) -> None:
    title, progress, button = st.columns([4, 6, 4], vertical_alignment="center")
    title.markdown(f"**{name}**  \n:small[{state_label(run)}]")
    with progress:
        if run.state in ACTIVE:
            run_panel.progress(run)
        elif run.state is RunState.SUCCEEDED:
            st.caption(listing.outcome(run))
        else:
            st.caption("Its cause is told below." if run.error else listing.rest)
    with button:
        if run.state is RunState.CANCELLING:
            st.caption("Stopping …")
        elif run.state in ACTIVE:
            _stop_button(listing, [run.id], "", run.id)
        elif run.state is RunState.SUCCEEDED:
            if listing.open_result and st.button(
                "Result", icon=":material/monitoring:", key=f"result_{run.id}", width="stretch"
            ):
                listing.open_result(run)
                st.rerun()
        elif st.button("Resume", icon=":material/replay:", key=f"resume_{run.id}", width="stretch"):
            with errors_shown():
                resume(run)
            st.rerun()


def _stop_button(listing: RunList, run_ids: Sequence[str], rest: str, mark: str) -> None:
    """Show a button that ends runs; `rest` is said behind its word, `mark` tells it from the others."""

    def stop() -> None:
        for run_id in run_ids:
            session.store().request_cancel(run_id)

    st.button(
        f"{listing.stop}{rest}",
        icon=":material/stop_circle:",
        key=f"{listing.stop.lower()}_{mark}",
        type="tertiary" if rest else "secondary",
        width="content" if rest else "stretch",
        on_click=stop,
    )


def details(listing: RunList, runs: Sequence[Run]) -> None:
    """Offer log, command and deletion of one of the runs, drawn up only while somebody looks at them."""
    log = st.expander("Log", icon=":material/terminal:", key=f"{listing.name}_log", on_change="rerun")
    if not log.open:
        return
    names = listing.names(runs)
    with log:
        titles = {run_id: f"{name} · {run_id}" for run_id, name in names.items()}
        run = session.store().get(select(listing.noun, titles, f"{listing.name}_log_run"))
        run_panel.log(run)
        if run.error and run.error.traceback and not redaction.is_on():
            st.code(run.error.traceback, language=None, wrap_lines=True)
        if run.state not in ACTIVE:
            deletion.offer(run.id, lambda: listing.leave(run), key=f"delete_{run.id}")
