"""Which unlearning runs are looked at, what charts call them, and what they have reported so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis.unlearning.runs import run_name
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.unlearning.config import UnlearnConfig
from pages.shell import session
from pages.shell.notices import SYMBOLS

LOOKED_AT, STUDY, ROWS = "unlearn_looked_at", "unlearn_study", "unlearn_rows"
# Where a button that is not the view's own control says which view comes next.
GO_TO = "unlearn_go_to"


@dataclass(frozen=True)
class Rows:
    """What a run has reported, as the run store gives it.

    Attributes:
        metrics: Columns rowid, step, name, value.
        draws: Columns rowid, step, sample_id, accuracy, trained, forgotten.
    """

    metrics: pd.DataFrame
    draws: pd.DataFrame


def choose(known: Sequence[Run], looked_at: Sequence[Run]) -> list[Run]:
    """Let the user add and leave out runs, and return those that are looked at, in the order of their launch."""
    studies = [study for study in dict.fromkeys(config_of(run).study for run in known) if study is not None]
    if len(known) > 1 and studies:
        runs, study = st.columns([3, 1], vertical_alignment="bottom")
        with runs:
            _runs(known, looked_at)
        with study:
            _study(known, studies)
    elif len(known) > 1:
        _runs(known, looked_at)
    return sorted(looked_at, key=lambda run: run.seq)


def _runs(known: Sequence[Run], looked_at: Sequence[Run]) -> None:
    named = {run.id: f"{SYMBOLS[run.state]} {config_of(run).label}, seed {config_of(run).seed}" for run in known}
    # The URL says what is looked at, whatever this control said last.
    st.session_state[LOOKED_AT] = [run.id for run in reversed(looked_at)]
    st.multiselect(
        "Runs",
        list(named),
        format_func=named.__getitem__,
        key=LOOKED_AT,
        on_change=lambda: session.open_unlearnings(st.session_state[LOOKED_AT]),
        help="Those that the charts lay over each other",
    )


def _study(known: Sequence[Run], named: Sequence[str]) -> None:
    def take() -> None:
        study = st.session_state[STUDY]
        session.open_unlearnings(run.id for run in known if config_of(run).study == study)
        st.session_state[STUDY] = None

    st.selectbox("Comparison", named, index=None, placeholder="All runs of …", key=STUDY, on_change=take)


def config_of(run: Run) -> UnlearnConfig:
    """Return the configuration of an unlearning run."""
    return _config(run.id, str(run.directory))


@st.cache_resource(show_spinner=False, max_entries=500)
def _config(run_id: str, directory: str) -> UnlearnConfig:  # noqa: ARG001  (run_id is the key)
    return read_config(Path(directory), UnlearnConfig)


def names_of(runs: Sequence[Run]) -> dict[str, str]:
    """Return what charts call the runs, by id; runs of one setting and seed are told apart by their ids."""
    names = {run.id: run_name(config_of(run).label, config_of(run).seed) for run in runs}
    taken = list(names.values())
    return {
        run_id: name if taken.count(name) == 1 else f"{name} ({run_id[-4:]})" for run_id, name in names.items()
    }


def rows_of(run_id: str) -> Rows:
    """Return what a run has reported, reading only rows that this session has not read yet."""
    known: dict[str, Rows] = st.session_state.setdefault(ROWS, {})
    store = session.store()
    if run_id not in known:
        known[run_id] = Rows(store.metrics(run_id), store.sample_updates(run_id))
        return known[run_id]
    old = known[run_id]
    metrics = store.metrics(run_id, after=_last(old.metrics))
    draws = store.sample_updates(run_id, after=_last(old.draws))
    if len(metrics) or len(draws):
        known[run_id] = Rows(_joined(old.metrics, metrics, 1), _joined(old.draws, draws, 0))
    return known[run_id]


def _last(rows: pd.DataFrame) -> int:
    return int(rows["rowid"].iloc[-1]) if len(rows) else 0


def _joined(old: pd.DataFrame, fresh: pd.DataFrame, overlap: int) -> pd.DataFrame:
    """Return both, without the old rows of steps that a resumed run has taken once more.

    Args:
        overlap: How many steps may be reported by several writes: the metrics of one are, its draws are not.
    """
    if fresh.empty:
        return old
    kept = old[old["step"] < fresh["step"].min() + overlap]
    return pd.concat([kept, fresh], ignore_index=True) if len(kept) else fresh


def leave(run: Run) -> None:
    """Look at no deleted run any more."""
    st.session_state.get(ROWS, {}).pop(run.id, None)
    st.session_state.pop(session.UNLEARN, None)
    st.query_params.pop(session.UNLEARN, None)
