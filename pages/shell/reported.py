"""What runs have reported so far, each row read once."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from pages.shell import session

REPORTED = "reported"


@dataclass(frozen=True)
class Reported:
    """What a run has reported, as the run store gives it; of steps that it took twice the later report.

    Attributes:
        metrics: Columns rowid, step, name, value.
        draws: Columns rowid, step, sample_id, accuracy, trained, forgotten.
    """

    metrics: pd.DataFrame
    draws: pd.DataFrame


def of_run(run_id: str) -> Reported:
    """Return what a run has reported, reading only rows that this session has not read yet."""
    reports: dict[str, Reported] = st.session_state.setdefault(REPORTED, {})
    store, earlier = session.store(), reports.get(run_id)
    if earlier is None:
        metrics, draws = store.metrics(run_id), store.sample_updates(run_id)
    else:
        metrics = _joined(earlier.metrics, store.metrics(run_id, after=_last(earlier.metrics)), 1)
        draws = _joined(earlier.draws, store.sample_updates(run_id, after=_last(earlier.draws)), 0)
    if earlier is None or metrics is not earlier.metrics or draws is not earlier.draws:
        reports[run_id] = Reported(metrics.drop_duplicates(["step", "name"], keep="last"), draws)
    return reports[run_id]


def forget(run_id: str) -> None:
    """Drop what a run has reported that is deleted."""
    st.session_state.get(REPORTED, {}).pop(run_id, None)


def _last(rows: pd.DataFrame) -> int:
    return int(rows["rowid"].iloc[-1]) if len(rows) else 0


def _joined(earlier: pd.DataFrame, fresh: pd.DataFrame, overlap: int) -> pd.DataFrame:
    """Return both, without the earlier rows of steps that a resumed run has taken once more.

    Args:
        earlier: Rows that were read before.
        fresh: Rows that were written since.
        overlap: How many steps may be reported by several writes: the metrics of one are, its draws are not.
    """
    if fresh.empty:
        return earlier
    kept = earlier[earlier["step"] < fresh["step"].min() + overlap]
    return pd.concat([kept, fresh], ignore_index=True) if len(kept) else fresh
