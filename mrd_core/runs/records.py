"""What runs write down of themselves, typed. Loads no torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Base of what is read from files that another version may have written: what is not known is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RunSummary(Record):
    """The figures of a whole run, as in its summary.json.

    Attributes:
        n_samples: Samples that it worked on.
        seconds: Time of the work [s].
        warnings: What a reader of the result should know, in sentences.
        reasons: For each automatic choice, what was chosen and why.
    """

    n_samples: int = 0
    seconds: float = 0.0
    warnings: list[str] = Field([])
    reasons: dict[str, str] = Field({})

    def as_json(self) -> dict[str, Any]:
        """Return what is written: all that was measured, and nothing that was not."""
        return self.model_dump(mode="json", exclude_unset=True)
