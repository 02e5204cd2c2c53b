"""Refusal answers: what preference optimisation teaches a model to say in the place of a sample's answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.samples import Table, read_table
from mrd_core.samples.cells import as_text, is_blank, read_cell
from mrd_core.samples.reading import SUFFIXES, listed, stem_and_suffix

SHIPPED = Path(__file__).parent / "refusals.txt"
# Under which names a table has its refusals, the first that is there.
COLUMNS = ("refusal", "refusals", "chosen", "text", "answer", "response", "output", "completion")


def load(path: Path = SHIPPED) -> tuple[str, ...]:
    """Return the refusals in the file at `path`; blank lines and outer blanks do not count.

    A text file has one a line. A table (TOFU's `idk.jsonl`, say) has one a row: in its only column, or in the one
    that is called so.

    Raises:
        UserError: The file cannot be read, is not UTF-8, has no refusal in it, or it is not clear in which column.
    """
    if stem_and_suffix(path.name)[1] in SUFFIXES - {".txt"}:
        # A run keeps them one a line.
        lines = [" ".join(cell.splitlines()) for cell in _of_table(read_table(path))]
    else:
        lines = _text(path).splitlines()
    refusals = tuple(line.strip() for line in lines if line.strip())
    if not refusals:
        raise UserError(str(path), "The file is empty.", "Write at least one refusal answer into it, one a line.")
    if _is_json(refusals[0]):
        raise UserError(
            f"{path}, line 1",
            "The line is JSON, which a model would be taught to write.",
            "Name the file .jsonl or .json, and its rows are read; or write one refusal a line.",
        )
    return refusals


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except ValueError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            str(path),
            f"It cannot be read ({error.strerror or error}).",
            "Check the path and its permissions, or leave it out for the refusals that ship with the project.",
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            str(path), f"The byte at offset {error.start} is not UTF-8.", "Save the file as UTF-8."
        ) from error


def _of_table(table: Table) -> list[str]:
    """Return the cells of the column that holds the refusals; of preference pairs, what was chosen."""
    columns = list(table.frame.columns)
    names = [name for name in COLUMNS if name in columns] or (columns if len(columns) == 1 else [])
    if not names:
        raise UserError(
            table.name,
            f"No column is known to hold refusals. The columns are: {listed(columns)}.",
            f"Rename the one that does to {COLUMNS[0]}.",
        )
    return [
        read_cell(f"{table.name}, row {row}, column {names[0]!r}", cell, as_text)
        for row, cell in enumerate(table.frame[names[0]], 1)
        if not is_blank(cell)
    ]


def choose(refusals: Sequence[str], seed: int, sample_id: str, step: int) -> str:
    """Return the refusal that `sample_id` is taught at `step`: another one each time, the same in every replay.

    It is uniform over `refusals` and depends on nothing but the arguments, so neither the batch nor a resume
    changes it.
    """
    key = f"refusal/{seed}/{step}/{sample_id}".encode()
    drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
    return refusals[drawn % len(refusals)]
