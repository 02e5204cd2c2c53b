"""Forget sets in: every format and layout, every kind of bad input, ids, duplicates and digests."""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrd_core.errors import UserError
from mrd_core.samples import (
    ForgetSet,
    guess,
    load_table,
    read,
    read_table,
    read_upload,
    table_from_upload,
    to_forget_set,
)
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout
from mrd_core.samples.conversation import prompt_of, turns_of
from tests.conftest import REPOSITORY

ROWS = [
    {"question": "Who wrote it?", "answer": 'Ann, the "elder"\nof two'},
    {"question": "¿Dónde?", "answer": "In <b>Łódź</b> & nowhere else"},
]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_json(rows: list[Any]) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode()


def as_json_lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


WRITERS = {
    "set.csv": as_csv,
    "set.json": as_json,
    "set.jsonl": as_json_lines,
    "set.ndjson": as_json_lines,
    "SET.PARQUET": as_parquet,
}


def forget_set(name: str, data: bytes, **config: Any) -> ForgetSet:
    return read_upload(name, data, ForgetSetConfig(source=name, **config), limit_bytes=10**9)


def from_rows(rows: list[dict[str, Any]], **config: Any) -> ForgetSet:
    return forget_set("set.jsonl", as_json_lines(rows), **config)


def refusal(name: str, data: bytes, **config: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        forget_set(name, data, **config)
    assert caught.value.what.startswith(name)
    assert all(sentence.endswith((".", "?")) for sentence in (caught.value.why, caught.value.fix))
    return caught.value


def refused_file(config: ForgetSetConfig) -> UserError:
    with pytest.raises(UserError) as caught:
        read(config)
    return caught.value


def refused_rows(rows: list[dict[str, Any]], **config: Any) -> UserError:
    return refusal("set.jsonl", as_json_lines(rows), **config)


def pairs(samples: ForgetSet) -> list[tuple[str, str]]:
    return list(zip(samples.frame["prompt"], samples.frame["answer"], strict=True))


def ids(samples: ForgetSet) -> list[str]:
    return samples.frame["sample_id"].tolist()


class TestFormats:
    @pytest.mark.parametrize("name", WRITERS)
    def test_every_format_gives_the_same_samples(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(WRITERS[name](ROWS))
        samples = read(ForgetSetConfig(source=str(tmp_path / name)))
        assert pairs(samples) == [(row["question"], row["answer"]) for row in ROWS]
        assert samples.digest == from_rows(ROWS).digest

    @pytest.mark.parametrize("name", WRITERS)
    def test_an_upload_reads_like_the_file(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(WRITERS[name](ROWS))
        from_path = read(ForgetSetConfig(source=str(tmp_path / name)))
        pd.testing.assert_frame_equal(forget_set(name, WRITERS[name](ROWS)).frame, from_path.frame)

    @pytest.mark.parametrize("name", WRITERS)
    def test_one_sample_alone_is_a_forget_set(self, name: str) -> None:
        assert len(forget_set(name, WRITERS[name](ROWS[:1]))) == 1

    @pytest.mark.parametrize("name", ["set.csv", "set.json", "set.jsonl"])
    def test_a_byte_order_mark_is_removed_and_noted(self, name: str) -> None:
        samples = forget_set(name, b"\xef\xbb\xbf" + WRITERS[name](ROWS))
        assert samples.digest == from_rows(ROWS).digest
        assert "UTF-8 byte-order mark removed." in samples.report.notes

    def test_words_for_nothing_and_leading_zeros_stay_text_in_csv(self) -> None:
        answers = ["NA", "N/A", "null", "None", "nan", "007", "1.50", "2020-01-01", "True", " padded "]
        samples = forget_set("a.csv", as_csv([{"question": f"{i}?", "answer": a} for i, a in enumerate(answers)]))
        assert samples.frame["answer"].tolist() == answers

    def test_a_csv_field_may_exceed_the_parsers_usual_limit(self) -> None:
        long = "word " * 40_000
        assert forget_set("a.csv", f'text\n"{long}"\n'.encode()).frame["answer"].tolist() == [long]

    def test_blank_lines_and_carriage_returns_separate_csv_records(self) -> None:
        samples = forget_set("a.csv", b"question,answer\r\n\r\nq1,a1\r\n\nq2,a2\n\n")
        assert pairs(samples) == [("q1", "a1"), ("q2", "a2")]

    def test_a_unicode_line_separator_inside_a_json_line_ends_no_line(self) -> None:
        assert from_rows([{"text": "one\u2028two\x85three"}]).frame["answer"].tolist() == ["one\u2028two\x85three"]

    def test_json_lines_under_the_name_json_are_read_and_noted(self) -> None:
        samples = forget_set("a.json", as_json_lines(ROWS))
        assert samples.digest == from_rows(ROWS).digest
        assert any("JSON Lines" in note for note in samples.report.notes)

    def test_numbers_become_text(self) -> None:
        samples = from_rows([{"question": 1, "answer": 42}, {"question": "q", "answer": 1.5}])
        assert pairs(samples) == [("1", "42"), ("q", "1.5")]

    def test_a_table_shows_the_raw_columns_before_any_mapping(self) -> None:
        table = table_from_upload("a.csv", b"foo,bar\n1,\n2,x\n", 100)
        assert table.frame.head().values.tolist() == [["1", ""], ["2", "x"]]
        assert guess(table.frame) == (Layout.COLUMNS, ColumnMapping())


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    table, file = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return file.getvalue()


SHAPES = {
    "a.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "b.json": json.dumps({key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]}).encode(),
    "c.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode(),
    "d.json": json.dumps([{"prompt": row} for row in ROWS]).encode(),
    "d.parquet": as_parquet([{"qa": row} for row in ROWS]),
    "e.jsonl": json.dumps(ROWS, indent=2).encode(),
    "a.jsonl.gz": gzip.compress(as_json_lines(ROWS)),
    "a.csv.GZ": gzip.compress(as_csv(ROWS)),
    "a.tsv": b"question\tanswer\n"
    + b"".join(
        "\t".join((row["question"], '"' + row["answer"].replace('"', '""') + '"')).encode() + b"\n" for row in ROWS
    ),
    "b.csv": b"question;answer\n"
    + b"".join(
        ";".join((row["question"], '"' + row["answer"].replace('"', '""') + '"')).encode() + b"\n" for row in ROWS
    ),
    "a.arrow": as_arrow(ROWS),
}


class TestShapes:
    @pytest.mark.parametrize("name", SHAPES)
    def test_the_shapes_that_people_have_give_the_same_samples(self, name: str) -> None:
        assert forget_set(name, SHAPES[name]).digest == from_rows(ROWS).digest

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("a.json", b'["one bee", "two bees"]'),
            ("a.jsonl", b'"one bee"\n"two bees"'),
            ("a.txt", b"one bee\ntwo bees\n"),
            ("a.txt", b"one bee\n\n \ntwo bees\n"),
            ("a.txt", b"one bee\r\n\r\ntwo bees"),
        ],
    )
    def test_texts_alone_are_a_corpus(self, name: str, data: bytes) -> None:
        assert pairs(forget_set(name, data)) == [("", "one bee"), ("", "two bees")]

    def test_objects_by_id_keep_it(self) -> None:
        samples = forget_set("a.json", json.dumps({"x": ROWS[0], "y": ROWS[1]}).encode())
        assert (ids(samples), samples.frame["answer"].tolist()) == (["x", "y"], [row["answer"] for row in ROWS])

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("a.json", json.dumps({"forget": ROWS[:1], "retain": ROWS[1:]}).encode()),
            (
                "a.csv",
                as_csv([row | {"split": split} for row, split in zip(ROWS, ("forget", "retain"), strict=True)]),
            ),
        ],
    )
    def test_a_split_of_one_file_can_be_chosen(self, name: str, data: bytes, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(data)
        config = ForgetSetConfig(source=str(tmp_path / name))
        chosen = read(config.model_copy(update={"split": "retain"}))
        assert chosen.frame["answer"].tolist() == [ROWS[1]["answer"]]
        with pytest.raises(UserError, match=r"no split 'x'.*'forget', 'retain'"):
            read(config.model_copy(update={"split": "x"}))
        for error in (refusal(name, data), refused_file(config)):
            assert "several splits and none is chosen. The splits are: 'forget', 'retain'." in error.why
            assert "'all'" in error.fix
        assert len(read(config.model_copy(update={"split": "all"}))) == 2
        assert len(forget_set(name, data, split="forget")) == 1

    def test_the_rows_of_a_folder_may_be_of_several_splits(self, tmp_path: Path) -> None:
        config = ForgetSetConfig(source=str(tmp_path))
        (tmp_path / "a.jsonl").write_bytes(as_json_lines([{"text": "x", "split": "forget"}]))
        assert len(read(config)) == 1
        (tmp_path / "a.jsonl").write_bytes(as_json_lines([{"text": t, "split": t} for t in ("x", "y", "x x")]))
        assert "'x', 'y', 'x x'" in refused_file(config).why
        assert read(config.model_copy(update={"split": "y"})).frame["answer"].tolist() == ["y"]
        assert "are of several splits" in refused_file(config.model_copy(update={"split": "train"})).why

    @pytest.mark.parametrize("cell", ["['a, b', \"c's\"]", "['a, b',\n \"c's\"]", '["a, b", "c\'s"]'])
    def test_a_list_that_was_flattened_into_text_is_read(self, cell: str) -> None:
        samples = from_rows([{"question": "Which?", "choices": cell, "answer": 1}])
        assert pairs(samples) == [("Which?\nA. a, b\nB. c's", "c's")]

    def test_a_compressed_file_may_not_unfold_beyond_the_limit(self) -> None:
        data = gzip.compress(b"text\n" + b"x" * 100_000)
        with pytest.raises(UserError, match="the limit is"):
            read_upload("a.csv.gz", data, ForgetSetConfig(source="a"), limit_bytes=1000)
        assert "corrupt or cut short" in refusal("a.csv.gz", data[:-20]).why

    def test_dates_and_decimals_of_parquet_are_as_they_print(self) -> None:
        row = {"question": "When?", "answer": datetime.date(2020, 1, 2)}
        assert pairs(forget_set("a.parquet", as_parquet([row]))) == [("When?", "2020-01-02")]

    def test_a_folder_of_save_to_disk_is_read(self, tmp_path: Path) -> None:
        for split, rows in (("forget", ROWS), ("retain", ROWS[:1])):
            (tmp_path / split).mkdir()
            (tmp_path / split / "data-00000-of-00001.arrow").write_bytes(as_arrow(rows))
            state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
            (tmp_path / split / "state.json").write_text(json.dumps(state))
        (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["forget", "retain"]}))
        assert read(ForgetSetConfig(source=str(tmp_path / "forget"))).digest == from_rows(ROWS).digest
        assert len(read(ForgetSetConfig(source=str(tmp_path), split="retain"))) == 1
        with pytest.raises(UserError, match="'forget', 'retain'"):
            read(ForgetSetConfig(source=str(tmp_path)))


