"""The training corpus: what is read, and its rows counted once each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.text.corpus import Corpus
from mrd_core.demo import corpus as demo
from mrd_core.errors import UserError
from mrd_core.samples.config import ForgetSetConfig


def corpus(*rows: tuple[str, str, int]) -> Corpus:
    """Return a corpus of rows (prompt, answer, count)."""
    frame = pd.DataFrame(rows, columns=["prompt", "answer", "count"])
    return Corpus("corpus.csv", frame[["prompt", "answer"]], frame["count"].to_numpy(np.int64))


def test_the_demo_corpus_is_what_training_showed_and_how_often() -> None:
    read = Corpus.read(ForgetSetConfig(source="demo"))
    trained = [row for row in demo.rows() if row.split != "held_out"]
    assert read.rows["answer"].tolist() == [row.answer for row in trained]
    assert read.counts.tolist() == [row.training_count for row in trained]


def test_a_row_of_a_file_counts_once_where_the_file_does_not_say(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps({"question": f"Who {i}?", "answer": "Ann."}) + "\n" for i in range(3)))
    assert Corpus.read(ForgetSetConfig(source=str(file))).counts.tolist() == [1, 1, 1]


def counted_file(file: Path, counts: Sequence[int | None]) -> ForgetSetConfig:
    rows = [{"question": f"Who {i}?", "answer": "Ann.", "count": count} for i, count in enumerate(counts)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ForgetSetConfig(source=str(file))


def test_rows_that_training_never_showed_are_no_part_of_it(tmp_path: Path) -> None:
    read = Corpus.read(counted_file(tmp_path / "corpus.jsonl", [2, 0, None]))
    assert read.rows["prompt"].tolist() == ["Who 0?", "Who 2?"]
    assert read.counts.tolist() == [2, 1]
    with pytest.raises(UserError, match="none of its rows"):
        Corpus.read(counted_file(tmp_path / "nothing.jsonl", [0, 0]))


def test_rows_that_differ_in_case_and_spacing_alone_are_one_distinct_row() -> None:
    distinct = corpus(("Who?", "Ann  did.", 2), ("who?", "ann did.\n", 3), ("Who?", "Ann did", 1)).distinct
    assert distinct.rows.to_dict("list") == {"prompt": ["who?", "who?"], "answer": ["ann did", "ann did."]}
    assert distinct.counts.tolist() == [1, 5]
    assert distinct.average_count == 3


def test_a_prompt_is_told_from_an_answer() -> None:
    assert corpus(("a b", "c", 1), ("a", "b c", 1)).distinct.counts.tolist() == [1, 1]


def test_distinct_rows_depend_neither_on_order_nor_on_how_repeats_are_written() -> None:
    counted = corpus(("q", "a", 2), ("q", "b", 1), ("", "plain text", 1)).distinct
    written = corpus(("", "plain text", 1), ("q", "a", 1), ("q", "b", 1), ("q", "a", 1)).distinct
    pd.testing.assert_frame_equal(counted.rows, written.rows)
    np.testing.assert_array_equal(counted.counts, written.counts)
