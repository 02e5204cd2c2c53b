"""The end of a run, asked for twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import streamlit as st

from pages.shell import session
from pages.shell.notices import errors_shown


def offer(
    run_id: str,
    leave: Callable[[], None],
    place: Any = st,
    key: str = "delete",
    kind: Literal["secondary", "tertiary"] = "secondary",
) -> None:
    """Show the button that deletes a run after one more question; `leave` then stops looking at it."""
    if place.button("Delete run", icon=":material/delete:", key=key, type=kind):
        confirm_deletion([run_id], leave)


def confirm_deletion(run_ids: Sequence[str], leave: Callable[[], None]) -> None:
    """Ask once more, then delete the runs and everything that this session knows of them."""
    runs = "this run" if len(run_ids) == 1 else f"these {len(run_ids)} runs"
    st.dialog(f"Delete {runs}?")(_ask)(run_ids, leave)


def _ask(run_ids: Sequence[str], leave: Callable[[], None]) -> None:
    st.markdown(
        "Its copies of the texts, its results and its rows in the store go with it. This cannot be undone."
        if len(run_ids) == 1
        else "Their copies of the texts, their results and their rows in the store go with them. This cannot be "
        "undone."
    )
    store = session.store()
    with errors_shown():
        directories = [str(store.get(run_id).directory) for run_id in run_ids]
    st.code("\n".join(directories), language=None, wrap_lines=True)
    if st.button("Delete", type="primary", key="really_delete"):
        with errors_shown():
            store.delete(*run_ids)
        # The cached ranking holds the texts too.
        st.cache_data.clear()
        leave()
        st.rerun()
