"""Raw rows → a forget set: blank cells, duplicates and ids settled, everything that was decided reported."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.samples.cells import as_count, as_text, is_blank, read_cell
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.samples.forget_set import ForgetSet, ValidationReport, digest_of
from mrd_core.samples.layouts import Row, expand, resolve, unused
from mrd_core.samples.reading import Table, listed

_LISTED_ROWS = 5
_ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class _Sample:
    """A row whose cells have been read; `key` is the same for identical samples."""

    number: int
    prompt: str
    answer: str
    key: str
    id: str
    split: str | None
    training_count: int | None


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
    valid, skipped = _without_blanks(table.name, rows, mapping, config)
    if not valid:
        raise _no_samples(table, skipped, left_out)
    samples = [_sample(table.name, row, mapping) for row in valid]
    kept, n_duplicates = _settle_duplicates(samples, config)
    frame = _frame(kept, _ids(table.name, kept, mapping))
    report = ValidationReport(
        n_rows=len(table.frame),
        n_valid=len(frame),
        n_skipped_blank=len(skipped),
        skipped_rows=tuple(skipped[:_LISTED_ROWS]),
        n_duplicate_rows=n_duplicates,
        duplicates=config.duplicates,
        notes=(*table.notes, *_notes(table, config, layout, mapping), *left_out),
    )
    return ForgetSet(frame, mapping, layout, report, digest_of(frame))


def _without_blanks(
    name: str, rows: list[Row], mapping: ColumnMapping, config: ForgetSetConfig
) -> tuple[list[Row], list[int]]:
    """Return the rows without a blank cell and the numbers of the others; or refuse them."""
    blanks = [(row.number, part) for row in rows if (part := _blank_part(row, mapping))]
    if blanks and config.invalid_rows == "refuse":
        raise UserError(
            f"{name}, {_row_list([f'{number} ({part})' for number, part in blanks])}",
            f"The cell is blank or null in {len(blanks)} of {len(rows)} samples.",
            "Fill the cells, or leave such rows out (--invalid-rows skip; in the app under Columns and rows).",
        )
    return [row for row in rows if not _blank_part(row, mapping)], list(dict(blanks))


def _blank_part(row: Row, mapping: ColumnMapping) -> str | None:
    """Return the first of prompt, answer and id whose cell is blank although the file has a column for it."""
    if mapping.prompt and is_blank(row.prompt):
        return "prompt"
    if is_blank(row.answer):
        return "answer"
    return "id" if mapping.id and is_blank(row.id) else None


def _no_samples(table: Table, skipped: list[int], left_out: tuple[str, ...]) -> UserError:
    causes = [f"{len(skipped)} of {len(table.frame)} rows have a blank cell."] if skipped else []
    return UserError(
        table.name,
        " ".join(["No valid sample is left.", *causes, *left_out]),
        "Check that the columns are mapped as you mean them.",
    )


def _sample(name: str, row: Row, mapping: ColumnMapping) -> _Sample:
    def read(part: str, column: str | None, value: Any) -> str:
        place = f"column {column!r}" if column else part
        return read_cell(f"{name}, row {row.number}, {place}", value, as_text)

    prompt = read("prompt", mapping.prompt, row.prompt) if mapping.prompt else ""
    answer = read("answer", mapping.answer, row.answer)
    key = _key(prompt, answer)
    count = row.training_count
    return _Sample(
        number=row.number,
        prompt=prompt,
        answer=answer,
        key=key,
        id=read("id", mapping.id, row.id) + row.id_suffix if mapping.id else key,
        split=None if is_blank(row.split) else read("split", mapping.split, row.split),
        training_count=None if is_blank(count) else _count(name, row, mapping.training_count),
    )


def _count(name: str, row: Row, column: str | None) -> int:
    return read_cell(f"{name}, row {row.number}, column {column!r}", row.training_count, as_count)


def _key(prompt: str, answer: str) -> str:
    """Return a short hash of the normalised sample."""
    # Splitting takes out U+001F, which therefore cannot occur in either part.
    parts = (" ".join(unicodedata.normalize("NFC", part).split()) for part in (prompt, answer))
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:_ID_DIGITS]


def _settle_duplicates(samples: list[_Sample], config: ForgetSetConfig) -> tuple[list[_Sample], int]:
    """Return the samples to keep and how many repeat an earlier one."""
    first = {sample.key: sample for sample in reversed(samples)}
    kept = samples if config.duplicates == "keep" else [s for s in samples if first[s.key] is s]
    return kept, len(samples) - len(first)


def _ids(name: str, samples: list[_Sample], mapping: ColumnMapping) -> list[str]:
    """Return the id of each sample; identical samples of one id are numbered by content, not by position."""
    ids = [sample.id for sample in samples]
    seen: Counter[tuple[str, str]] = Counter()
    for i in sorted(range(len(samples)), key=lambda i: _content(samples[i])):
        sample = samples[i]
        seen[sample.id, sample.key] += 1
        if (copy := seen[sample.id, sample.key]) > 1:
            ids[i] = f"{sample.id}#{copy}"
    _check_unique(name, ids, samples, mapping)
    return ids


def _content(sample: _Sample) -> tuple[str, str, str, int]:
    count = -1 if sample.training_count is None else sample.training_count
    return sample.prompt, sample.answer, sample.split or "", count


def _check_unique(name: str, ids: list[str], samples: list[_Sample], mapping: ColumnMapping) -> None:
    rows = defaultdict(list)
    for sample_id, sample in zip(ids, samples, strict=True):
        rows[sample_id].append(sample.number)
    repeated = next((sample_id for sample_id in rows if len(rows[sample_id]) > 1), None)
    if repeated is not None:
        raise UserError(
            f"{name}, {_row_list(rows[repeated])}",
            f"The id {repeated!r} in the column {mapping.id!r} stands for different samples.",
            'Map another id column (--id-column), or none (--id-column ""): ids are then made from the texts.',
        )


def _frame(samples: Sequence[_Sample], ids: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": pd.Series(ids, dtype="str"),
            "prompt": pd.Series([sample.prompt for sample in samples], dtype="str"),
            "answer": pd.Series([sample.answer for sample in samples], dtype="str"),
            "split": pd.Series([sample.split for sample in samples], dtype="str"),
            "training_count": pd.Series([sample.training_count for sample in samples], dtype="Int64"),
        }
    )


def _notes(table: Table, config: ForgetSetConfig, layout: Layout, mapping: ColumnMapping) -> Iterable[str]:
    """Yield what was guessed and what is not used."""
    if config.layout is Layout.AUTO:
        yield f"Layout guessed from the columns: {layout}."
    given = config.columns.model_dump()
    guessed = {part: column for part, column in mapping if column and given[part] is None}
    if guessed:
        yield f"Columns guessed: {', '.join(f'{part} = {column!r}' for part, column in guessed.items())}."
    if idle := unused(list(table.frame.columns), layout, mapping):
        yield f"Columns not used: {listed(idle)}."


def _row_list(rows: Sequence[object]) -> str:
    """Return "row 3" or "rows 3, 7, …", the first five of them."""
    shown = ", ".join(map(str, rows[:_LISTED_ROWS]))
    more = len(rows) - _LISTED_ROWS
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}" + (f" and {more} more" if more > 0 else "")
