"""What people noted on the samples of a score run, kept with the run. Loads no torch."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from mrd_core.errors import UserError
from mrd_core.runs.files import write_json
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.configuration import Frozen

LONGEST = 2000
# Browser sessions are threads of one process; what two of them write in the same moment is kept.
_WRITING = threading.Lock()


class SampleNote(Frozen):
    """What is noted on one sample.

    Attributes:
        note: Text of the user's own; "" for none.
        bookmarked: Whether the sample is to be found again.
    """

    note: str = ""
    bookmarked: bool = False


_NOTES = TypeAdapter(dict[str, SampleNote])


def read_notes(directory: Path) -> dict[str, SampleNote]:
    """Return the notes of a score run by sample id; none where nobody noted anything.

    Raises:
        UserError: Their file is broken.
    """
    path = ScoreFiles(directory).notes
    try:
        return _NOTES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise UserError(
            str(path),
            f"does not hold notes on samples ({json.dumps(error.errors()[0]['msg'])}).",
            "Correct the file, or remove it to begin anew.",
        ) from error


def write_note(directory: Path, sample_id: str, note: SampleNote) -> None:
    """Keep a note with a score run, in place of the one on that sample; an empty one is removed.

    Raises:
        UserError: It is too long, or the file of notes is broken.
    """
    if len(note.note) > LONGEST:
        raise UserError(
            "The note", f"has {len(note.note)} characters; it may have {LONGEST}.", "Shorten it, or split it up."
        )
    with _WRITING:
        notes = read_notes(directory) | {sample_id: note}
        kept = {key: value.model_dump() for key, value in notes.items() if value != SampleNote()}
        write_json(ScoreFiles(directory).notes, kept)


def with_notes(table: pd.DataFrame, notes: dict[str, SampleNote]) -> pd.DataFrame:
    """Return a table of samples with the columns bookmarked and sample_note; "" where there is none.

    Args:
        table: A row per sample: sample_id and others.
        notes: By sample id.
    """
    ids, texts = table["sample_id"], {sample_id: each.note for sample_id, each in notes.items()}
    bookmarked = [sample_id for sample_id, each in notes.items() if each.bookmarked]
    # Few of many have one, and every change of page asks.
    return table.assign(
        bookmarked=ids.isin(bookmarked), sample_note=[texts.get(each, "") for each in ids.to_list()]
    )