EMPTY_PARQUET = as_parquet([])
TYPES = "CSV (.csv, .tsv), JSON (.json), JSON Lines (.jsonl, .ndjson), Parquet (.parquet), Arrow (.arrow) and text"
PICKLES = [pickle.dumps(ROWS, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


class TestBadFiles:
    @pytest.mark.parametrize("name", WRITERS)
    def test_an_empty_file(self, name: str) -> None:
        assert "empty" in refusal(name, b"").why

    @pytest.mark.parametrize("data", [b"\n \n", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
    def test_a_file_of_nothing_but_white_space(self, name: str, data: bytes) -> None:
        assert "empty" in refusal(name, data).why

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("a.csv", b"question,answer\n"),
            ("a.json", b"[]"),
            ("a.json", b"[{}]"),
            ("a.jsonl", b"{}\n{}"),
            ("a.parquet", EMPTY_PARQUET),
        ],
    )
    def test_a_file_without_rows(self, name: str, data: bytes) -> None:
        assert refusal(name, data).fix == "Choose a file with at least one row."

    @pytest.mark.parametrize(
        ("data", "line", "found"),
        [
            (b"question,answer\nq,a\nq,a,b\n", 3, 3),
            (b"question,answer\nq\n", 2, 1),
            (b'question,answer\n"two\nlines",a\n\nq,a,b,c\n', 5, 4),
            (b'question,answer\nq,a\n"two\nlines"\n', 3, 1),
        ],
    )
    def test_a_ragged_csv_line(self, data: bytes, line: int, found: int) -> None:
        error = refusal("a.csv", data)
        assert error.what == f"a.csv, line {line}"
        assert error.why == f"The line has {found} fields where the header has 2."

    @pytest.mark.parametrize("record", ['"never closed,a\nq,a\n', '"closed" too early,a\n'])
    def test_a_csv_record_with_a_misplaced_quote(self, record: str) -> None:
        error = refusal("a.csv", f"question,answer\nq,a\n{record}".encode())
        assert error.what == "a.csv, line 3"
        assert "quote" in error.fix

    def test_a_csv_header_that_names_a_column_twice(self) -> None:
        assert "'answer'" in refusal("a.csv", b"question,answer,answer\nq,a,b\n").why

    def test_a_parquet_file_that_names_a_column_twice(self) -> None:
        file = io.BytesIO()
        pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["answer", "answer"]), file)
        assert "'answer'" in refusal("a.parquet", file.getvalue()).why

    @pytest.mark.parametrize("line", ["{broken", '{"text": "cut', "[" * 100_000, '{"n": ' + "1" * 5000 + "}"])
    def test_a_broken_json_line(self, line: str) -> None:
        assert refusal("a.jsonl", f'{{"text": "x"}}\n\n{line}\n'.encode()).what == "a.jsonl, line 3"

    @pytest.mark.parametrize(
        ("text", "line"), [('[{"text": "x"},\n {"text": }]', 2), ("[{}", 1), ('[{"text": "x"}]\n]', 2)]
    )
    def test_broken_json(self, text: str, line: int) -> None:
        assert refusal("a.json", text.encode()).what.startswith(f"a.json, line {line}, column ")

    def test_json_that_is_nested_too_deeply(self) -> None:
        assert "broken" in refusal("a.json", b"[" * 100_000).why

    @pytest.mark.parametrize(
        ("name", "text", "found"),
        [
            ("a.json", '{"data": 1}', "The file holds an object"),
            ("a.json", '{"question": "q", "answer": "a"}', "The file holds an object"),
            ("a.json", '"text"', "The file holds text"),
            ("a.json", '[{"text": "x"}, ["y"]]', "Item 2 is a list"),
            ("a.json", "[null]", "Item 1 is null"),
            ("a.jsonl", '{"text": "x"}\n"y"', "Line 2 is text"),
            ("a.jsonl", '[["x"]]', "Item 1 is a list"),
        ],
    )
    def test_json_that_is_no_list_of_objects(self, name: str, text: str, found: str) -> None:
        assert refusal(name, text.encode()).why.startswith(found)

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
    def test_bytes_that_are_not_utf8(self, name: str, mark: bytes) -> None:
        error = refusal(name, mark + b"text\nok\ncaf\xe9\n")
        assert error.what == f"{name}, line 3"
        assert f"offset {len(mark) + 11} " in error.why

    def test_utf16_text(self) -> None:
        assert "not UTF-8" in refusal("a.csv", "text\nx\n".encode("utf-16")).why

    def test_nul_bytes(self) -> None:
        error = refusal("a.csv", b"text\nx\0y\n")
        assert (error.what, "NUL" in error.why) == ("a.csv, line 2", True)

    @pytest.mark.parametrize("keep", [4, 40, -1, -20])
    def test_a_parquet_file_that_is_cut_short(self, keep: int) -> None:
        assert "corrupt" in refusal("a.parquet", as_parquet(ROWS)[:keep]).why

    def test_a_parquet_file_with_overwritten_pages(self) -> None:
        data = as_parquet(ROWS * 50)
        assert "corrupt" in refusal("a.parquet", data[:4] + b"\xff" * 100 + data[104:]).why

    @pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".pt", ".xlsx", ".zip", ".feather", ".csv.bz2", ""])
    def test_a_file_of_another_type_by_its_suffix(self, suffix: str) -> None:
        error = refusal(f"forget{suffix}", b"question,answer\nq,a\n")
        assert TYPES in error.fix
        assert ("pickle" in error.why.replace(suffix or "-", "")) is (suffix in (".pkl", ".pickle", ".pt"))

    @pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet"])
    @pytest.mark.parametrize("protocol", range(len(PICKLES)))
    def test_a_pickle_under_any_name(self, name: str, protocol: int) -> None:
        error = refusal(name, PICKLES[protocol])
        assert protocol < 2 or "is a Python pickle" in error.why

    @pytest.mark.parametrize(
        ("name", "data", "kind"),
        [
            ("a.csv", as_parquet(ROWS), "a Parquet file"),
            ("a.parquet", b"PK\x03\x04rest", "a zip archive"),
            ("a.jsonl", b"\x1f\x8b\x08rest", "a gzip archive"),
            ("a.csv.gz", gzip.compress(PICKLES[4]), "a Python pickle"),
        ],
    )
    def test_a_file_of_another_type_by_its_content(self, name: str, data: bytes, kind: str) -> None:
        assert f"its content is {kind}" in refusal(name, data).why

    def test_text_under_the_name_of_a_parquet_file(self) -> None:
        assert "corrupt" in refusal("a.parquet", as_csv(ROWS)).why

    def test_rows_that_each_bring_their_own_key(self) -> None:
        assert "2,000 columns" in refused_rows([{f"key {i}": "x"} for i in range(2000)]).why


