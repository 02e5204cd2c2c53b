"""All runs of this machine as a table: filtered, opened by a click or by the path of their directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from mrd_core.runs import Run, RunState
from mrd_core.runs.kind import is_known, kind_named
from mrd_core.runs.launcher import adopt, unlisted
from mrd_core.settings.command import shown
from pages.shell import commands, doors, session
from pages.shell.notices import SYMBOLS, errors_shown

# Older ones are found by their directory.
MOST = 500
TABLE, OPENED = "recent", "opened"


def show() -> None:
    """Show the runs, newest first; one whose row or directory is chosen is opened on its page."""
    with errors_shown():
        store = session.store()
        session.look_for_lost()
        runs = store.list(limit=MOST)
    if not store.obstacle and (left := unlisted(store)):
        st.caption(f"{len(left)} run(s) on this machine are in no list. Take them up with:")
        commands.show(shown("runs", "adopt", store.home / "runs"))
    if runs:
        _table(_filtered(runs))
    else:
        st.caption("None yet. The first one is two clicks away: *Use the demo*, then *Score*.")
    _by_directory()
    if opened := st.session_state.pop(OPENED, None):
        with errors_shown():
            doors.go_to(store.get(opened))


def _filtered(runs: Sequence[Run]) -> list[Run]:
    """Let the user say which runs are wanted, and return those."""
    place = st.container(horizontal=True, vertical_alignment="bottom")
    words = place.text_input(
        "Find", placeholder="A name, a model, a set, an id", icon=":material/search:", key="runs_find"
    )
    kinds = {run.kind: _kind(run) for run in runs}
    kind = place.selectbox(
        "Kind", list(kinds), index=None, format_func=kinds.__getitem__, placeholder="Every kind", key="runs_kind"
    )
    states = list(dict.fromkeys(str(run.state) for run in runs))
    state = place.selectbox("State", states, index=None, placeholder="Every state", key="runs_state")
    return [
        run
        for run in runs
        if all(word in f"{run.title} {run.id} {run.study or ''}".lower() for word in words.lower().split())
        and kind in (None, run.kind)
        and state in (None, run.state)
    ]


def _table(runs: Sequence[Run]) -> None:
    if not runs:
        st.info("No run is like this.", icon=":material/filter_alt_off:")
        return

    def note_selected() -> None:
        rows = st.session_state[TABLE]["selection"]["rows"]
        if rows:
            st.session_state[OPENED] = runs[rows[0]].id

    st.dataframe(
        pd.DataFrame(
            {
                "State": [f"{SYMBOLS[run.state]} {run.state}" for run in runs],
                "Kind": [_kind(run) for run in runs],
                "Run": [run.title for run in runs],
                "Outcome": [_outcome(run) for run in runs],
                "Study": [run.study for run in runs],
                "Started": [run.created_at for run in runs],
                "Id": [run.id for run in runs],
            }
        ).dropna(axis="columns", how="all"),
        hide_index=True,
        key=TABLE,
        on_select=note_selected,
        selection_mode="single-row",
        placeholder="–",
        column_config={"Started": st.column_config.DatetimeColumn(format="distance")},
        alt="Runs, newest first",
    )
    st.caption("Select a row to open its run.")


def _kind(run: Run) -> str:
    return kind_named(run.kind).label if is_known(run.kind) else run.kind


def _outcome(run: Run) -> str:
    """Return how a run came out in a few words, or why it did not."""
    if run.state is RunState.SUCCEEDED:
        return kind_named(run.kind).headline(run.summary or {})
    return run.error.cause if run.error else ""


def _by_directory() -> None:
    """Let the user open a run by its directory, which the list takes up where it does not know it."""
    with st.expander("Open a run directory", icon=":material/folder_open:"):
        path = st.text_input("Directory", key="runs_directory", placeholder="/path/to/a/run")
        if st.button("Open", key="runs_open") and path:
            with errors_shown():
                run = adopt(Path(session.located(path, local=True)), session.store())
                doors.go_to(run)
