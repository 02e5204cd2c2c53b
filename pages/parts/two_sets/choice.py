"""Which score runs are held against each other."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_uppercase

import streamlit as st

from mrd_core.runs import Run, RunState
from mrd_core.scoring.records import ScoreSummary
from pages.shell import session
from pages.shell.run_names import run_names
from pages.shell.wording import plain

# In the URL, so that a link shows what its sender saw.
SETS, CHOSEN = "sets", "chosen_sets"
MOST, MOST_LISTED = 8, 200


def choose(current: Run | None) -> list[tuple[str, Run]]:
    """Let the user choose score runs, and return them with their names, A first.

    Those of the URL, or else the run at hand, are chosen already.
    """
    listed = session.store().list(limit=MOST_LISTED, kinds=("score",), states=[RunState.SUCCEEDED])
    runs = {run.id: run for run in listed if (summary := ScoreSummary.of(run)) and not summary.preview}
    names = run_names(runs.values())
    if len(runs) < 2:
        st.info(
            "Two score runs are compared here, and there are fewer. Score a second forget set, the same one on "
            "another model, or with another seed.",
            icon=":material/compare_arrows:",
        )
        return []
    if CHOSEN not in st.session_state:
        linked = st.query_params.get(SETS, current.id if current else "").split(",")
        st.session_state[CHOSEN] = [run_id for run_id in linked if run_id in runs]
    chosen = st.multiselect(
        "Score runs",
        list(runs),
        key=CHOSEN,
        format_func=names.__getitem__,
        max_selections=MOST,
        persist_state="session",
        placeholder="Two sets, or one set on several models or with several seeds",
    )
    st.query_params[SETS] = ",".join(chosen)
    return [(names[run_id], runs[run_id]) for run_id in chosen]


def legend(names: Iterable[str]) -> None:
    """Say which letter stands for which run."""
    lines = (f"**{letter}** {plain(name)}" for letter, name in zip(ascii_uppercase, names, strict=False))
    st.markdown("  \n".join(lines))
