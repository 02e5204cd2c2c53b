"""All runs of this machine as a table: filtered, grouped, named, opened and deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from mrd_core.runs import Run
from mrd_core.runs.kind import headline, is_known, kind_named
from mrd_core.runs.submission import adopt, unlisted
from mrd_core.settings.command import shown
from mrd_core.unlearning.methods import METHODS
from pages.shell import commands, deletion, doors, redaction, run_notes, session
from pages.shell.notices import SYMBOLS, errors_shown
from pages.shell.wording import plain

# Older ones are found by their directory.
MOST = 500
TABLE, OPENED, CHOSEN, GROUPED = "recent", "opened", "chosen_runs", "runs_grouped"


def show() -> None:
    """Show the runs, newest first; one that is chosen, or whose directory is named, is opened on its page."""
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


def _kind(run: Run) -> str:
    return kind_named(run.kind).label if is_known(run.kind) else run.kind


def _method(run: Run) -> str | None:
    declared = METHODS.get(run.method or "")
    return declared.label if declared else run.method


# What runs are told apart by, each by its label.
FILTERS: Mapping[str, Callable[[Run], str | None]] = {
    "Kind": _kind,
    "Model": lambda run: run.model,
    "Set": lambda run: run.forget_set,
    "Method": _method,
    "Study": lambda run: run.study,
    "State": lambda run: str(run.state),
}


def _filtered(runs: Sequence[Run]) -> list[Run]:
    """Let the user say which runs are wanted, and return those."""
    place = st.container(horizontal=True, vertical_alignment="bottom", key="runs_filters")
    words = place.text_input(
        "Find",
        placeholder="A name, tag, note or id",
        icon=":material/search:",
        key="runs_find",
        width=220,
        bind=session.IN_URL,
    )
    left = [run for run in runs if all(word in _searched(run) for word in words.lower().split())]
    for label, value_of in FILTERS.items():
        key = f"runs_{label.lower()}"
        values = {value_of(run) for run in runs}
        if len(values) > 1 or st.session_state.get(key):
            options = sorted(filter(None, values))
            wanted = place.selectbox(
                label, options, index=None, placeholder="All", key=key, width=132, bind=session.IN_URL
            )
            left = [run for run in left if wanted in (None, value_of(run))]
    if any(run.study for run in runs):
        about = "The runs of a study stand together"
        place.toggle("By study", key=GROUPED, help=about, bind=session.IN_URL)
    return left


def _searched(run: Run) -> str:
    texts = (run.title, run.id, run.study, run.model, run.forget_set, run.note, *run.tags)
    return " ".join(filter(None, texts)).lower()


def _by_study(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with those of a study behind the newest of it."""
    studies: dict[str, list[Run]] = {}
    for run in runs:
        studies.setdefault(run.study or run.id, []).append(run)
    return [run for study in studies.values() for run in study]


def _table(runs: Sequence[Run]) -> None:
    if not runs:
        st.info("No run is like this.", icon=":material/filter_alt_off:")
        return
    grouped = bool(st.session_state.get(GROUPED))
    rows = _by_study(runs) if grouped else list(runs)
    ids = [run.id for run in rows]
    # Rows are chosen by their place: another list is another table, on which the same runs stay chosen.
    key = f"{TABLE}_{hash(tuple(ids))}"

    def note_chosen() -> None:
        st.session_state[CHOSEN] = [ids[row] for row in st.session_state[key]["selection"]["rows"]]

    chosen = [run for run in rows if run.id in st.session_state.get(CHOSEN, ())]
    _actions(chosen, runs)
    st.dataframe(
        _frame(rows, grouped=grouped),
        hide_index=True,
        key=key,
        on_select=note_chosen,
        selection_mode="multi-row",
        selection_default={"selection": {"rows": [rows.index(run) for run in chosen]}},
        placeholder="–",
        column_config={
            "Started": st.column_config.DatetimeColumn(format="distance"),
            "Run": st.column_config.TextColumn(width="large"),
            "Tags": st.column_config.ListColumn(),
        },
        alt="Runs, newest first",
    )


def _actions(chosen: Sequence[Run], runs: Sequence[Run]) -> None:
    """Say what can be done with the runs that are chosen, and how runs are chosen."""
    place = st.container(horizontal=True, vertical_alignment="center", key="runs_actions")
    if not chosen:
        place.caption(f"{len(runs)} run(s). Tick one to open or to rename it, several to tag or to delete them.")
        return
    called = plain(chosen[0].title) if len(chosen) == 1 else f"{len(chosen)} runs"
    place.markdown(f"**{called}**", width="content")
    if len(chosen) == 1 and place.button("Open", icon=":material/open_in_new:", key="runs_go"):
        st.session_state[OPENED] = chosen[0].id
    label = "Name, tags, note" if len(chosen) == 1 else "Tags"
    if place.button(label, icon=":material/edit:", key="runs_edit"):
        run_notes.edit(chosen)
    if place.button("Delete", icon=":material/delete:", key="runs_delete"):
        deletion.confirm_deletion([run.id for run in chosen], _let_go)


def _let_go() -> None:
    """Stop looking at the runs that were chosen, which are gone."""
    if st.session_state.get(session.RUN) in st.session_state.pop(CHOSEN, ()):
        session.leave_run()


def _frame(runs: Sequence[Run], *, grouped: bool) -> pd.DataFrame:
    """Return the runs as a table, without columns that none of them has anything for."""
    columns = {
        "Study": [run.study for run in runs],
        "State": [f"{SYMBOLS[run.state]} {run.state}" for run in runs],
        "Kind": [_kind(run) for run in runs],
        "Run": [run.title for run in runs],
        "Outcome": [_outcome(run) for run in runs],
        "Tags": [list(run.tags) or None for run in runs],
        "Note": [run.note for run in runs],
        "Started": [run.created_at for run in runs],
    }
    frame = pd.DataFrame(columns).dropna(axis="columns", how="all")
    return frame if grouped or "Study" not in frame else frame[[*frame.columns.drop("Study"), "Study"]]


def _outcome(run: Run) -> str:
    """Return how a run came out in a few words, or why it did not, without the words of an exception."""
    return redaction.cause(run.error) if run.error else headline(run)


def _by_directory() -> None:
    """Let the user open a run by its directory, which the list takes up where it does not know it."""
    with st.expander("Open a run directory", icon=":material/folder_open:"):
        path = st.text_input("Directory", key="runs_directory", placeholder="/path/to/a/run", on_change="ignore")
        if st.button("Open", key="runs_open") and path:
            with errors_shown():
                run = adopt(Path(session.located(path, local=True)), session.store())
                doors.go_to(run)
