"""Evaluations that go on or ended early: how far each is, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from mrd_core.evaluation.records import EvaluationSummary
from mrd_core.runs import Run, RunState
from pages.parts.compare.runs import subject_of
from pages.shell import run_list
from pages.shell.run_list import RunList
from pages.shell.wording import duration


def show(runs: Sequence[Run]) -> None:
    """Show the runs where any of them is not finished; what is shown follows them until all have ended."""
    runs = list({run.id: run for run in runs}.values())
    if all(run.state is RunState.SUCCEEDED for run in runs):
        return

    def outcome(run: Run) -> str:
        summary = EvaluationSummary.model_validate(run.summary)
        return f"{summary.n_samples} samples in {duration(summary.seconds)}."

    listing = RunList(
        name="compare",
        noun="Evaluation",
        stop="Cancel",
        names=lambda runs: {run.id: subject_of(run).name for run in runs},
        outcome=outcome,
        rest="Stopped; the parts that are done are kept.",
    )
    run_list.show(listing, runs)
    run_list.details(listing, runs)
