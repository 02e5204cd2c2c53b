"""A validated forget set: its samples, how they were read, and a digest that pins them."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from mrd_core.errors import UserError
from mrd_core.samples.config import ColumnMapping, Layout
from mrd_core.settings.configuration import Frozen

# In the schema of a Parquet file: it was written by `ForgetSet.save`.
METADATA_KEY = b"mrd_forget_set"
_DIGESTED = ("sample_id", "prompt", "answer")


class ValidationReport(Frozen):
    """What was found on reading.

    Attributes:
        n_rows: Rows of the source.
        n_valid: Samples of the forget set; more than `n_rows` where rows of `safe` give two.
        n_skipped_blank: Rows left out because of a blank cell.
        skipped_rows: The numbers of the first few of them (the first row is 1).
        n_duplicate_rows: Samples that repeat the prompt and answer of an earlier one.
        duplicates: Whether those were kept or dropped.
        notes: Everything else worth knowing, in sentences.
    """

    n_rows: int
    n_valid: int
    n_skipped_blank: int
    skipped_rows: tuple[int, ...]
    n_duplicate_rows: int
    duplicates: Literal["keep", "drop"]
    notes: tuple[str, ...]


class _Provenance(Frozen):
    """All of a forget set but its frame, as stored beside it."""

    mapping: ColumnMapping
    layout: Layout
    report: ValidationReport
    digest: str


@dataclass(frozen=True, eq=False)
class ForgetSet:
    """The samples of a forget set, in the order of the source.

    Attributes:
        frame: Columns `sample_id`, `prompt` ("" for plain text), `answer`, `split` (str; missing where the
            source names none) and `training_count` (Int64; occurrences in training, missing where unknown).
        mapping: The column of each part, "" where the source has none; given again as the configured mapping,
            it reads the same samples.
        layout: The layout the rows were read by, never `auto`.
        report: What was found on reading.
        digest: SHA-256 over the ids, prompts and answers in their order, in hexadecimal.
    """

    frame: pd.DataFrame
    mapping: ColumnMapping
    layout: Layout
    report: ValidationReport
    digest: str

    def __len__(self) -> int:
        return len(self.frame)

    def subset(self, kept: pd.Series[bool]) -> ForgetSet:
        """Return those samples where `kept` is true, in their order, with a digest of their own."""
        frame = self.frame[kept].reset_index(drop=True)
        return replace(self, frame=frame, digest=digest_of(frame))

    def save(self, path: Path) -> None:
        """Write one Parquet file, everything but the frame in its schema metadata; whole or not at all."""
        provenance = _Provenance(mapping=self.mapping, layout=self.layout, report=self.report, digest=self.digest)
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        metadata = (table.schema.metadata or {}) | {METADATA_KEY: provenance.model_dump_json().encode()}
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            pq.write_table(table.replace_schema_metadata(metadata), temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> ForgetSet:
        """Read what `save` wrote.

        Raises:
            UserError: The file is missing or corrupt, holds no saved forget set, or its samples were changed.
        """
        try:
            table = pq.ParquetFile(path).read()
        except (OSError, pa.ArrowException) as error:
            raise _not_saved(path, f"It cannot be read ({str(error).splitlines()[0]}).") from error
        if not set(_DIGESTED) <= set(table.column_names):
            raise _not_saved(path, "It is a Parquet file, but no saved forget set.")
        try:
            provenance = _Provenance.model_validate_json((table.schema.metadata or {}).get(METADATA_KEY, b""))
        except ValidationError as error:
            raise _not_saved(path, "It does not say how its samples were read.") from error
        frame = table.to_pandas()
        if digest_of(frame) != provenance.digest:
            raise _not_saved(path, "Its samples are not those that were saved: the digest does not match.")
        return cls(frame, provenance.mapping, provenance.layout, provenance.report, provenance.digest)


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of the indices 0 … count − 1, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def digest_of(frame: pd.DataFrame) -> str:
    """Return the SHA-256 (hexadecimal) over `sample_id`, `prompt` and `answer` of all rows, in order."""
    digest = hashlib.sha256()
    for row in zip(*(frame[column] for column in _DIGESTED), strict=True):
        # As JSON, no two different rows can run together into the same bytes.
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _not_saved(path: Path, why: str) -> UserError:
    return UserError(str(path), why, "Read the forget set from its source again.")
