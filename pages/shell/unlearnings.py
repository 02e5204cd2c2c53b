"""Which unlearning runs are looked at, and what charts call them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.unlearning.runs import run_name
from mrd_core.runs import Run
from mrd_core.unlearning.config import UnlearnConfig
from pages.shell import configs, reported, session
from pages.shell.notices import SYMBOLS

LOOKED_AT, STUDY = "unlearn_looked_at", "unlearn_study"


def choose(known: Sequence[Run], looked_at: Sequence[Run]) -> list[Run]:
    """Let the user add and leave out runs, and return those that are looked at, in the order of their launch."""
    studies = [study for study in dict.fromkeys(config_of(run).study for run in known) if study is not None]
    if len(known) > 1 and studies:
        runs, study = st.columns([3, 1], vertical_alignment="bottom")
        with runs:
            _choose_runs(known, looked_at)
        with study:
            _choose_study(known, studies)
    elif len(known) > 1:
        _choose_runs(known, looked_at)
    return sorted(looked_at, key=lambda run: run.seq)


def _choose_runs(known: Sequence[Run], looked_at: Sequence[Run]) -> None:
    titles = {run.id: f"{SYMBOLS[run.state]} {config_of(run).label}, seed {config_of(run).seed}" for run in known}
    # The URL says what is looked at, whatever this control said last.
    st.session_state[LOOKED_AT] = [run.id for run in reversed(looked_at)]
    st.multiselect(
        "Runs",
        list(titles),
        format_func=titles.__getitem__,
        key=LOOKED_AT,
        on_change=lambda: session.open_unlearnings(st.session_state[LOOKED_AT]),
        help="Those that the charts lay over each other",
    )


def _choose_study(known: Sequence[Run], studies: Sequence[str]) -> None:
    def take() -> None:
        study = st.session_state[STUDY]
        session.open_unlearnings(run.id for run in known if config_of(run).study == study)
        st.session_state[STUDY] = None

    st.selectbox("Comparison", studies, index=None, placeholder="All runs of …", key=STUDY, on_change=take)


def config_of(run: Run) -> UnlearnConfig:
    """Return the configuration of an unlearning run."""
    return configs.config_of(run, UnlearnConfig)


def names_of(runs: Sequence[Run]) -> dict[str, str]:
    """Return what charts call the runs, by id; runs of one setting and seed are told apart by their ids."""
    names = {run.id: run_name(config_of(run).label, config_of(run).seed) for run in runs}
    taken = list(names.values())
    return {
        run_id: name if taken.count(name) == 1 else f"{name} ({run_id[-4:]})" for run_id, name in names.items()
    }


def leave(run: Run) -> None:
    """Look at no deleted run any more."""
    reported.forget(run.id)
    st.session_state.pop(session.UNLEARN, None)
    st.query_params.pop(session.UNLEARN, None)
