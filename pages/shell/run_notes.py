"""What people write on runs: a name, tags, a note."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mrd_core.runs import Run, annotation
from pages.shell import session
from pages.shell.notices import errors_shown


def edit(runs: Sequence[Run]) -> None:
    """Ask for the name, the tags and the note of a run, or for the tags of several."""
    if len(runs) == 1:
        st.dialog("Name, tags and note")(_edit_run)(runs[0])
    else:
        st.dialog(f"Tags of {len(runs)} runs")(_edit_tags)(runs)


def _edit_run(run: Run) -> None:
    name = st.text_input(
        "Name",
        run.title,
        key=f"run_name_{run.id}",
        max_chars=annotation.LONGEST_NAME,
        on_change="ignore",
        help="Empty: that of its settings",
    )
    tags = _tags([run])
    key, longest = f"run_note_{run.id}", annotation.LONGEST_NOTE
    note = st.text_area("Note", run.note or "", key=key, max_chars=longest, on_change="ignore")
    if st.button("Save", type="primary", key="save_run"):
        with errors_shown():
            store = session.store()
            if name != run.title:
                annotation.rename(store, run, name)
            _put(run, run.tags, tags)
            annotation.note(store, run, note)
        st.rerun()


def _edit_tags(runs: Sequence[Run]) -> None:
    tags = _tags(runs)
    if st.button("Save", type="primary", key="save_run"):
        with errors_shown():
            for run in runs:
                _put(run, _shared(runs), tags)
        st.rerun()


def _tags(runs: Sequence[Run]) -> list[str]:
    """Return the tags that the runs are to share."""
    known = {tag for run in session.store().list() for tag in run.tags}
    # Of these runs alone: what was typed for others and not saved is theirs.
    key = f"run_tags_{runs[0].id}_{len(runs)}"
    return st.multiselect(
        "Tags", sorted(known), _shared(runs), key=key, accept_new_options=True, placeholder="Type a new one"
    )


def _shared(runs: Sequence[Run]) -> list[str]:
    return [tag for tag in runs[0].tags if all(tag in run.tags for run in runs)]


def _put(run: Run, before: Sequence[str], after: Sequence[str]) -> None:
    annotation.tag(session.store(), run, after, set(before) - set(after))
