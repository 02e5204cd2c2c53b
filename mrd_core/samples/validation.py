"""Raw rows → a forget set: blank cells, duplicates and ids settled, everything that was decided reported."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.samples.cells import as_count, as_text, is_blank, read_cell
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.samples.forget_set import ForgetSet, ValidationReport, digest_of
from mrd_core.samples.layouts import Row, expand, resolve, unused
from mrd_core.samples.reading import Table, listed

_DTYPES = {"sample_id": "str", "prompt": "str", "answer": "str", "split": "str", "training_count": "Int64"}
_LISTED_ROWS = 5
_ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class _Sample:
    """A row whose cells have been read; `key`, a short hash, is the same for identical samples."""

    number: int
    key: str
    sample_id: str
    prompt: str
    answer: str
    split: str | None
    training_count: int | None

    @classmethod
    def read(cls, name: str, row: Row, mapping: ColumnMapping) -> _Sample:
        """Read the cells of a row of the table of that name.

        Raises:
            UserError: A cell holds no text, or no count.
        """

        def place(part: str) -> str:
            column = getattr(mapping, part)
            return f"{name}, row {row.number}, {f'column {column!r}' if column else part}"

        prompt = (
            read_cell(place("prompt"), row.prompt, as_text) if mapping.prompt or row.prompt is not None else ""
        )
        answer = read_cell(place("answer"), row.answer, as_text)
        key = content_key((prompt, answer))
        count = row.training_count
        return cls(
            number=row.number,
            key=key,
            sample_id=read_cell(place("id"), row.id, as_text) + row.id_suffix if mapping.id else key,
            prompt=prompt,
            answer=answer,
            split=None if is_blank(row.split) else read_cell(place("split"), row.split, as_text),
            training_count=None if is_blank(count) else read_cell(place("training_count"), count, as_count),
        )

    @property
    def content(self) -> tuple[str, str, str, int]:
        """What tells samples of one id apart, to sort them by."""
        count = -1 if self.training_count is None else self.training_count
        return self.prompt, self.answer, self.split or "", count


def content_key(parts: Iterable[str]) -> str:
    """Return a short hash that texts share which agree after NFC normalisation and with white space collapsed."""
    # Splitting takes out U+001F, which therefore cannot occur in any part.
    normalised = (" ".join(unicodedata.normalize("NFC", part).split()) for part in parts)
    return hashlib.sha256("\x1f".join(normalised).encode()).hexdigest()[:_ID_DIGITS]


def to_forget_set(table: Table, config: ForgetSetConfig) -> ForgetSet:
    """Make a forget set of the rows of `table`, as `config` says.

    Two samples are identical when prompt and answer agree after NFC normalisation and with all white space
    collapsed. A sample's id is the given one, else a hash of that normalised text, and so depends neither on
    the order of the rows nor on the other rows; identical samples that would share an id get `#2`, `#3`, ….

    Raises:
        UserError: A column is missing, a cell is blank (unless such rows are skipped) or no text, different
            samples share an id, or no sample is left.
    """
    layout, mapping = resolve(table, config)
    rows, left_out = expand(table, layout, mapping)
    valid, skipped = _without_blanks(table, rows, left_out, mapping, config)
    samples = [_Sample.read(table.name, row, mapping) for row in valid]
    first = {sample.key: sample for sample in reversed(samples)}
    kept = samples if config.duplicates == "keep" else [s for s in samples if first[s.key] is s]
    numbered = _numbered(table.name, kept, mapping)
    frame = pd.DataFrame(
        {
            column: pd.Series([getattr(sample, column) for sample in numbered], dtype=dtype)
            for column, dtype in _DTYPES.items()
        }
    )
    report = ValidationReport(
        n_rows=len(table.frame),
        n_valid=len(frame),
        n_skipped_blank=len(skipped),
        skipped_rows=tuple(skipped[:_LISTED_ROWS]),
        n_duplicate_rows=len(samples) - len(first),
        duplicates=config.duplicates,
        notes=(*table.notes, *_notes(table, config, layout, mapping), *left_out),
    )
    return ForgetSet(frame, mapping, layout, report, digest_of(frame))


def _without_blanks(
    table: Table, rows: list[Row], left_out: tuple[str, ...], mapping: ColumnMapping, config: ForgetSetConfig
) -> tuple[list[Row], list[int]]:
    """Return the rows without a blank cell, at least one, and the numbers of the others; or refuse them."""
    blanks = [(row.number, part) for row in rows if (part := _blank_part(table, row, mapping))]
    if blanks and config.invalid_rows == "refuse":
        raise UserError(
            f"{table.name}, {_row_list([f'{number} ({part})' for number, part in blanks])}",
            f"The cell is blank or null in {len(blanks)} of {len(rows)} samples.",
            "Fill the cells, or leave such rows out (--invalid-rows skip; in the app under Columns and rows).",
        )
    valid, skipped = [row for row in rows if not _blank_part(table, row, mapping)], list(dict(blanks))
    if not valid:
        causes = [f"{len(skipped)} of {len(table.frame)} rows have a blank cell."] if skipped else []
        raise UserError(
            table.name,
            " ".join(["No valid sample is left.", *causes, *left_out]),
            "Check that the columns are mapped as you mean them.",
        )
    return valid, skipped


def _blank_part(table: Table, row: Row, mapping: ColumnMapping) -> str | None:
    """Return the first of prompt, answer and id whose cell is blank although the file has a column for it."""
    if mapping.prompt and is_blank(row.prompt) and not table.is_forget_set:
        return "prompt"
    if is_blank(row.answer):
        return "answer"
    return "id" if mapping.id and is_blank(row.id) else None


def _numbered(name: str, samples: Sequence[_Sample], mapping: ColumnMapping) -> list[_Sample]:
    """Return the samples, identical ones of one id numbered in it by content, not by position.

    Raises:
        UserError: Different samples share an id.
    """
    numbered = list(samples)
    copies: Counter[tuple[str, str]] = Counter()
    for i in sorted(range(len(samples)), key=lambda i: samples[i].content):
        sample = samples[i]
        copies[sample.sample_id, sample.key] += 1
        if (copy := copies[sample.sample_id, sample.key]) > 1:
            numbered[i] = replace(sample, sample_id=f"{sample.sample_id}#{copy}")
    rows = defaultdict(list)
    for sample in numbered:
        rows[sample.sample_id].append(sample.number)
    repeated = next((sample_id for sample_id in rows if len(rows[sample_id]) > 1), None)
    if repeated is not None:
        raise UserError(
            f"{name}, {_row_list(rows[repeated])}",
            f"The id {repeated!r} in the column {mapping.id!r} stands for different samples.",
            'Map another id column (--id-column), or none (--id-column ""): ids are then made from the texts.',
        )
    return numbered


def _notes(table: Table, config: ForgetSetConfig, layout: Layout, mapping: ColumnMapping) -> Iterable[str]:
    """Yield what was guessed and what is not used."""
    if config.layout is Layout.AUTO:
        yield f"Layout guessed from the columns: {layout}."
    mapped = config.columns.model_dump()
    guessed = {part: column for part, column in mapping if column and mapped[part] is None}
    if guessed:
        yield f"Columns guessed: {', '.join(f'{part} = {column!r}' for part, column in guessed.items())}."
    if idle := unused(list(table.frame.columns), layout, mapping):
        yield f"Columns not used: {listed(idle)}."


def _row_list(rows: Sequence[object]) -> str:
    """Return "row 3" or "rows 3, 7, …", the first five of them."""
    first = ", ".join(map(str, rows[:_LISTED_ROWS]))
    more = len(rows) - _LISTED_ROWS
    return f"{'row' if len(rows) == 1 else 'rows'} {first}" + (f" and {more} more" if more > 0 else "")
