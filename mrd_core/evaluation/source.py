"""The named tables of a suite, from a folder or a data set on the hub, and columns of them. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mrd_core.errors import UserError
from mrd_core.evaluation.sets import Role
from mrd_core.samples import Table, load_table, read_table
from mrd_core.samples.cells import CellError, as_count, as_list, as_text, is_blank, read_cell
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.reading import SUFFIXES, listed, stem_and_suffix
from mrd_core.settings.places import expanded

T = TypeVar("T")


def table(data: str, name: str, *, subset: str | None = None, split: str | None = None) -> Table | None:
    """Return one table of a suite.

    Args:
        data: Local folder, or a data set on the hub.
        name: Of the table: the file in a folder without its suffix, the subset on the hub.
        subset: Of a hub data set, where it is not called as the table.
        split: Of a hub data set, where it has several.

    Returns:
        None where the folder has no file of that name; the hub's subsets are not asked for beforehand.

    Raises:
        UserError: There is no such folder, it has several files of that name, or the file or data set cannot be
            read.
    """
    if on_hub(data):
        return load_table(ForgetSetConfig(source=data, subset=subset or name, split=split))
    files = [path for path in _tables(data) if stem_and_suffix(path.name)[0] == name]
    if len(files) > 1:
        raise UserError(
            f"The table '{name}' in {data}",
            f"is there {len(files)} times: {', '.join(path.name for path in files)}.",
            "Keep the file that is meant.",
        )
    return read_table(files[0]) if files else None


class Location(NamedTuple):
    """Where a table of a suite is found.

    Attributes:
        names: Those that its file in a folder may have, without the suffix; on the hub, the first is the subset.
        hub: The data set on the hub that has it, where it is not in the one that the suite is read from.
        subset: Its name on the hub, where it is another.
        split: Of the data set on the hub.
    """

    names: tuple[str, ...]
    hub: str | None = None
    subset: str | None = None
    split: str | None = None

    def read(self, data: str) -> Table | None:
        """Return the table, from a folder under the first of its names that is there; errors as in `table`."""
        if on_hub(data):
            return table(self.hub or data, self.names[0], subset=self.subset, split=self.split)
        return next(filter(None, (table(data, name) for name in self.names)), None)


class Wanted(NamedTuple):
    """A set that a suite looks for.

    Attributes:
        name: The `split` of its values.
        title: For people.
        location: Where its table is found.
        role: Its part in what the evaluation says.
    """

    name: str
    title: str
    location: Location
    role: Role = "forget"


def tables_of(data: str, wanted: Sequence[Wanted]) -> dict[Wanted, Table]:
    """Return the tables of these sets, as far as they are there.

    Raises:
        UserError: None of them is; errors as in `table`.
    """
    tables = {each: contents for each in wanted if (contents := each.location.read(data))}
    if not tables:
        names = ", ".join(each.location.names[0] for each in wanted)
        there = [path.name for path in _files(data)]
        raise UserError(
            f"The folder {data}",
            f"has none of the files of the suite: {names} ({', '.join(sorted(SUFFIXES))}). "
            f"It holds {listed(there) if there else 'nothing'}.",
            "Put at least one of them there, or give another folder.",
        )
    return tables


def unread(data: str, names: Collection[str]) -> list[str]:
    """Return a note of the tables in a folder that a suite does not look for; none of a data set on the hub.

    Args:
        data: Folder, or a data set on the hub.
        names: Of the files that the suite knows, without their suffix.
    """
    if on_hub(data) or not expanded(data).is_dir():
        return []
    others = [path.name for path in _tables(data) if stem_and_suffix(path.name)[0] not in names]
    return [f"Files of the folder that are not used: {listed(others)}."] if others else []


def on_hub(data: str) -> bool:
    """Return whether `data` is to be looked for on the hub: nothing of that name is here, and it is no path."""
    looks_local = data == "demo" or data.startswith((".", "/", "~")) or data.count("/") > 1
    return not (looks_local or Path(data).exists())


def cells(table: Table, column: str, convert: Callable[[Any], T]) -> list[T]:
    """Return what `convert` makes of each cell of a column; its `CellError` names row and column.

    Raises:
        UserError: There is no such column, or a cell is not what is expected.
    """
    if column not in table.frame.columns:
        raise UserError(
            table.name,
            f"It has no column {column!r}; its columns are {listed(list(table.frame.columns))}.",
            "Rename the column that is meant.",
        )
    return [read_cell(place(table, row, column), value, convert) for row, value in enumerate(table.frame[column])]


def filled_text(value: Any) -> str:
    """Return a cell of text that is not blank; anything else is a `CellError`."""
    if is_blank(value):
        raise CellError("is blank where a text is needed.")
    return as_text(value)


def texts(table: Table, column: str) -> list[str]:
    """Return a column of texts; numbers as they print.

    Raises:
        UserError: There is no such column, or a cell is blank or no text; names the row (the first is 1).
    """
    return cells(table, column, filled_text)


def optional_texts(table: Table, column: str) -> list[str] | None:
    """Return a column of texts, or None where there is no such column; errors of cells as in `texts`."""
    return texts(table, column) if column in table.frame.columns else None


def text_lists(table: Table, column: str) -> list[list[str]]:
    """Return a column of lists of texts, none of them empty.

    A text that begins with a square bracket is a JSON list, because that is how CSV files carry lists; any other
    text is a list of one.

    Raises:
        UserError: There is no such column, or a cell is blank, no list of texts, or an empty one.
    """

    def filled_list(value: Any) -> list[str]:
        if isinstance(value, str) and not value.lstrip().startswith("["):
            return [filled_text(value)]
        items = list(map(filled_text, as_list(value)))
        if not items:
            raise CellError("is an empty list where at least one text is needed.")
        return items

    return cells(table, column, filled_list)


def integers(table: Table, column: str) -> list[int]:
    """Return a column of whole numbers from 0 up, also where they are written as text or as 3.0.

    Raises:
        UserError: There is no such column, or a cell is none.
    """
    return cells(table, column, as_count)


def place(table: Table, row: int, column: str) -> str:
    """Return where a cell stands, for messages; `row` counts from 0, messages from 1."""
    return f"{table.name}, row {row + 1}, column {column!r}"


def _tables(data: str) -> list[Path]:
    return [path for path in _files(data) if stem_and_suffix(path.name)[1] in SUFFIXES]


def _files(data: str) -> list[Path]:
    folder = expanded(data)
    if not folder.is_dir():
        raise UserError(
            f"The folder '{data}'",
            "is a file, not a folder." if folder.exists() else "does not exist on this machine.",
            "Give the folder that holds the files of the suite, or the name of a data set on the hub.",
        )
    return sorted(folder.iterdir())
