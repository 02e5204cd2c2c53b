"""Columns from elsewhere beside the scores of a run: a number per sample, held against MRD as a rival.

What is stored is checked once, when it is imported; every file is one column. Loads no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, FiniteFloat, ValidationError

from mrd_core.errors import UserError
from mrd_core.runs.files import remove_entry, write_json
from mrd_core.runs.records import Record
from mrd_core.samples import ForgetSet, Table, read_table, table_from_upload
from mrd_core.samples.cells import CellError, as_number, as_text, read_cell
from mrd_core.samples.limits import check_size
from mrd_core.samples.reading import listed, read_bytes, stem_and_suffix
from mrd_core.samples.tensors import SUFFIX, read_tensors
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.measures import ENTANGLEMENT_MEASURES, Harder, Measure
from mrd_core.settings.configuration import Frozen
from mrd_core.settings.installation import Settings

# What Markdown, HTML, LaTeX and terminals give no meaning to, wherever a title is shown.
TITLE = r"[\w .,()+%/=-]{1,40}"
Title = Annotated[str, Field(pattern=rf"^{TITLE}$")]
# Titles of the columns that `mrd-lens columns entanglement` writes, by the names that such columns have.
ENTANGLEMENT_COLUMNS = {name.replace("_", "-"): measure.title for name, measure in ENTANGLEMENT_MEASURES.items()}
Revision = tuple[tuple[str, int], ...]
_IDS = ("sample_id", "sample_ids", "id", "ids", "uid", "idx")


class ImportConfig(Frozen):
    """Which column of a file is imported, and how its rows are matched with the samples of a run."""

    column: str | None = Field(None, description="Column with the numbers; needed where there are several.")
    title: str | None = Field(None, description="What it is called in tables and charts; else as its column.")
    harder: Harder = Field(
        "unknown", description="At which end its author expects the samples that are hard to unlearn."
    )
    id_column: str | None = Field(None, description="Column with the ids of the samples; else it is recognised.")
    in_order: bool = Field(
        False, description="The file has no ids: its rows are the samples of the run, all of them, in their order."
    )
    unknown: Literal["refuse", "skip"] = Field(
        "refuse",
        description="Rows of no sample of the run: `refuse` the file, or `skip` and count them.",
    )


class ImportedColumn(Record):
    """A number per sample that was measured elsewhere, as stored in the directory of a score run.

    Attributes:
        title: For people; harmless wherever it is shown.
        harder: At which end its author expects the samples that are hard to unlearn.
        source: Name of the file that it is from.
        column: Its column there.
        values: By sample id; None where the file has none.
        notes: How its rows were matched, in sentences.
    """

    title: Title
    harder: Harder
    source: str
    column: str
    values: dict[str, FiniteFloat | None]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is told from the others of a run by: its title in lower case, with dashes."""
        return re.sub(r"[^\w]+", "-", self.title.lower()).strip("-_")

    @property
    def count(self) -> int:
        """Samples that have a value."""
        return sum(value is not None for value in self.values.values())

    @property
    def measure(self) -> Measure:
        """What it is as a rival of MRD. Its name is no column's of a run, and what it cost is not known."""
        return Measure(
            name=f"{self.title} (imported)",
            title=f"{self.title} (imported)",
            unit="",
            formula="",
            source=self.source,
            help=f"Imported from the column {self.column} of {self.source}.",
            harder=self.harder,
            cost_in_forwards=np.nan,
        )


class Imported(NamedTuple):
    """The imported columns of a run.

    Attributes:
        columns: By name, in its order.
        broken: Names of files that hold none, or no longer.
    """

    columns: dict[str, ImportedColumn]
    broken: tuple[str, ...]


def read_file(path: Path) -> Table:
    """Read a file of numbers by its path: safetensors, or what forget sets are read from; errors as there."""
    limit = _limit_bytes()
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return read_table(path, limit_bytes=limit)
    # Before its bytes are read: it may be a model.
    check_size(str(path), path.stat().st_size, limit)
    return read_tensors(str(path), read_bytes(path))


def read_upload(name: str, data: bytes) -> Table:
    """Read an uploaded file of numbers from its bytes, without writing it anywhere; errors as in `read_file`."""
    if stem_and_suffix(name)[1] == SUFFIX:
        check_size(name, len(data), _limit_bytes())
        return read_tensors(name, data)
    return table_from_upload(name, data, _limit_bytes())


def column_of(table: Table, config: ImportConfig, sample_ids: Sequence[str]) -> ImportedColumn:
    """Return a column of a file, its rows matched with samples.

    Args:
        table: The file.
        config: Which column, and how.
        sample_ids: Of all samples of the run, in their order.

    Raises:
        UserError: There is no such column or none by itself, a cell is no finite number, ids are missing, unknown
            or repeated, or the title cannot be shown.
    """
    if config.in_order and config.id_column is not None:
        raise UserError(
            f"--id-column {config.id_column}",
            "is not read where the rows are taken in their order (--in-order).",
            "Leave out one of the two.",
        )
    keys = None if config.in_order else _id_column(table, config)
    column = _number_column(table, config, keys)
    ids, notes = _matched(table, config, keys, sample_ids)
    cells = {
        sample_id: read_cell(f"{table.name}, row {number}, column {column!r}", cell, as_number)
        for number, (sample_id, cell) in enumerate(zip(ids, table.frame[column], strict=True), 1)
        if sample_id is not None
    }
    values = {sample_id: cells.get(sample_id) for sample_id in sample_ids}
    missing = sum(value is None for value in values.values())
    if missing == len(values):
        raise UserError(
            f"{table.name}, column {column!r}",
            "has a number for no sample of the run.",
            "Name another column (--column).",
        )
    if missing:
        notes.append(f"{missing} of {len(values)} samples have no number.")
    title = " ".join((column if config.title is None else config.title).split())
    if not re.fullmatch(TITLE, title) or not re.search(r"[^\W_]", title):
        raise UserError(
            f"The title {title!r}",
            "is not 1 to 40 letters, digits, blanks and signs of “.,()+%/=-_”.",
            "Give it another one (--title).",
        )
    return ImportedColumn(
        title=title,
        harder=config.harder,
        source=Path(table.name).name,
        column=column,
        values=values,
        notes=tuple(notes),
    )