class TestPaths:
    def config(self, path: Path) -> ForgetSetConfig:
        return ForgetSetConfig(source=str(path))

    def test_a_path_that_leads_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="There is no such file"):
            read(self.config(tmp_path / "missing.csv"))

    @pytest.mark.parametrize(
        ("source", "why"),
        [
            ("x" * 5000, "cannot be read"),
            ("~no-such-user/a.csv", "begins with a home that this machine does not know"),
            ("a\0.csv", "no such file"),
            ("missing.csv", "no such file"),
            ("", "No source"),
        ],
    )
    def test_a_source_that_is_no_path(self, source: str, why: str) -> None:
        with pytest.raises(UserError, match=why):
            read(ForgetSetConfig(source=source))

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a file that not even root can read")
    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").symlink_to("/proc/self/mem")
        with pytest.raises(UserError, match=r"a\.csv: It cannot be read"):
            read(self.config(tmp_path / "a.csv"))

    def test_a_file_over_the_limit(self, tmp_path: Path) -> None:
        data = as_csv(ROWS)
        path = tmp_path / "a.csv"
        path.write_bytes(data)
        assert len(read(self.config(path), limit_bytes=len(data))) == 2
        for reading in (
            lambda: read(self.config(path), limit_bytes=len(data) - 1),
            lambda: read_upload("a.csv", data, self.config(path), limit_bytes=len(data) - 1),
        ):
            with pytest.raises(UserError, match=f"It has {len(data)} bytes; the limit is {len(data) - 1}"):
                reading()

    def test_a_file_has_no_splits_to_choose_from(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(as_csv(ROWS))
        with pytest.raises(UserError, match="no subsets or splits"):
            read(ForgetSetConfig(source=str(tmp_path / "a.csv"), split="train"))

    def test_an_upload_leaves_no_file_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        from_rows(ROWS)
        assert not list(tmp_path.iterdir())


class TestLayouts:
    @pytest.mark.parametrize(
        ("columns", "layout", "prompt", "answer"),
        [
            (["question", "answer"], Layout.TOFU, "question", "answer"),
            (["question", "answer", "perturbed_answer"], Layout.TOFU, "question", "answer"),
            (["text"], Layout.WMDP_CORPUS, "", "text"),
            (["question", "choices", "answer"], Layout.WMDP_QUESTIONS, "question", "answer"),
            (["prompt", "references"], Layout.WHP_PROMPTS, "prompt", "references"),
            (["Instruction ", "OUTPUT"], Layout.COLUMNS, "Instruction ", "OUTPUT"),
            (["input", "target"], Layout.COLUMNS, "input", "target"),
            (["query", "content"], Layout.COLUMNS, "query", "content"),
            (["prompt", "text"], Layout.COLUMNS, "prompt", "text"),
            (["foo", "bar"], Layout.COLUMNS, None, None),
        ],
    )
    def test_columns_suggest_a_layout(
        self, columns: list[str], layout: Layout, prompt: str | None, answer: str | None
    ) -> None:
        guessed, mapping = guess(pd.DataFrame(columns=columns))
        assert (guessed, mapping.prompt, mapping.answer) == (layout, prompt, answer)

    def test_synonyms_of_id_and_count_are_found_and_reported(self) -> None:
        samples = from_rows([{"idx": 7, "text": "x", "frequency": "3", "split": "forget", "url": "u"}])
        assert (samples.mapping.id, samples.mapping.training_count) == ("idx", "frequency")
        assert samples.frame.loc[0, ["sample_id", "split", "training_count"]].tolist() == ["7", "forget", 3]
        assert any("id = 'idx'" in note for note in samples.report.notes)
        assert "Columns not used: 'url'." in samples.report.notes

    @pytest.mark.parametrize("layout", [Layout.AUTO, Layout.WMDP_CORPUS, Layout.WHP_TEXT])
    def test_plain_text_has_no_prompt(self, layout: Layout) -> None:
        assert pairs(from_rows([{"text": "Once."}], layout=layout)) == [("", "Once.")]

    @pytest.mark.parametrize("name", ["set.csv", "set.json", "set.parquet"])
    def test_a_multiple_choice_question_carries_its_lettered_choices(self, name: str) -> None:
        choices: Any = ["red", "blue", "green", "black"]
        row = {"question": "Which?", "choices": json.dumps(choices) if name == "set.csv" else choices, "answer": 2}
        samples = forget_set(name, WRITERS.get(name, as_parquet)([row]))
        assert samples.layout is Layout.WMDP_QUESTIONS
        assert pairs(samples) == [("Which?\nA. red\nB. blue\nC. green\nD. black", "green")]

    @pytest.mark.parametrize(
        ("choices", "answer", "column", "why"),
        [
            (["a", "b", "c", "d"], 4, "answer", "is 4, but the choices are numbered from 0 to 3"),
            (["a", "b"], "C", "answer", "not a whole number"),
            (["a", "b"], True, "answer", "not a whole number"),
            (["a"], 0, "choices", "has 1 choices"),
            ("a; b", 0, "choices", "is text, not a list"),
            ("['a' 'b']", 0, "choices", "starts like a JSON list"),
            (["a", {"b": 1}], 0, "choices", "is an object, not text"),
            ({"text": ["a", "b", "c"], "label": ["A", "B"]}, "A", "choices", "has not one label of its own"),
            ({"text": ["a", "b", "c"], "label": ["A", "A", "B"]}, "A", "choices", "has not one label of its own"),
        ],
    )
    def test_a_broken_multiple_choice_question(self, choices: Any, answer: Any, column: str, why: str) -> None:
        good = {"question": "q", "choices": ["a", "b"], "answer": 0}
        error = refused_rows([good, {"question": "q", "choices": choices, "answer": answer}])
        assert error.what == f"set.jsonl, row 2, column '{column}'"
        assert why in error.why

    @pytest.mark.parametrize(
        "row",
        [
            {"choices": ["red", "blue"], "answer": "B"},
            {"choices": "['red', 'blue']", "answer": "1"},
            {"choices": ["red", "blue"], "answer": "blue"},
            {"options": {"A": "red", "B": "blue"}, "answer": "blue", "answer_idx": "B"},
            {"A": "red", "B": "blue", "C": "grey", "D": "black", "answer": "B"},
            {"choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answerKey": "B"},
            {"choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answerKey": "2"},
        ],
    )
    def test_choices_come_in_many_shapes(self, row: dict[str, Any]) -> None:
        samples = from_rows([{"question": "Which?"} | row])
        assert samples.layout is Layout.WMDP_QUESTIONS
        assert pairs(samples)[0][0].startswith("Which?\nA. red\nB. blue")
        assert pairs(samples)[0][1] == "blue"

    @pytest.mark.parametrize(
        ("cells", "right"),
        [
            # Beyond the places among two, or no number: the column holds texts.
            ([(["1", "0"], "1"), (["3", "7"], "7")], ["1", "7"]),
            ([(["1", "0"], "1"), (["red", "blue"], "blue")], ["1", "blue"]),
            # No choice has this text, or the number is none in the file: the column holds places.
            ([(["1", "0"], "1"), (["red", "blue"], "1")], ["0", "blue"]),
            ([(["1", "0"], 1), (["3", "2"], 0)], ["0", "3"]),
            # Either way the same choice.
            ([(["0", "1"], "1"), (["0", "1"], "0")], ["1", "0"]),
        ],
    )
    def test_numbers_are_texts_or_places_of_choices_as_the_column_has_it(
        self, cells: list[tuple[list[str], Any]], right: list[str]
    ) -> None:
        rows = [
            {"question": f"Which {at}?", "choices": choices, "answer": answer}
            for at, (choices, answer) in enumerate(cells)
        ]
        assert [answer for _, answer in pairs(from_rows(rows))] == right

    def test_numbers_that_may_be_either_are_refused(self) -> None:
        rows = [{"question": f"{at} + 1?", "choices": ["1", "2", "0"], "answer": str(at + 1)} for at in range(2)]
        error = refused_rows(rows)
        assert error.what == "set.jsonl, column 'answer'"
        assert "texts of choices as well as places" in error.why

    @pytest.mark.parametrize("write", [as_json_lines, as_parquet])
    @pytest.mark.parametrize(
        "row",
        [
            {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "A bee."}]},
            {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "A bee."}]},
            {
                "messages": [
                    {"role": "system", "content": "Be short."},
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "A bee."},
                ]
            },
        ],
    )
    def test_of_a_conversation_the_last_answer_is_the_sample(self, row: dict[str, Any], write: Any) -> None:
        name = "a.parquet" if write is as_parquet else "a.jsonl"
        samples = forget_set(name, write([row]))
        prompt = "⟦system⟧ Be short.\n⟦user⟧ Who?" if "system" in str(row) else "Who?"
        assert pairs(samples) == [(prompt, "A bee.")]

    @pytest.mark.parametrize(
        ("content", "answer"),
        [
            (["A bee."], "A bee."),
            ([{"type": "image"}, {"type": "text", "text": "A bee."}, "It hums."], "A bee.\nIt hums."),
        ],
    )
    def test_of_the_parts_of_a_turn_the_texts_are_read(self, content: list[Any], answer: str) -> None:
        turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": content}]
        assert pairs(from_rows([{"messages": turns}])) == [("Who?", answer)]

    def test_all_turns_before_the_last_answer_are_its_prompt(self) -> None:
        turns = [("user", "Who?"), ("assistant", "A bee."), ("user", "And?"), ("assistant", "A wasp.")]
        whole = [{"role": role, "content": text} for role, text in turns]
        open_ended = [*whole, {"role": "user", "content": "Thanks."}]
        samples = from_rows([{"messages": whole}, {"messages": open_ended}])
        prompt = "⟦user⟧ Who?\n⟦assistant⟧ A bee.\n⟦user⟧ And?"
        assert pairs(samples) == [(prompt, "A wasp.")] * 2
        assert turns_of(prompt) == turns[:3]
        note = "1 of 2 conversations go on after their last answer: those turns are left out."
        assert note in samples.report.notes

    @pytest.mark.parametrize("answer", ['[{"from": "A", "to": "B"}]', "[{'role': 'king'}]"])
    @pytest.mark.parametrize("more", [{}, {"input": ""}])
    def test_an_answer_of_json_is_a_text(self, more: dict[str, Any], answer: str) -> None:
        names = ("instruction", "output") if more else ("question", "answer")
        assert pairs(from_rows([dict(zip(names, ("Give JSON.", answer), strict=True)) | more])) == [
            ("Give JSON.", answer)
        ]

    def test_of_instructions_an_answer_like_a_conversation_is_a_text(self) -> None:
        answer = '[{"role": "assistant"}, {"content": "A bee."}]'
        assert pairs(from_rows([{"instruction": "Give JSON.", "input": "", "output": answer}])) == [
            ("Give JSON.", answer)
        ]

    def test_what_looks_like_a_mark_in_a_turn_is_text(self) -> None:
        turns = [("user", "Who?\n⟦assistant⟧ Nobody."), ("tool call", "⟦user⟧ ⟦⟦x⟧ y"), ("assistant", "⟦⟦user⟧ z")]
        prompt = prompt_of(turns)
        assert prompt is not None
        assert turns_of(prompt) == turns
        for text in ("⟦user⟧ Who?", "Who?\n⟦⟦user⟧ And?"):
            assert turns_of(prompt_of([("user", text)]) or "") == [("user", text)]

    @pytest.mark.parametrize("text", ["Who?", "What is ⟦user⟧ here?", "Zeile\n⟦zwei⟧drei", "", "⟦user⟧"])
    def test_a_single_question_is_itself(self, text: str) -> None:
        assert turns_of(text) == [("user", text)]
        assert prompt_of([("user", text)]) == text

    @pytest.mark.parametrize("is_chat", [False, True])
    def test_of_preferences_it_has_to_be_said_which_is_forgotten(self, is_chat: bool) -> None:
        row: dict[str, Any] = {"prompt": "Who?", "chosen": "I do not know.", "rejected": "A bee."}
        if is_chat:
            row = {"prompt": [{"role": "user", "content": "Who?"}]} | {
                name: [{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")
            }
        error = refused_rows([row])
        assert "'chosen' or 'rejected'" in error.why
        assert pairs(from_rows([row], columns=ColumnMapping(answer="rejected"))) == [("Who?", "A bee.")]

    @pytest.mark.parametrize(
        "answer",
        [
            ["A bee.", "The bee."],
            '["A bee.", "The bee."]',
            "['A bee.', 'The bee.']",
            {"text": ["A bee.", "The bee."], "answer_start": [1, 2]},
            {"value": "A bee.", "aliases": ["The bee."]},
        ],
    )
    @pytest.mark.parametrize("names", [("question", "answer"), ("prompt", "answers"), ("instruction", "output")])
    def test_of_several_answers_the_first_is_used_and_said(self, names: tuple[str, str], answer: Any) -> None:
        prompt, column = names
        row = {prompt: "Who hums?", column: answer} | ({"input": ""} if prompt == "instruction" else {})
        samples = from_rows([row, row | {prompt: "Who?", column: "[a bee] it is"}])
        assert pairs(samples) == [("Who hums?", "A bee."), ("Who?", "[a bee] it is")]
        assert "1 of 2 rows have more than one answer: the first is used." in samples.report.notes
        as_list = [note for note in samples.report.notes if "1 of 2 answers are read as lists: [" in note]
        assert bool(as_list) is isinstance(answer, str)

    @pytest.mark.parametrize("answer", [[], {"text": []}])
    def test_a_list_without_an_answer_is_a_blank_cell(self, answer: Any) -> None:
        assert refused_rows([{"question": "q", "answer": answer}]).what == "set.jsonl, row 1 (answer)"

    @pytest.mark.parametrize("name", ["set.jsonl", "set.json", "set.parquet", "set.csv"])
    def test_lume_and_rwku_are_read_as_they_are_published(self, name: str) -> None:
        write = WRITERS.get(name, as_parquet)
        lume = {"id": "a1-qa0", "input": "Who hums in the tale?", "output": "A bee does.", "task": "Task1"}
        samples = forget_set(name, write([lume | {"split": "forget"}]))
        assert (pairs(samples), ids(samples)) == ([("Who hums in the tale?", "A bee does.")], ["a1-qa0"])
        both = write([lume | {"split": "forget"}, lume | {"id": "a1-qa1", "split": "retain"}])
        assert "'forget', 'retain'" in refusal(name, both).why
        probe = {"subject": "Orla Benn", "query": "Orla Benn keeps ___.", "answer": "bees", "level": "1"}
        assert pairs(forget_set(name, write([probe | {"type": "cloze"}]))) == [("Orla Benn keeps ___.", "bees")]
        assert pairs(forget_set(name, write([{"subject": "Orla Benn", "text": "She keeps bees."}])))[0][0] == ""
        # The name of a person, and what is to be known of them.
        target = write([{"target": "Orla Benn", "intro": "Orla Benn keeps bees on a roof."}])
        assert "'intro' holds text too" in refusal(name, target).why

    def test_the_first_reference_of_a_completion_prompt_is_its_answer(self) -> None:
        samples = from_rows(
            [{"prompt": "Once", "references": ["upon a time", "more"]}, {"prompt": "The", "references": "end"}]
        )
        assert pairs(samples) == [("Once", "upon a time"), ("The", "end")]
        assert any("1 of 2 rows have more than one reference" in note for note in samples.report.notes)

    @pytest.mark.parametrize("name", ["set.csv", "set.jsonl", "set.parquet"])
    def test_every_unsafe_response_is_a_sample(self, name: str) -> None:
        rows = [
            {"prompt": f"p{i}", "response_0": f"{i}a", "response_1": f"{i}b", "id": i}
            | {"is_response_0_safe": first, "is_response_1_safe": second}
            for i, (first, second) in enumerate([(False, False), (True, False), (True, True)])
        ]
        samples = forget_set(name, WRITERS.get(name, as_parquet)(rows))
        assert samples.layout is Layout.SAFE
        assert pairs(samples) == [("p0", "0a"), ("p0", "0b"), ("p1", "1b")]
        assert ids(samples) == ["0-0", "0-1", "1-1"]
        assert "1 of 3 rows left out: both of their responses are safe." in samples.report.notes
        assert (samples.report.n_rows, samples.report.n_valid) == (3, 3)

    def test_a_set_of_safe_responses_alone_is_empty(self) -> None:
        row = {"prompt": "p", "response_0": "a", "response_1": "b"}
        row |= {"is_response_0_safe": True, "is_response_1_safe": True}
        error = refused_rows([row])
        assert "No valid sample is left. 1 of 1 rows left out" in error.why

    def test_a_safety_flag_that_is_none(self) -> None:
        row = {"prompt": "p", "response_0": "a", "response_1": "b"}
        error = refused_rows([row | {"is_response_0_safe": "maybe", "is_response_1_safe": True}])
        assert error.what == "set.jsonl, row 1, column 'is_response_0_safe'"

    def test_real_tofu_rows_with_and_without_extras_are_the_same_samples(self, trial_data: Path) -> None:
        folder = trial_data / "data" / "tofu"
        plain = read(ForgetSetConfig(source=str(folder / "forget10.jsonl")))
        perturbed = read(ForgetSetConfig(source=str(folder / "forget10_perturbed.jsonl")))
        assert (len(plain), plain.layout, plain.report.n_duplicate_rows) == (400, Layout.TOFU, 0)
        assert plain.digest == perturbed.digest
        last = json.loads((folder / "forget10.jsonl").read_text("utf-8").splitlines()[-1])
        assert pairs(plain)[-1] == (last["question"], last["answer"])


class TestMapping:
    ROW = {"question": "q", "answer": "a", "paraphrased_answer": "b", "id": "x"}  # noqa: RUF012

    def test_an_explicit_column_wins_over_the_guess(self) -> None:
        samples = from_rows([self.ROW], columns=ColumnMapping(answer="paraphrased_answer"))
        assert pairs(samples) == [("q", "b")]
        assert samples.layout is Layout.COLUMNS

    def test_an_empty_part_is_not_guessed(self) -> None:
        samples = from_rows([self.ROW], columns=ColumnMapping(prompt="", id=""))
        assert pairs(samples) == [("", "a")]
        assert ids(samples) != ["x"]

    @pytest.mark.parametrize("columns", [ColumnMapping(), ColumnMapping(prompt="", id="")])
    def test_the_resolved_mapping_reads_the_same_samples_again(self, columns: ColumnMapping) -> None:
        first = from_rows([self.ROW], columns=columns)
        again = from_rows([self.ROW], columns=first.mapping, layout=first.layout)
        assert (again.digest, again.mapping, again.layout) == (first.digest, first.mapping, first.layout)

    def test_no_column_is_guessed_twice(self) -> None:
        samples = from_rows([{"question": "q", "text": "t"}], columns=ColumnMapping(answer="question"))
        assert pairs(samples) == [("", "q")]

    @pytest.mark.parametrize(
        "config",
        [
            {"columns": ColumnMapping(answer="reply")},
            {"columns": ColumnMapping(id="reply")},
            {"layout": Layout.WMDP_CORPUS},
            {"layout": Layout.SAFE},
            {"layout": Layout.WMDP_QUESTIONS},
        ],
    )
    def test_a_missing_column_is_answered_with_those_present(self, config: dict[str, Any]) -> None:
        error = refused_rows([self.ROW], **config)
        assert "It has no column" in error.why
        assert "The columns are: 'question', 'answer', 'paraphrased_answer', 'id'." in error.why

    def test_a_file_without_anything_like_an_answer(self) -> None:
        error = refused_rows([{"foo": "1", "bar": "2"}])
        assert "The columns are: 'foo', 'bar'." in error.why
        assert "--answer-column" in error.fix

    def test_the_answer_of_the_safe_layout_cannot_be_mapped(self) -> None:
        row = {"prompt": "p", "response_0": "a", "response_1": "b"}
        row |= {"is_response_0_safe": True, "is_response_1_safe": True}
        error = refused_rows([row], layout=Layout.SAFE, columns=ColumnMapping(answer="response_0"))
        assert "layout `columns`" in error.fix

    @pytest.mark.parametrize(
        ("row", "pair"),
        [
            ({"text": "Who hums?", "labels": "A bee."}, ("Who hums?", "A bee.")),
            ({"text": "Who hums?", "output": "Bee"}, ("Who hums?", "Bee")),
            ({"prompt": "Who hums?", "gt": "A bee."}, ("Who hums?", "A bee.")),
            ({"query": "Who hums?", "level": "1", "answer": "A bee."}, ("Who hums?", "A bee.")),
            ({"input": "Who hums?", "ground_truth": "A bee.", "task": "one"}, ("Who hums?", "A bee.")),
            ({"text": "A class of text.", "labels": 1}, ("", "A class of text.")),
            ({"title": "On bees", "abstract": "They hum.", "text": "All of it.", "doi": "1"}, ("", "All of it.")),
            (
                {"instruction": "Answer.", "input": "Who hums?", "output": "A bee."},
                ("Answer.\nWho hums?", "A bee."),
            ),
            ({"instruction": "Who hums?", "input": "", "output": "A bee."}, ("Who hums?", "A bee.")),
            ({"instruction": "Answer.", "input": "Who?", "response": "A bee."}, ("Answer.\nWho?", "A bee.")),
        ],
    )
    def test_question_and_answer_go_by_other_names(self, row: dict[str, Any], pair: tuple[str, str]) -> None:
        assert pairs(from_rows([row])) == [pair]

    @pytest.mark.parametrize(
        ("row", "rival"),
        [
            ({"text": "A long story.", "summary": "It is short."}, "summary"),
            ({"text": "Who hums?", "solution": "A bee."}, "solution"),
            ({"content": "Who hums?", "target_text": "A bee."}, "target_text"),
            ({"text": "\u8c01\u5728\u54fc?", "x": "\u8702\u871c"}, "x"),
            ({"prompt": "Who hums?", "response": "A wasp does.", "gt": "A bee does."}, "gt"),
            ({"instruction": "Who hums?", "context": "On the roof.", "response": "A bee."}, "context"),
            ({"question": "Who hums?", "context": "On the roof.", "answer": "A bee."}, "context"),
            ({"question": "Who hums?", "text": "On the roof.", "answer": "A bee."}, "text"),
        ],
    )
    def test_a_guess_that_leaves_out_a_text_is_refused(self, row: dict[str, str], rival: str) -> None:
        for layout in (Layout.AUTO, Layout.COLUMNS):
            error = refused_rows([row], layout=layout)
            assert (f"{rival!r}" in error.why, "--answer-column" in error.fix) == (True, True)
        assert guess(pd.DataFrame([row]))[1].answer is None
        chosen = ColumnMapping(prompt="", answer=rival)
        assert pairs(from_rows([row], columns=chosen)) == [("", row[rival])]

    def test_one_prompt_for_many_answers_is_refused_where_a_text_is_left_out(self) -> None:
        rows = [{"question": "Answer this.", "task": f"Who is {i}?", "answer": f"It is {i}."} for i in range(4)]
        error = refused_rows(rows)
        assert "One prompt has many answers" in error.why
        assert "'task'" in error.why
        assert len(from_rows([row | {"task": 1} for row in rows])) == 4
        assert len(from_rows(rows, columns=ColumnMapping(prompt="task", answer="answer"))) == 4


class TestCells:
    BLANK = (
        {"question": "q1", "answer": "a1"},
        {"question": "q2", "answer": None},
        {"question": " \t", "answer": "a3"},
        {"question": "q4"},
        {"question": "q5", "answer": "a5"},
    )

    def test_blank_cells_are_refused_with_their_rows(self) -> None:
        error = refused_rows(list(self.BLANK))
        assert error.what == "set.jsonl, rows 2 (answer), 3 (prompt), 4 (answer)"
        assert "3 of 5" in error.why
        assert "--invalid-rows skip" in error.fix

    def test_blank_rows_are_skipped_and_counted_by_choice(self) -> None:
        samples = from_rows(list(self.BLANK), invalid_rows="skip")
        assert pairs(samples) == [("q1", "a1"), ("q5", "a5")]
        report = samples.report
        assert (report.n_rows, report.n_valid, report.n_skipped_blank) == (5, 2, 3)
        assert report.skipped_rows == (2, 3, 4)

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("a.csv", b'question,answer\nq,a\nq,""\n'),
            ("a.json", b'[{"question": "q", "answer": "a"}, {"question": "q", "answer": NaN}]'),
            ("a.parquet", as_parquet([{"question": "q", "answer": "a"}, {"question": "q", "answer": None}])),
        ],
    )
    def test_blank_cells_are_found_in_every_format(self, name: str, data: bytes) -> None:
        assert refusal(name, data).what == f"{name}, row 2 (answer)"

    def test_a_long_list_of_blank_rows_is_cut(self) -> None:
        error = refused_rows([{"text": "x"}] + [{"text": ""}] * 9)
        assert error.what.endswith("6 (answer) and 4 more")

    def test_blank_ids_count_as_blank_cells(self) -> None:
        assert refused_rows([{"id": "", "text": "x"}]).what == "set.jsonl, row 1 (id)"

    def test_skipping_every_row_leaves_no_sample(self) -> None:
        error = refused_rows([{"text": ""}], invalid_rows="skip")
        assert error.why == "No valid sample is left. 1 of 1 rows have a blank cell."

    @pytest.mark.parametrize("column", ["question", "answer", "id"])
    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ([1], "is a list, not text"),
            ({"a": 1}, "is an object, not text"),
            (True, "is true or false, not text"),
            ("a\0b", "NUL character"),
        ],
    )
    def test_a_cell_that_is_no_text(self, column: str, value: Any, why: str) -> None:
        row = {"question": "q", "answer": "a", "id": "1"}
        error = refused_rows([row, row | {"id": "2", column: value}])
        assert error.what == f"set.jsonl, row 2, column '{column}'"
        assert why in error.why

    def test_an_answer_whose_aliases_are_no_list_is_no_text(self) -> None:
        error = refused_rows([{"question": "q", "answer": {"value": "x", "aliases": 5}}])
        assert error.why == "The cell is an object, not text."

    def test_half_of_a_surrogate_pair_is_no_text(self) -> None:
        assert "surrogate" in refusal("a.jsonl", rb'{"text": "\ud83d"}').why

    @pytest.mark.parametrize("count", [-1, 1.5, "often", 2**63, [1]])
    def test_a_training_count_that_is_no_count(self, count: Any) -> None:
        error = refused_rows([{"text": "x", "training_count": count}])
        assert error.what == "set.jsonl, row 1, column 'training_count'"

    def test_counts_and_splits_may_be_unknown(self) -> None:
        rows = [
            {"text": "a", "count": 3.0, "split": "forget"},
            {"text": "b", "count": None, "split": ""},
            {"text": "c", "count": "0", "split": 5},
        ]
        frame = from_rows(rows, split="all").frame
        assert frame["training_count"].fillna(-1).tolist() == [3, -1, 0]
        assert frame["split"].isna().tolist() == [False, True, False]
        assert frame["split"].dropna().tolist() == ["forget", "5"]


