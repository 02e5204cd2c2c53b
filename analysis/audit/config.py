"""What an audit, a balanced draw and a list of risks are told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mrd_core.scoring.columns import MRD_ANSWER_MEAN, MRD_TITLES
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


class BalanceConfig(Frozen):
    """Which forget sets are drawn from a pool."""

    pool: RunPath = Field(
        description="Score run of what is drawn from: its directory, or its id.",
        json_schema_extra={"argument": True, "required": True},
    )
    size: int = Field(
        ge=1, description="Samples of each set.", json_schema_extra={"unit": "samples", "required": True}
    )
    sets: int = Field(1, ge=1, le=1000, description="Sets to draw, no sample in two of them.")
    design: Literal["matched", "strata"] = Field(
        "matched",
        description="`matched`: each set is like the pool, or like --like, in all columns. `strata`: three sets, "
        "one from each third of the first column (hard, middle and easy by MRD), like the pool in the others.",
    )
    columns: tuple[str, ...] = Field(
        (),
        description="Numeric columns of the run, its measures, imported columns and characteristics; by default "
        "the MRD that the run ranks by, and n_tokens.",
    )
    like: Place | None = Field(
        None,
        description="A given forget set that the sets are to be like, named as for `mrd-lens audit set`; its own "
        "samples are not drawn.",
    )
    group: str | None = Field(None, min_length=1, description=GROUP)
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the search and of the random sets beside it.")


class RiskConfig(Frozen):
    """Which samples count as a risk that is left after unlearning."""

    run: RunPath = Field(
        description="Unlearning run: its directory, or its id.",
        json_schema_extra={"argument": True, "required": True},
    )
    hard: float = Field(
        1 / 3, gt=0, le=1, description="Share of the samples that counts as hard: those of the smallest MRD."
    )
    by: str = Field(
        MRD_ANSWER_MEAN,
        description="The MRD by which they are hard.",
        json_schema_extra={"enum": list(MRD_TITLES)},
    )
    accuracy: float | None = Field(
        None,
        ge=0,
        le=1,
        description="A sample is still there from this memorization accuracy (MA) on; where no threshold is set, "
        "from the one by which the run counts samples as forgotten.",
    )
    nll: float | None = Field(
        None,
        ge=0,
        description="A sample is still there up to this mean NLL.",
        json_schema_extra={"unit": "nats per answer token"},
    )
    extraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="A sample is still there from this extraction strength on; with --evaluation.",
    )
    evaluation: RunPath | None = Field(
        None, description="Evaluation of the run, its directory or its id, for the extraction strength."
    )
    durability: RunPath | None = Field(
        None,
        description="Durability experiment on the run, its directory or its id: what came back is a risk too.",
    )
