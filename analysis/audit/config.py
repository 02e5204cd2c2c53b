"""What an audit, a balanced draw and a list of risks are told."""

from __future__ import annotations

from pydantic import Field

from mrd_core.settings.configuration import Frozen
from mrd_core.settings.fields import Place, RunPath

GROUP = (
    "Keep samples together that belong together, such as those of an author: a column of the run or of the file "
    "it was read from, or a number: so many consecutive samples are a group."
)


class AuditConfig(Frozen):
    """How a forget set is held against random ones."""

    pool: RunPath = Field(
        description="Score run of what the forget set could have been drawn from: its directory, or its id.",
        json_schema_extra={"argument": True, "required": True},
    )
    forget_set: Place = Field(
        description="The forget set: a file of samples of the pool, a text file with an id a line, a saved "
        "selection, or a score run of its own with the model and the settings of the pool.",
        json_schema_extra={"option": "set", "argument": True, "required": True},
    )
    group: str | None = Field(None, min_length=1, description=GROUP)
    draws: int = Field(
        9_999, ge=999, le=1_000_000, description="Random sets; where there are no more than that, all are taken."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the random sets.")
