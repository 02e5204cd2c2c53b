"""Small files that hold a lot, and cells that Python has no values for: refused, or left out, in words."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrd_core.errors import UserError
from mrd_core.samples import read_upload
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.forget_set import ForgetSet


def samples(name: str, data: bytes) -> ForgetSet:
    return read_upload(name, data, ForgetSetConfig(source=name), limit_bytes=50_000_000)


def refusal(name: str, data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        samples(name, data)
    return str(caught.value)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def arrow(columns: dict[str, Any], compression: str | None = None, is_file: bool = False) -> bytes:
    table, file = pa.table(columns), io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_file if is_file else pa.ipc.new_stream)(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return file.getvalue()


def repeated(text: str, rows: int) -> pa.Array:
    """A column that says the same in every row and stores it once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])


def repeated_view(text: str, rows: int) -> pa.Array:
    """The same as views of one buffer."""
    once = pa.array([text], pa.string_view()).buffers()
    return pa.Array.from_buffers(
        pa.string_view(), rows, [None, pa.py_buffer(once[1].to_pybytes() * rows), once[2]]
    )


LONG = "word " * 20_000
SPARSE = '{"answer":"a"}\n' * 20_000 + json.dumps({f"k{i}": "x" for i in range(999)} | {"answer": "a"})
TOO_LARGE = {
    "sparse.jsonl": (SPARSE.encode(), "MRD_CELL_LIMIT"),
    "wide.csv": (b"," * 999 + b"\n" + (b"," * 999 + b"\n") * 5000, "MRD_CELL_LIMIT"),
    "wider.csv": (b"," * 5_000_000, "MRD_CELL_LIMIT"),
    "nested.json": (b'[{"text":"a","x":[' + b"[]," * 4_000_001 + b"[]]}]", "MRD_CELL_LIMIT"),
    "nested.jsonl": (b'{"text":"a","x":[' + b"{}," * 4_000_001 + b"{}]}", "MRD_CELL_LIMIT"),
    "many.jsonl": (b'{"text":"a"}\n' * 200_001, "MRD_ROW_LIMIT"),
    "many.csv": (b"text\n" + b"a\n" * 200_001, "MRD_ROW_LIMIT"),
    "lines.txt": (b"a\n" * 200_001, "MRD_ROW_LIMIT"),
    "paragraphs.txt": (b"a\n\n" * 200_001, "MRD_ROW_LIMIT"),
    "bomb.csv.gz": (gzip.compress(b"text\n" + b"x" * 50_000_001), "MRD_UPLOAD_LIMIT_MB"),
    "rows.parquet": (parquet({"text": repeated("a", 3_000_000)}), "MRD_ROW_LIMIT"),
    "texts.parquet": (parquet({"text": repeated(LONG, 20_000)}, store_schema=False), "MRD_UNPACKED_LIMIT_MB"),
    "zeros.parquet": (parquet({"text": ["\0" * 110_000_000]}, compression="zstd"), "MRD_UNPACKED_LIMIT_MB"),
    "lists.parquet": (parquet({"text": pa.array([[None] * 5_000_000], pa.list_(pa.null()))}), "MRD_CELL_LIMIT"),
    "prefixes.parquet": (
        parquet({"text": [LONG] * 2000}, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}),
        "MRD_UNPACKED_LIMIT_MB",
    ),
    "texts.arrow": (arrow({"text": repeated(LONG, 20_000)}), "MRD_UNPACKED_LIMIT_MB"),
    "nulls.arrow": (arrow({"text": pa.nulls(3_000_000)}), "MRD_ROW_LIMIT"),
    "lists.arrow": (
        arrow({"text": pa.ListArray.from_arrays([0, 2**31 - 1], pa.nulls(2**31 - 1))}),
        "MRD_UNPACKED_LIMIT_MB",
    ),
    "views.arrow": (
        arrow({"text": repeated_view(LONG, 20_000)}),
        "MRD_UNPACKED_LIMIT_MB",
    ),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_file_that_unfolds_into_too_much_is_refused_and_the_limit_named(name: str) -> None:
    data, limit = TOO_LARGE[name]
    assert len(data) < 13_000_000
    assert limit in refusal(name, data)


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_arrow_file_is_refused_before_it_is_unpacked(compression: str, is_file: bool) -> None:
    assert "Its data are compressed" in refusal("a.arrow", arrow({"text": ["a" * 999]}, compression, is_file))
    assert samples("a.arrow", arrow({"text": ["a"]}, is_file=is_file)).frame["answer"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("variable", "name", "data"),
    [
        ("MRD_ROW_LIMIT", "a.csv", b"text\n" + b"a\n" * 9),
        ("MRD_CELL_LIMIT", "a.jsonl", b'{"text":"a","b":1,"c":2}\n' * 3),
        ("MRD_UNPACKED_LIMIT_MB", "a.csv.gz", gzip.compress(b"text\n" + b"x" * 1_000_000)),
    ],
)
def test_the_limits_are_settings(variable: str, name: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(samples(name, data))
    monkeypatch.setenv(variable, "1" if "MB" in variable else "8")
    assert variable in refusal(name, data)


def test_commas_and_brackets_in_a_text_are_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRD_CELL_LIMIT", "8")
    text = 'a,[{"\\,[{' * 9
    assert samples("a.json", json.dumps([{"text": text}]).encode()).frame["answer"].tolist() == [text]
    assert samples("a.csv", b'text\n"a,,,,\n,,,"",,,"\n').frame["answer"].tolist() == ['a,,,,\n,,,",,,']


STRANGE = {
    "timestamp[us]": pa.array([2**62], pa.timestamp("us")),
    "date32": pa.array([2**30], pa.date32()),
    "zone": pa.array([0], pa.timestamp("us", "Nowhere/City")),
    "duration": pa.array([2**62], pa.duration("s")),
    "union": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
    "run_end": pa.RunEndEncodedArray.from_arrays([1], ["x"]),
    "list_view": pa.ListViewArray.from_arrays([0], [1], ["x"]),
    "interval": pa.array([(2**31 - 1, 0, 2**62)], pa.month_day_nano_interval()),
}
# What Parquet has no type for.
OF_ARROW = ("union", "run_end", "interval", "list_view")


@pytest.mark.parametrize("kind", STRANGE)
def test_a_column_without_python_values_costs_only_itself(kind: str) -> None:
    columns = {"text": ["x"], "when": STRANGE[kind]}
    for name, write in (("a.parquet", parquet), ("a.arrow", arrow)):
        if write is arrow or kind not in OF_ARROW:
            read = samples(name, write(columns))
            assert read.frame["answer"].tolist() == ["x"]
            notes = [note for note in read.report.notes if "The column 'when' is left out" in note]
            assert notes or "Columns not used: 'when'." in read.report.notes
            assert kind == "interval" or notes


def test_a_column_that_is_all_there_is_and_cannot_be_read_is_named() -> None:
    assert "The column 'text' is left out" in refusal("a.parquet", parquet({"text": STRANGE["date32"]}))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", rb'{"question":"q","\ud800":"z","answer":"a"}'),
        ("a.json", rb'[{"question":"q","\u0000":"z","answer":"a"}]'),
        ("a.json", rb'{"\udfff":["z"],"answer":["a"]}'),
        ("a.parquet", parquet({"\0": ["z"], "answer": ["a"]})),
    ],
)
def test_a_column_name_that_is_no_text(name: str, data: bytes) -> None:
    assert "The column name" in refusal(name, data)
