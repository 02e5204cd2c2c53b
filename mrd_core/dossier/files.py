"""Where the finished runs of the demo lie, and whether they are as they were shipped. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from mrd_core.demo import MODEL_DIR
from mrd_core.errors import UserError
from mrd_core.runs.files import Column, digest, read_json, write_json
from mrd_core.settings.command import shown

FOLDER = MODEL_DIR.with_name("dossier")
# Stands in the files for the folder that they lie in, whose place is nobody's business.
PLACE = "{dossier}"
# What the run store has of an unlearning run: a row per step and name, and a row per draw.
CURVES, DRAWN = "curves.parquet", "drawn.parquet"
TIMES = ("created_at", "started_at", "finished_at")
SHAKEN = (
    Column("sample_id", "Sample.", dtype="str"),
    Column("position", "of the token in its sample, the first being 0.", dtype="int64"),
    Column("token", "Its text.", dtype="str"),
    Column("log_prob", "P_t(θ), in fp64.", "nats"),
    Column("sigma", "σ of the noise."),
    Column("seed", "of the noise; the same seed is the same direction at every σ.", dtype="int64"),
    Column("plus", "P_t(θ + δ).", "nats"),
    Column("minus", "P_t(θ − δ).", "nats"),
)


class Part(StrEnum):
    """A finished run of the dossier, by its id, which names its directory, too.

    Attributes:
        SCORE: Score run of the forget set, with a reading of its texts.
        UNIFORM: GradDiff on samples drawn at random.
        WEIGHTED: GradDiff on samples drawn in proportion to the sum of their MRD.
        VALIDITY: 60 samples unlearned one by one.
        BEFORE: Evaluation of the model as it was.
        AFTER_UNIFORM: Evaluation of what the first unlearning left.
        AFTER_WEIGHTED: Evaluation of what the second unlearning left.
        DURABILITY: What comes back of both, beside the retrained reference.
    """

    SCORE = "demo-score"
    UNIFORM = "demo-uniform"
    WEIGHTED = "demo-weighted"
    VALIDITY = "demo-validity"
    BEFORE = "demo-before"
    AFTER_UNIFORM = "demo-after-uniform"
    AFTER_WEIGHTED = "demo-after-weighted"
    DURABILITY = "demo-durability"


@dataclass(frozen=True)
class Dossier:
    """The finished runs of the demo, each a directory as its kind describes it, without weights.

    Attributes:
        directory: Where they lie.
    """

    directory: Path

    def run(self, part: Part) -> Path:
        """Return the directory of a run."""
        return self.directory / part

    @property
    def shaken(self) -> Path:
        """A row per answer token of three samples, σ and seed, with the columns of `SHAKEN`."""
        return self.directory / "shaken.parquet"

    @property
    def rows(self) -> Path:
        """What the run store says of each run, oldest first: by directory its summary and `TIMES`."""
        return self.directory / "runs.json"

    @property
    def digests(self) -> Path:
        """SHA-256 of every other file."""
        return self.directory / "digests.json"

    def contents(self) -> list[str]:
        """Return the names of the files, the digests left out."""
        files = (path for path in self.directory.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.directory).as_posix() for path in files if path != self.digests)

    def seal(self) -> None:
        """Write down what every file holds."""
        write_json(self.digests, {name: digest(self.directory / name) for name in self.contents()})

    def check(self) -> None:
        """Refuse files that are not as they were sealed.

        Raises:
            UserError: One is missing, is too many, or holds something else.
        """
        sealed: dict[str, str] = read_json(self.digests) if self.digests.is_file() else {}
        for name in sorted(sealed.keys() | set(self.contents())) if sealed else [self.digests.name]:
            path = self.directory / name
            if not path.is_file():
                why = "is missing"
            elif name not in sealed:
                why = "does not belong there"
            elif digest(path) != sealed[name]:
                why = "is not as it was shipped"
            else:
                continue
            raise UserError(
                f"The file {name} of the demo's finished runs",
                f"{why} ({path}).",
                f"Install the program anew, or make the runs: {shown('demo', '--make', self.directory)}.",
            )


def shipped() -> Dossier:
    """Return the dossier that ships with the program.

    Raises:
        UserError: A file is not as it was shipped.
    """
    return opened(FOLDER)


@cache
def opened(directory: Path) -> Dossier:
    """Return the dossier in a folder; its files are looked at once.

    Raises:
        UserError: A file is not as it was sealed.
    """
    dossier = Dossier(directory)
    dossier.check()
    return dossier