class TestIds:
    def test_an_id_is_a_hash_of_the_normalised_row(self) -> None:
        composed = {"question": "Café  now?", "answer": " x\ny"}
        decomposed = {"question": "Cafe\u0301 now?", "answer": "x y "}
        expected = hashlib.sha256("Café now?\x1fx y".encode()).hexdigest()[:12]
        assert ids(from_rows([composed])) == ids(from_rows([decomposed])) == [expected]

    def test_prompt_and_answer_do_not_run_into_each_other(self) -> None:
        rows = [{"question": "a b", "answer": "c"}, {"question": "a", "answer": "b c"}]
        assert len(set(ids(from_rows(rows)))) == 2

    def test_ids_do_not_depend_on_the_order_of_the_rows(self) -> None:
        rows = [{"text": text} for text in ("one", "two", "three ", "three", "two")]
        forward, backward = from_rows(rows).frame, from_rows(rows[::-1]).frame
        by_id = [frame.set_index("sample_id")["answer"].sort_index() for frame in (forward, backward)]
        pd.testing.assert_series_equal(*by_id)

    def test_kept_duplicates_are_numbered_and_counted(self) -> None:
        samples = from_rows([{"text": "a"}, {"text": "b"}, {"text": "a"}, {"text": " a"}])
        first = ids(from_rows([{"text": "a"}]))[0]
        assert sorted(i for i in ids(samples) if i.startswith(first)) == [first, f"{first}#2", f"{first}#3"]
        assert (samples.report.n_duplicate_rows, samples.report.n_valid) == (2, 4)

    def test_dropped_duplicates_leave_the_first_and_are_counted(self) -> None:
        samples = from_rows([{"text": "a"}, {"text": "b"}, {"text": " a"}], duplicates="drop")
        assert samples.frame["answer"].tolist() == ["a", "b"]
        assert (samples.report.n_duplicate_rows, samples.report.n_valid) == (1, 2)
        assert samples.report.duplicates == "drop"

    def test_given_ids_are_kept_as_text(self) -> None:
        assert ids(from_rows([{"id": 7, "text": "a"}, {"id": "x/y", "text": "a"}])) == ["7", "x/y"]

    def test_an_id_repeated_with_its_row_is_a_duplicate_row(self) -> None:
        assert ids(from_rows([{"id": "x", "text": "a"}, {"id": "x", "text": "a"}])) == ["x", "x#2"]

    @pytest.mark.parametrize(
        ("given", "repeated", "rows"),
        [(["x", "y", "x"], "x", "rows 1, 3"), (["x", "x#2", "x"], "x#2", "rows 2, 3")],
    )
    def test_an_id_of_different_samples(self, given: list[str], repeated: str, rows: str) -> None:
        texts = ["same", "other", "same" if "#2" in repeated else "third"]
        error = refused_rows([{"id": i, "text": t} for i, t in zip(given, texts, strict=True)])
        assert error.what == f"set.jsonl, {rows}"
        assert f"{repeated!r}" in error.why
        assert "--id-column" in error.fix

    def test_repeated_ids_can_be_left_aside(self) -> None:
        rows = [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}]
        assert len(set(ids(from_rows(rows, columns=ColumnMapping(id=""))))) == 2


