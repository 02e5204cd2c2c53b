"""Notes on samples: kept with the run, none lost between two writers, gone with the run."""

from __future__ import annotations

import threading
from pathlib import Path

import pandas as pd
import pytest

from mrd_core.errors import UserError
from mrd_core.scoring.notes import SampleNote, read_notes, with_notes, write_note


def test_what_two_sessions_note_at_once_is_kept(tmp_path: Path) -> None:
    ids = [f"s{number}" for number in range(20)]
    threads = [
        threading.Thread(target=write_note, args=(tmp_path, sample_id, SampleNote(note=f"on {sample_id}")))
        for sample_id in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: note.note for key, note in read_notes(tmp_path).items()} == {key: f"on {key}" for key in ids}
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


def test_an_empty_note_is_no_note(tmp_path: Path) -> None:
    write_note(tmp_path, "a", SampleNote(note="x"))
    write_note(tmp_path, "b", SampleNote(bookmarked=True))
    write_note(tmp_path, "a", SampleNote())
    assert read_notes(tmp_path) == {"b": SampleNote(bookmarked=True)}
    table = with_notes(pd.DataFrame({"sample_id": ["a", "b"]}), read_notes(tmp_path))
    assert table.to_dict("list") == {"sample_id": ["a", "b"], "bookmarked": [False, True], "sample_note": ["", ""]}


def test_notes_stand_beside_their_samples_whatever_the_order_and_the_index() -> None:
    notes = {
        "a": SampleNote(note="one"),
        "gone": SampleNote(note="x"),
        "c": SampleNote(note="two", bookmarked=True),
    }
    table = with_notes(pd.DataFrame({"sample_id": ["c", "b", "a"]}, index=[7, 7, 2]), notes)
    assert list(table["sample_note"]) == ["two", "", "one"]
    assert list(table["bookmarked"]) == [True, False, False]


def test_a_note_that_is_too_long_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    write_note(tmp_path, "a", SampleNote(note="x"))
    with pytest.raises(UserError, match="has 2001 characters"):
        write_note(tmp_path, "a", SampleNote(note="x" * 2001))
    assert read_notes(tmp_path)["a"].note == "x"


@pytest.mark.parametrize("content", ['{"a": 1}', "[]", "{", '{"a": {"color": "red"}}'])
def test_a_file_that_holds_no_notes_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "notes.json").write_text(content)
    with pytest.raises(UserError, match="does not hold notes on samples"):
        read_notes(tmp_path)
