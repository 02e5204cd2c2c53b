"""What an experiment declares: its configuration, the rows that it writes, its cost, and what carries it out.

Loads no torch, so that the command line, the pages and the documentation can be made from what is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.files import ExperimentFiles, Row
from mrd_core.settings.command import Nested

if TYPE_CHECKING:
    import pandas as pd

    from mrd_core.runs import JobContext
    from mrd_core.samples import ForgetSet


class Column(NamedTuple):
    """A column of rows.

    Attributes:
        type: What its cells hold; a number and a text may be None where there is none.
        help: What it tells, with its unit in brackets where it has one.
    """

    type: Literal["number", "text", "flag", "list"]
    help: str


@dataclass(frozen=True)
class Part:
    """One sort of rows of an experiment, with columns of its own.

    Attributes:
        name: Value of the column `part` of its rows.
        columns: All others by name.
    """

    name: str
    columns: Mapping[str, Column]

    def row(self, /, **values: Any) -> Row:
        """Return a row of this part from JSON values.

        Raises:
            KeyError: A column is not declared.
        """
        undeclared = values.keys() - self.columns.keys()
        if undeclared:
            raise KeyError(f"{self.name} declares no column {', '.join(sorted(undeclared))}")
        return {"part": self.name, **values}


SAMPLE_ID = Column("text", "The sample.")
# Of every unlearning: what it was done with, and how it ended.
UNLEARNING_COLUMNS: dict[str, Column] = {
    "method": Column("text", "Unlearning method."),
    "optimiser": Column("text", "Optimiser."),
    "learning_rate": Column("number", "Learning rate."),
    "updates": Column("number", "Updates taken; where it was not forgotten, as many as were allowed."),
    "forgotten": Column("flag", "Whether mean MA fell below the threshold."),
    "diverged": Column("flag", "Whether a loss was no number; nothing else counts then."),
}


@dataclass(frozen=True, eq=False)
class Material:
    """What an experiment works on.

    Attributes:
        forget_set: N samples.
        scores: One row for each of them, in their order: the scores of the score run with the other measures.
        retain_set: What is to be kept; None without a retain set.
        sigma: σ of the scores.
    """

    forget_set: ForgetSet
    scores: pd.DataFrame
    retain_set: ForgetSet | None
    sigma: float


# The rows of each measurement, by its name.
Done = Mapping[str, Sequence[Row]]


# Returns the rows of a measurement, given those of all before it, which may be those of an earlier attempt.
Measurement = Callable[[Done], list[Row]]


class Study(Protocol):
    """What carries an experiment out, measurement after measurement."""

    @property
    def measurements(self) -> Mapping[str, Measurement]:
        """What is measured, by name, in order; the names are the same in every attempt."""

    def facts(self, done: Done) -> dict[str, Any]:
        """Return what the summary says beside the rows, JSON values: `reasons` and `warnings` at least."""


@dataclass(frozen=True)
class Experiment:
    """An experiment: a module of `mrd_core.experiments.kinds` has it as `EXPERIMENT`.

    Attributes:
        config: Its configuration; the `kind` there is the name of the experiment.
        figure: Where the paper has it; "" where it does not.
        place: In lists of experiments; the lowest is first.
        parts: The sorts of rows that it writes, as far as they are judged.
        passes: Forward passes of one sample that it takes, of its configuration and the size of the forget set;
            a pass that costs more counts as several.
        study: Makes what carries it out, of configuration, material and context. What needs torch is imported
            there.
        base: From the settings that a command gives, those that follow from the runs that it names; None where
            that is a score run.
        check: Refuses settings that contradict each other; None where they are those of a score run.
        prepare: Writes what a run keeps beside samples, scores and retain set.
    """

    config: type[ExperimentConfig]
    figure: str
    place: int
    parts: tuple[Part, ...]
    passes: Callable[[Any, int], float]
    study: Callable[[Any, Material, JobContext], Study]
    base: Callable[[Nested], Nested] | None = None
    check: Callable[[Nested], None] | None = None
    prepare: Callable[[Any, ExperimentFiles], None] = lambda _config, _files: None

    @property
    def description(self) -> str:
        """What it asks, and where the paper has it."""
        return f"{self.config.__doc__}{f' ({self.figure} of the paper.)' if self.figure else ''}"

    @property
    def name(self) -> str:
        """Its name on the command line, and the kind of its runs."""
        return str(self.config.model_fields["kind"].default)
