"""What an experiment writes down of itself. Loads no torch."""

from __future__ import annotations

from pydantic import ConfigDict

from mrd_core.runs.records import RunSummary
from mrd_core.scoring.records import Scored


class ExperimentSummary(RunSummary):
    """The figures of a whole experiment; what one kind says besides, see `facts` of its study, stays as it is.

    Attributes:
        experiment: Its kind.
        units: Measurements that were made.
        scored: What its scores cost.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    experiment: str = ""
    units: int = 0
    scored: Scored | None = None
