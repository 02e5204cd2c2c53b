"""What an evaluation writes down of itself. Loads no torch."""

from __future__ import annotations

from pydantic import Field

from mrd_core.runs.records import RunSummary


class EvaluationSummary(RunSummary):
    """What was asked, and how.

    Attributes:
        sets: Samples of each set.
        notes: What is to be known of the sets, in sentences.
        seconds_by_set: Time of each part [s].
        texts_generated: Texts that the model wrote.
        reference: The retrained reference; None without one.
        harness: By task and metric, what lm-evaluation-harness found; None where it was not asked.
    """

    suite: str = ""
    sets: dict[str, int] = Field({})
    notes: list[str] = Field([])
    seconds_by_set: dict[str, float] = Field({})
    texts_generated: int = 0
    reference: str | None = None
    harness: dict[str, dict[str, float | None]] | None = None