def import_column(table: Table, config: ImportConfig, files: ScoreFiles) -> ImportedColumn:
    """Store a column of a file with the score run that it joins, and return it.

    Raises:
        UserError: As in `column_of`, or the run has a column of this name.
    """
    column = column_of(table, config, list(ForgetSet.load(files.samples).frame["sample_id"]))
    path = files.imported_column(column.name)
    if path.exists():
        raise UserError(
            f"The column {column.title!r}",
            f"is imported already, as {column.name}.",
            "Give it another title (--title), or remove the other one first.",
        )
    write_json(path, column.model_dump(mode="json"))
    return column


def imported(files: ScoreFiles) -> Imported:
    """Return the columns that were imported into a score run; none where the run is gone."""
    columns: dict[str, ImportedColumn] = {}
    broken = []
    for path in sorted(files.imported.glob("*.json")):
        try:
            columns[path.stem] = ImportedColumn.model_validate_json(path.read_bytes())
        except (ValidationError, OSError):
            # One that was damaged by hand hides no other.
            broken.append(path.stem)
    return Imported(columns, tuple(broken))


def revision(files: ScoreFiles) -> Revision:
    """Return what changes whenever a column is imported into a run or removed: its files, with their times."""
    return tuple((path.name, path.stat().st_mtime_ns) for path in sorted(files.imported.glob("*.json")))


def remove_column(files: ScoreFiles, name: str) -> None:
    """Remove an imported column by its name, a broken one too.

    Raises:
        UserError: There is none of this name.
    """
    columns, broken = imported(files)
    if name not in (*columns, *broken):
        names = listed(sorted((*columns, *broken)))
        have = f"The run has {names}." if names else "The run has no imported column."
        raise UserError(f"The imported column {name!r}", f"does not exist. {have}", "Name one of them.")
    remove_entry(files.imported_column(name))


def _limit_bytes() -> int:
    return Settings.from_environment().upload_limit_mb * 10**6


def _id_column(table: Table, config: ImportConfig) -> str:
    if config.id_column is not None:
        return _existing(table, config.id_column)
    names = {name.strip().casefold(): name for name in reversed(list(map(str, table.frame)))}
    if (known := next((names[name] for name in _IDS if name in names), None)) is None:
        raise UserError(
            table.name,
            f"It has no column of ids; its columns are {listed(list(map(str, table.frame)))}.",
            "Name it (--id-column), or say that the rows are all samples of the run in their order (--in-order).",
        )
    return known


def _number_column(table: Table, config: ImportConfig, keys: str | None) -> str:
    if config.column is not None:
        return _existing(table, config.column)
    others = [name for name in map(str, table.frame) if name != keys]
    names = others if len(others) == 1 else [name for name in others if _holds_numbers(table.frame[name])]
    if len(names) != 1:
        have = f"Several of its columns hold numbers: {listed(names)}." if names else "No column holds numbers."
        raise UserError(table.name, have, "Name the one that is meant (--column).")
    return names[0]


def _holds_numbers(cells: Iterable[Any]) -> bool:
    try:
        numbers = [as_number(cell) for cell in cells]
    except CellError:
        return False
    return any(number is not None for number in numbers)


def _existing(table: Table, name: str) -> str:
    if name not in table.frame:
        raise UserError(
            table.name,
            f"It has no column {name!r}; its columns are {listed(list(map(str, table.frame)))}.",
            "Name one of them.",
        )
    return name


def _matched(
    table: Table, config: ImportConfig, keys: str | None, sample_ids: Sequence[str]
) -> tuple[list[str | None], list[str]]:
    """Return the sample of each row, None for those that are left out, and how they were matched."""
    rows = len(table.frame)
    if keys is None:
        if rows != len(sample_ids):
            raise UserError(
                table.name,
                f"It has {rows} rows, and the run has {len(sample_ids)} samples: they cannot be matched by order.",
                "Add a column with the ids of the samples, as the run's table of scores has them.",
            )
        return list(sample_ids), ["Matched by order: the file has no ids."]
    ids = [
        read_cell(f"{table.name}, row {number}, column {keys!r}", cell, as_text)
        for number, cell in enumerate(table.frame[keys], 1)
    ]
    repeated = [sample_id for sample_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UserError(
            f"{table.name}, column {keys!r}",
            f"These ids occur more than once: {listed(repeated)}.",
            "Keep one row for each sample.",
        )
    unknown = sorted(set(ids) - set(sample_ids))
    if len(unknown) == rows or (unknown and config.unknown == "refuse"):
        raise UserError(
            f"{table.name}, column {keys!r}",
            f"{len(unknown)} of {rows} ids are of no sample of the run, {unknown[0]!r} among them; the run's "
            f"begin with {sample_ids[0]!r}.",
            "Correct them, or skip such rows (--unknown skip)."
            if len(unknown) < rows
            else "Use the ids that the run's scores have, or none, with all rows in their order (--in-order).",
        )
    known = set(sample_ids)
    notes = [f"{len(unknown)} rows are of no sample of the run and left out."] if unknown else []
    return [sample_id if sample_id in known else None for sample_id in ids], notes