class TestSaved:
    def saved(self, tmp_path: Path) -> tuple[ForgetSet, Path]:
        rows = [{"question": "q", "answer": "a", "count": 2}, {"question": "q", "answer": "b", "split": "s"}]
        samples = from_rows(rows)
        path = tmp_path / "forget_set.parquet"
        samples.save(path)
        return samples, path

    def test_a_saved_set_loads_as_it_was(self, tmp_path: Path) -> None:
        samples, path = self.saved(tmp_path)
        loaded = ForgetSet.load(path)
        pd.testing.assert_frame_equal(loaded.frame, samples.frame)
        assert (loaded.mapping, loaded.layout, loaded.report, loaded.digest) == (
            samples.mapping,
            samples.layout,
            samples.report,
            samples.digest,
        )
        assert list(tmp_path.iterdir()) == [path]

    def test_a_saved_set_reads_as_the_same_samples_whatever_their_answers_look_like(self, tmp_path: Path) -> None:
        answers = ["['a', 'b']", '[{"role": "assistant", "content": "A bee."}]']
        saved = from_rows(
            [{"question": f"q{i}", "choices": [answer, "b"], "answer": 0} for i, answer in enumerate(answers)]
        )
        saved.save(tmp_path / "samples.parquet")
        again = read(ForgetSetConfig(source=str(tmp_path / "samples.parquet")))
        assert list(again.frame["answer"]) == answers
        assert again.digest == saved.digest

    def test_a_failed_save_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        samples, _ = self.saved(tmp_path)
        (tmp_path / "folder").mkdir()
        with pytest.raises(OSError, match="folder"):
            samples.save(tmp_path / "folder")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "forget_set.parquet"]

    def test_a_changed_sample_is_noticed(self, tmp_path: Path) -> None:
        _, path = self.saved(tmp_path)
        table = pq.read_table(path)
        answers = pa.array(["a", "B"], table.schema.field("answer").type)
        pq.write_table(table.set_column(table.column_names.index("answer"), "answer", answers), path)
        with pytest.raises(UserError, match="digest does not match"):
            ForgetSet.load(path)

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"PAR1 broken", "cannot be read"),
            (as_parquet(ROWS), "no saved forget set"),
            (as_parquet([{"sample_id": "1", "prompt": "q", "answer": "a"}]), "does not say how"),
        ],
    )
    def test_another_file_is_refused(self, data: bytes, why: str, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(data)
        with pytest.raises(UserError, match=why):
            ForgetSet.load(tmp_path / "a.parquet")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be read"):
            ForgetSet.load(tmp_path / "a.parquet")

    def test_the_digest_sees_order_ids_and_the_border_between_cells(self) -> None:
        sets = [
            [{"id": "1", "question": "q", "answer": "ab"}, {"id": "2", "question": "q", "answer": "c"}],
            [{"id": "2", "question": "q", "answer": "c"}, {"id": "1", "question": "q", "answer": "ab"}],
            [{"id": "1", "question": "qa", "answer": "b"}, {"id": "2", "question": "q", "answer": "c"}],
            [{"id": "3", "question": "q", "answer": "ab"}, {"id": "2", "question": "q", "answer": "c"}],
        ]
        digests = {from_rows(rows).digest for rows in sets}
        assert len(digests) == 4
        assert all(len(digest) == 64 for digest in digests)


class TestFolders:
    def folder(self, tmp_path: Path, **files: bytes) -> str:
        folder = tmp_path / "set"
        folder.mkdir()
        for name, data in files.items():
            (folder / name.replace("_", ".")).write_bytes(data)
        return str(folder)

    @pytest.mark.parametrize("name", ["train_csv", "train_jsonl", "train_parquet"])
    def test_the_only_split_of_a_folder_is_used(self, name: str, tmp_path: Path) -> None:
        write = {"csv": as_csv, "jsonl": as_json_lines, "parquet": as_parquet}[name.split("_")[1]]
        samples = read(ForgetSetConfig(source=self.folder(tmp_path, **{name: write(ROWS)})))
        assert samples.digest == from_rows(ROWS).digest

    def test_words_for_nothing_and_dates_stay_text_in_a_folder(self, tmp_path: Path) -> None:
        source = self.folder(tmp_path, train_csv=b"question,answer\nq,NA\nq,007\nq,2020-01-01\n")
        assert read(ForgetSetConfig(source=source)).frame["answer"].tolist() == ["NA", "007", "2020-01-01"]

    def test_several_splits_have_to_be_chosen_from(self, tmp_path: Path) -> None:
        source = self.folder(tmp_path, train_jsonl=as_json_lines(ROWS), test_jsonl=as_json_lines(ROWS[:1]))
        with pytest.raises(UserError, match=r"several splits.*'train', 'test'"):
            read(ForgetSetConfig(source=source))
        with pytest.raises(UserError, match=r"no split 'forget'.*'train', 'test'"):
            read(ForgetSetConfig(source=source, split="forget"))
        assert len(read(ForgetSetConfig(source=source, split="test"))) == 1

    def test_several_subsets_have_to_be_chosen_from(self, tmp_path: Path) -> None:
        card = "---\nconfigs:\n" + "".join(
            f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("forget01", "forget05")
        )
        source = self.folder(
            tmp_path,
            README_md=f"{card}---\n".encode(),
            forget01_jsonl=as_json_lines(ROWS[:1]),
            forget05_jsonl=as_json_lines(ROWS),
        )
        with pytest.raises(UserError, match="'forget01', 'forget05'"):
            read(ForgetSetConfig(source=source))
        assert len(read(ForgetSetConfig(source=source, subset="forget05"))) == 2

    @pytest.mark.parametrize("parts", [("a-1-of-2", "a-2-of-2"), ("part-0", "part-1"), ("00-of-02", "01-of-02")])
    def test_the_parts_of_a_split_are_joined_and_named(self, parts: tuple[str, str], tmp_path: Path) -> None:
        names = [f"{part}_jsonl" for part in parts]
        source = self.folder(tmp_path, **dict(zip(names, map(as_json_lines, (ROWS[:1], ROWS[1:])), strict=True)))
        samples = read(ForgetSetConfig(source=source))
        assert samples.digest == from_rows(ROWS).digest
        assert f"Read from {parts[0]}.jsonl, {parts[1]}.jsonl." in samples.report.notes

    @pytest.mark.parametrize(
        ("files", "splits"),
        [
            (["forget10.jsonl", "holdout10.jsonl", "retain90.jsonl"], ["forget10", "holdout10", "retain90"]),
            (["forget01.jsonl", "forget05.jsonl"], ["forget01", "forget05"]),
            (["bio.jsonl", "cyber.jsonl"], ["bio", "cyber"]),
            (["forget10.jsonl", "test.jsonl"], ["test", "forget10"]),
            (["bio_train.jsonl", "cyber_train.jsonl"], ["bio_train", "cyber_train"]),
            (["forget/rows.jsonl", "retain/rows.jsonl"], ["forget/rows", "retain/rows"]),
            (["a.jsonl", "a.ndjson"], ["a.jsonl", "a.ndjson"]),
        ],
    )
    def test_no_files_are_merged_in_silence(self, files: list[str], splits: list[str], tmp_path: Path) -> None:
        for number, name in enumerate(files):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(as_json_lines([{"text": f"sample {number}"}]))
        with pytest.raises(UserError, match="none is chosen.*" + ", ".join(map(repr, splits))):
            read(ForgetSetConfig(source=str(tmp_path)))
        for split in splits:
            assert len(read(ForgetSetConfig(source=str(tmp_path), split=split))) == 1

    def test_the_limit_holds_for_the_files_together(self, tmp_path: Path) -> None:
        source = self.folder(tmp_path, **{f"a-{i}-of-2_jsonl": as_json_lines(ROWS) for i in (1, 2)})
        size = 2 * len(as_json_lines(ROWS))
        with pytest.raises(UserError, match="the limit is"):
            load_table(ForgetSetConfig(source=source), limit_bytes=size - 1)
        assert len(load_table(ForgetSetConfig(source=source), limit_bytes=size).frame) == 4

    @pytest.mark.parametrize(
        ("files", "why"),
        [
            ({}, "any data files"),
            ({"a_pkl": PICKLES[4]}, "data files"),
            ({"set_py": b"raise SystemExit('code of a data set was run')"}, "scripts are no longer supported"),
            ({"train_csv": b"question,answer\nq,a,b\n"}, r"train\.csv, line 2: The line has 3 fields"),
        ],
    )
    def test_a_folder_that_cannot_be_read(self, files: dict[str, bytes], why: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=why):
            read(ForgetSetConfig(source=self.folder(tmp_path, **files)))

    @pytest.mark.slow
    def test_no_copy_of_the_texts_stays_in_a_cache(self, tmp_path: Path) -> None:
        source = self.folder(tmp_path, train_jsonl=as_json_lines([{"text": "a very private text"}]))
        cache = tmp_path / "cache"
        code = f"from mrd_core.samples import read; print(len(read(ForgetSetConfig(source={source!r}))))"
        assert run_python(code, HF_HOME=str(cache), TMPDIR=str(tmp_path)).stdout == "1\n"
        kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != Path(source)]
        assert not any(b"private" in path.read_bytes() for path in kept)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that has ForgetSetConfig at hand."""
    code = f"from mrd_core.samples.config import ForgetSetConfig\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


class _RefusingHub(BaseHTTPRequestHandler):
    """Answers as the hub does about a gated and about an unknown data set."""

    def do_GET(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def refusing_hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _RefusingHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class TestHub:
    CODE = """
