"""Exact parts of the tokens of one sample, as a run of its own. Loads no torch.

Its directory lies in that of the score run and is named for the sample: it is made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mrd_core.runs.directory import read_config
from mrd_core.runs.files import Artifact, Column, RunDirectory
from mrd_core.runs.kind import Description, Kind, Summary
from mrd_core.runs.records import RunSummary
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.command import Command
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.fields import RunPath


class TokenPartsConfig(RunConfig):
    """One sample of a score run, whose tokens are taken apart by a backward pass each."""

    kind: Literal["token-parts"] = "token-parts"
    score_run: RunPath = Field(
        description="Score run: its directory, or its id.",
        json_schema_extra={"option": "run", "argument": True, "required": True},
    )
    sample_id: str = Field(
        description="Id of the sample.",
        json_schema_extra={"option": "sample", "argument": True, "required": True},
    )

    @property
    def device(self) -> str:
        """The device of the score run's model."""
        return read_config(self.score_run, ScoreConfig).device

    @property
    def title(self) -> str:
        """Return a title for people."""
        return f"Tokens of {self.sample_id}"


TOKEN_COLUMNS = (
    Column("position", "of the token in its sample, the first being 0", dtype="int64"),
    Column("speed", "w p(1−p) ‖∇m‖², exactly; undefined where the token is left out"),
    Column("speed_se", "0"),
    Column(
        "spread", "w (1−p) Σ_v q_v ‖∇z_v − ∇z̄‖², mean of a few sign probes; undefined where that takes too long"
    ),
    Column("spread_se", "standard error of that mean"),
)


@dataclass(frozen=True)
class TokenPartsFiles(RunDirectory):
    """What the directory of such a run holds, by name."""

    noun: ClassVar[str] = "run of token parts"
    results: ClassVar[tuple[str, ...]] = ("tokens", "summary")

    tokens = Artifact("tokens.parquet", "A row per token but the first: its speed and spread.", TOKEN_COLUMNS)


class TokenPartsSummary(RunSummary):
    """How the tokens were taken apart.

    Attributes:
        tokens: Tokens that were taken apart.
        probes: Sign probes of the spread of each; 0 where they would take too long.
    """

    tokens: int = 0
    probes: int = 0


def place(config: TokenPartsConfig) -> Path:
    """Return where the run of this sample lies.

    Raises:
        UserError: There is no finished score run.
    """
    return ScoreFiles.finished(config.score_run).exact_parts(config.sample_id)


def headline(summary: Summary) -> str:
    """Return how many tokens were taken apart."""
    return f"{TokenPartsSummary.model_validate(summary).tokens} tokens taken apart"


def describe(directory: Path, summary: Summary) -> Description:
    """Return what was taken apart, and where it lies."""
    figures = TokenPartsSummary.model_validate(summary)
    spread = (
        f"their spread by {figures.probes} sign probes" if figures.probes else "their spread would take too long"
    )
    return Description(
        (
            f"{figures.tokens} tokens in {figures.seconds:.0f} s: their speed exactly, {spread}.",
            f"Tokens: {TokenPartsFiles(directory).tokens}",
        )
    )


TOKEN_PARTS = Kind(
    name="token-parts",
    label="Token parts",
    config=TokenPartsConfig,
    job="mrd_core.scoring.exact:token_parts_job",
    files=TokenPartsFiles,
    counted="tokens",
    headline=headline,
    describe=describe,
    place=place,
)
TOKENS = Command(("tokens",), TokenPartsConfig)
