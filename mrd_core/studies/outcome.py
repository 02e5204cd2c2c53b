"""How a run of a study came out, in figures and in the words of the pages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from mrd_core.runs import Run, RunState
from mrd_core.runs.kind import headline
from mrd_core.unlearning.damage import rest
from mrd_core.unlearning.records import UnlearningSummary


def outcome(run: Run) -> dict[str, Any] | None:
    """Return the headline figures of a run that succeeded, as JSON; None of any other.

    Of an unlearning run these are its updates, the share of samples that are forgotten on the final weights, MA on
    the retain set as a share of what it was, and whether that counts as kept.
    """
    if run.state is not RunState.SUCCEEDED or not run.summary:
        return None
    figures: dict[str, Any] = {"headline": headline(run)}
    if run.kind == "unlearn":
        # Figures that cannot be read are told as such by the headline.
        with suppress(ValidationError):
            figures |= _unlearned(UnlearningSummary.model_validate(run.summary))
    return figures


def _unlearned(summary: UnlearningSummary) -> dict[str, Any]:
    before, after = summary.retain_accuracy_before, summary.retain_accuracy
    return {
        "updates": summary.updates,
        "forgotten_share": summary.forgotten_at_end / summary.n_samples if summary.n_samples else None,
        "retain_accuracy_share": after / before if before and after is not None else None,
        "retain_set": str(rest(summary)),
        "stop_reason": summary.stop_reason,
    }