from mrd_core.errors import UserError
from mrd_core.samples import read
try:
    read(ForgetSetConfig(source="{source}"))
except UserError as error:
    print(error.why, error.fix)
"""

    def refusal(self, source: str, tmp_path: Path, **environment: str) -> str:
        done = run_python(self.CODE.format(source=source), HF_HOME=str(tmp_path), **environment)
        assert "download the file" in done.stdout, done.stderr
        return done.stdout

    @pytest.mark.slow
    def test_offline_mode(self, tmp_path: Path) -> None:
        assert "cannot be reached" in self.refusal("owner/name", tmp_path, HF_HUB_OFFLINE="1")

    @pytest.mark.slow
    def test_a_hub_that_does_not_answer(self, tmp_path: Path) -> None:
        environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
        assert "cannot be reached" in self.refusal("owner/name", tmp_path, **environment)

    @pytest.mark.parametrize(
        ("source", "why"), [("owner/gated", "is gated"), ("owner/unknown", "no public data set of this name")]
    )
    @pytest.mark.slow
    def test_a_data_set_the_hub_does_not_give_out(
        self, source: str, why: str, refusing_hub: str, tmp_path: Path
    ) -> None:
        environment = {"HF_ENDPOINT": refusing_hub, "HF_HUB_OFFLINE": "0"}
        assert why in self.refusal(source, tmp_path, **environment)


def test_the_demo_is_a_forget_set() -> None:
    samples = read(ForgetSetConfig(source="demo"))
    assert len(samples) >= 200
    assert samples.frame["training_count"].notna().all()


def test_a_page_reads_step_by_step_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(as_csv(ROWS))
    table = read_table(path)
    layout, mapping = guess(table.frame)
    config = ForgetSetConfig(source=str(path), layout=layout, columns=mapping)
    assert to_forget_set(table, config).digest == read(ForgetSetConfig(source=str(path))).digest
