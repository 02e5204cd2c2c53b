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
    known: dict[str, Reported] = st.session_state.setdefault(REPORTED, {})
    store, earlier = session.store(), known.get(run_id)
    if earlier is None:
        known[run_id] = Reported(_latest(store.metrics(run_id)), store.sample_updates(run_id))
        return known[run_id]
    metrics = store.metrics(run_id, after=_last(earlier.metrics))
    draws = store.sample_updates(run_id, after=_last(earlier.draws))
    if len(metrics) or len(draws):
        known[run_id] = Reported(_latest(_joined(earlier.metrics, metrics, 1)), _joined(earlier.draws, draws, 0))
    return known[run_id]


def forget(run_id: str) -> None:
    """Drop what is known of a run that is deleted."""
    st.session_state.get(REPORTED, {}).pop(run_id, None)


def _last(rows: pd.DataFrame) -> int:
    return int(rows["rowid"].iloc[-1]) if len(rows) else 0


def _latest(metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics.drop_duplicates(["step", "name"], keep="last")


def _joined(earlier: pd.DataFrame, fresh: pd.DataFrame, overlap: int) -> pd.DataFrame:
    """Return both, without the earlier rows of steps that a resumed run has taken once more.

    Args:
        earlier: Rows that are known.
        fresh: Rows that were written since.
        overlap: How many steps may be reported by several writes: the metrics of one are, its draws are not.
    """
    if fresh.empty:
        return earlier
    kept = earlier[earlier["step"] < fresh["step"].min() + overlap]
    return pd.concat([kept, fresh], ignore_index=True) if len(kept) else fresh
