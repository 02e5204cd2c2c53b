"""Unlearning runs while they go on: how far each is, what to do about it, and their charts over each other."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mrd_core.runs import ACTIVE, Run
from mrd_core.unlearning.records import UnlearningSummary
from pages.parts.unlearning import charts, result
from pages.shell import run_list, unlearnings
from pages.shell.run_list import RunList

SECONDS_PER_RUN = 0.5


def show(runs: Sequence[Run]) -> None:
    """Show the runs; what is shown follows them until all have ended."""

    def outcome(run: Run) -> str:
        summary = UnlearningSummary.model_validate(run.summary)
        return (
            f"{result.reason_of(summary)} {summary.updates:,} updates; at the end {summary.forgotten_at_end} of "
            f"{summary.n_samples} forgotten."
        )

    listing = RunList(
        name="unlearn",
        noun="Run",
        stop="Stop",
        names=unlearnings.names_of,
        outcome=outcome,
        rest="Stopped; it can go on from its last checkpoint.",
        leave=unlearnings.leave,
        open_result=result.open_result,
    )
    run_list.show(listing, runs)
    # Charts of many runs take long to draw, and the processor is wanted for the runs themselves.
    often = max(1.0, len(runs) * SECONDS_PER_RUN)
    goes_on = any(run.state in ACTIVE for run in runs)
    st.fragment(charts.show, run_every=often if goes_on else None)(runs)
    run_list.details(listing, runs)
