"""What a report says: a frozen model that is its own JSON, and in which every figure has a name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from analysis.difficulty import Variant
from analysis.statistics.bootstrap import Estimate
from analysis.verdict import State
from mrd_core.settings.configuration import Frozen

# Raised when a report comes to be written otherwise.
FORMAT: Final = 1
# What a name leaves out: where a part stands in the file, and not what it is.
_FOLDED = frozenset({"sections", "parts", "rows"})

Path = tuple[str, ...]
Leaf = float | int | str | bool | None


class Interval(Frozen):
    """A figure with the ends of its 95 % interval; None: undefined."""

    value: float | None
    low: float | None
    high: float | None


Cell = Interval | int | float | str | None


class Column(Frozen):
    """A column of a table.

    Attributes:
        title: For people.
        form: How its numbers are shown, as `format` has it.
    """

    title: str
    form: str = ".3g"


class Table(Frozen):
    """Figures, a row for each key.

    Attributes:
        caption: What it shows.
        head: Title of the column of keys, or of the titles that stand for them.
        columns: Those that pages show, by key; a row may have further cells, and lack one.
        rows: By key, and of each its cells by that of the column.
        titles: Of rows, for people; a row without one is called by its key.
        is_listed: Whether pages show it; otherwise it is there for charts, and for who reads the JSON.
    """

    kind: Literal["table"] = "table"
    caption: str
    head: str = ""
    columns: dict[str, Column]
    rows: dict[str, dict[str, Cell]]
    titles: dict[str, str] = Field({})
    is_listed: bool = True


class Chart(Frozen):
    """A figure, drawn from a table of its section.

    Attributes:
        form: `forest`: a line a row with its intervals; `ranked`: values along their order; `points`; `curves`:
            lines of the rows of each group.
        title: What it shows.
        alt: The same for who does not see it.
        table: Key of the table.
        x: Column along the horizontal axis; "" for a forest, whose values lie there.
        y: Columns that are drawn, each a series.
        group: Column that tells the points or curves of one series apart; "" for none.
        line: Column that tells the curves of a group apart, which look alike; "" where a group is one curve.
        unit: Of the values, for their axis.
        most: Rows of a forest that are drawn, from the first.
        has_diagonal: Whether points lie beside the line on which both axes are equal.
    """

    kind: Literal["chart"] = "chart"
    form: Literal["forest", "ranked", "points", "curves"]
    title: str
    alt: str
    table: str
    x: str = ""
    y: tuple[str, ...]
    group: str = ""
    line: str = ""
    unit: str = ""
    most: int = 30
    has_diagonal: bool = False


class Section(Frozen):
    """Evidence on one matter: sentences, then tables and charts in their order, then what a reader must mind."""

    title: str
    text: tuple[str, ...] = ()
    parts: dict[str, Annotated[Table | Chart, Field(discriminator="kind")]] = Field({})
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_what_is_drawn(self) -> Section:
        for chart in (part for part in self.parts.values() if isinstance(part, Chart)):
            table = self.parts.get(chart.table)
            drawn = {*chart.y, *([chart.x] if chart.x else [])}
            if not isinstance(table, Table) or not drawn <= table.columns.keys():
                raise ValueError(f"the chart “{chart.title}” draws what is not there")
        return self


class Answer(Frozen):
    """How one of the questions stands."""

    question: str
    state: State
    sentence: str


class RunRecord(Frozen):
    """A run that the report rests on.

    Attributes:
        kind: As in its config.json.
        title: For people.
        when: When it ended [UTC], or was made, where that is known; else "".
        settings: Those that differ from the defaults, by dotted name.
        files: SHA-256 of each file of its results, by path.
    """

    kind: str
    title: str
    when: str
    settings: dict[str, str]
    files: dict[str, str]


class Method(Frozen):
    """How something was measured, and who says so."""

    title: str
    text: str
    sources: tuple[str, ...] = ()


class AuditedSet(Frozen):
    """A forget set within the pool that was scored, and how it is held against random ones (`AuditConfig`).

    Attributes:
        name: Of the file or the selection.
        sample_ids: Of its samples.
        group: What keeps samples together; None for nothing.
        draws: Random sets.
        seed: Of these.
    """

    name: str
    sample_ids: tuple[str, ...]
    group: str | None
    draws: int
    seed: int


class Options(Frozen):
    """What was asked of a report.

    Attributes:
        variant: The scores that are looked at.
        without_texts: Whether texts of samples are left out.
        audit: The set that is audited; None for none.
    """

    variant: Variant
    without_texts: bool = False
    audit: AuditedSet | None = None


class Report(Frozen):
    """A report on a score run and what rests on it.

    Attributes:
        format: Version of this model.
        generated: When [UTC].
        by: Who made it.
        programs: Versions of what made it.
        conclusion: What follows from the answers, in a line.
        answers: How each question stands.
        facts: What was scored, with what.
        runs: What it rests on, by name, the score run first.
        limits: What it does not say.
        sections: The evidence.
        methods: How it was come by.
    """

    format: Literal[1] = FORMAT
    title: str
    generated: datetime
    by: str
    programs: dict[str, str]
    options: Options
    conclusion: str
    answers: dict[str, Answer]
    facts: Table
    runs: dict[str, RunRecord]
    limits: tuple[str, ...]
    sections: dict[str, Section]
    methods: dict[str, Method]

    def leaves(self) -> dict[Path, Leaf]:
        """Return everything that it says, each figure and each sentence, by where it stands in the JSON."""
        return dict(_leaves(self.model_dump(mode="json"), ()))


def called(path: Path) -> str:
    """Return the name of what stands there, such as `claims.mean.length.difference.low`."""
    return ".".join(name for name in path if name not in _FOLDED)


def _leaves(content: Any, above: Path) -> Iterator[tuple[Path, Leaf]]:
    if isinstance(content, dict | list):
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        for name, part in parts:
            yield from _leaves(part, (*above, str(name)))
    else:
        yield above, content


def number(value: Any) -> Cell:
    """Return a value of a frame as a cell: plain, and None where it is undefined or unbounded."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, int | float) else str(value)


def interval(estimate: Estimate) -> Interval:
    """Return an estimate as a cell."""
    value, low, high = (number(each) for each in estimate[:3])
    return Interval.model_validate({"value": value, "low": low, "high": high})


def rows_of(frame: pd.DataFrame, caption: str) -> Table:
    """Return a frame of texts as a table, its first column what the rows are called."""
    key, *columns = map(str, frame)
    names, places = frame[key].astype(str), pd.Series(range(1, len(frame) + 1), index=frame.index).astype(str)
    # Told apart by their place where several are called alike.
    keys = names if names.is_unique else places
    return Table(
        caption=caption,
        head=key,
        columns={name: Column(title=name) for name in columns},
        rows={
            name: {column: str(row[column]) for column in columns}
            for name, row in zip(keys, frame.to_dict(orient="records"), strict=True)
        },
        titles={} if names.is_unique else dict(zip(keys, names, strict=True)),
    )
