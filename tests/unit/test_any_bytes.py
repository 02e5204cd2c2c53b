"""Whatever the bytes of a file, they give rows or an explanation, in bounded time and memory, for every reader."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrd_core.samples.layouts import CHOICE_COLUMNS
from mrd_core.samples.reading import SUFFIXES
from tests.support.reading_process import ReadingProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the peak of a process's memory"),
]

LIMIT_PEAK = 512 * 2**20
READERS = sorted((*SUFFIXES, ".jsonl.gz", ".parquet.gz"))
# Of all readers together: in the gate, and in the full run.
IN_THE_GATE, IN_FULL = 200, 2000

# Names that layouts know, so that what stands below them is read, too.
NAMES = st.sampled_from(
    (
        *("question", "answer", "text", "prompt", "references", "instruction", "input", "output", "choices"),
        *("answerKey", "messages", "conversations", "chosen", "rejected", "response_0", "response_1", "split"),
        *("is_response_0_safe", "is_response_1_safe", "id", "count", "labels", "role", "content", "from", "value"),
        *CHOICE_COLUMNS,
    )
) | st.text(max_size=4)
# Halves of surrogate pairs among them, which JSON can write.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ("Who hums?", "A bee hums.", "[", "['a' 'b']", "[{'role': 1}]", "\0", "true", "1e999", "9" * 30)
)
CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=3),
    max_leaves=6,
)
# Rows that are samples but for what stands beside or in place of their cells.
WHOLE = st.sampled_from(
    (
        {"question": "Who hums?", "answer": "A bee hums."},
        {"text": "A bee hums."},
        {"question": "Who hums?", "choices": ["A wasp", "A bee"], "answer": 1},
        {"instruction": "Answer this.", "input": "Who hums?", "output": "A bee hums."},
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "A bee."}]},
        {"prompt": "Who hums?", "response_0": "A bee.", "response_1": "A wasp."}
        | {"is_response_0_safe": False, "is_response_1_safe": True},
    )
)
CHANGED = st.builds(lambda row, cells: row | cells, WHOLE, st.dictionaries(NAMES | TEXTS, CELLS, max_size=2))
ROWS = (
    st.lists(WHOLE, min_size=1, max_size=4)
    | st.lists(CHANGED, min_size=1, max_size=3)
    | st.lists(st.dictionaries(NAMES | TEXTS, CELLS, max_size=5), max_size=4)
)
# A few bytes, many times: up to a megabyte.
REPEATED = st.builds(
    lambda head, part, count, tail: (head + part * (count // max(1, len(part))) + tail).encode(errors="replace"),
    st.sampled_from(("", "[", "text\n", "text,answer\n", '[{"text":"', '{"text":[', '[{"text":"a"},', '"')),
    st.sampled_from(
        ("[],", "{},", "[", '{"a":', ",", "a\n", "a\n\n", '"', "\t", "1,", '{"text":"a"}\n', "é", "🐝 ")
    )
    | st.text(min_size=1, max_size=6),
    st.sampled_from((10, 1_000, 30_000, 1_000_000)),
    st.sampled_from(("", "]", '"}]', "]}", '{"b":1}]', "\n")),
)
TYPES = st.sampled_from(
    (
        *(pa.string(), pa.large_string(), pa.binary(), pa.null(), pa.bool_(), pa.int64(), pa.float64()),
        *(pa.date32(), pa.timestamp("us"), pa.timestamp("ns", "Nowhere/City"), pa.duration("s"), pa.time64("us")),
        *(pa.list_(pa.string()), pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        *(pa.dictionary(pa.int32(), pa.string()), pa.struct([("question", pa.string()), ("answer", pa.date32())])),
        *(pa.decimal128(38, 3), pa.map_(pa.string(), pa.int64()), pa.list_(pa.list_(pa.null()))),
    )
)


def as_json(rows: list[Any]) -> bytes:
    return json.dumps(rows).encode()


def as_json_lines(rows: list[Any]) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows)


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text, names = io.StringIO(), list(dict.fromkeys(name for row in rows for name in row))
    csv.writer(text).writerows([names, *([row.get(name, "") for name in names] for row in rows)])
    return text.getvalue().encode(errors="surrogatepass")


def of_bits(kind: pa.DataType, bits: bytes, rows: int) -> pa.Array:
    """An array of a type with any bits for its values: dates and lengths that no library would write."""
    width = kind.bit_width // 8 if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) else 0
    if width:
        buffer = pa.py_buffer((bits * (rows * width // len(bits) + 1))[: rows * width])
        return pa.Array.from_buffers(kind, rows, [None, buffer])
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [bits.decode("latin-1") * 200])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return pa.array([bits.decode("latin-1")] * rows).cast(kind)
    return pa.nulls(rows, kind)


def as_parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def as_arrow(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return file.getvalue()


TABLES = st.builds(
    lambda whole, columns, rows: pa.table(
        [
            *(pa.array(["A bee hums."] * rows) for _ in whole),
            *(of_bits(kind, bits, rows) for _, kind, bits in columns),
        ],
        names=[*whole, *(name for name, _, _ in columns)],
    ),
    st.sampled_from((["question", "answer"], ["text"], [])),
    st.lists(
        st.tuples(NAMES.map(lambda name: name.encode(errors="replace").decode()), TYPES, st.binary(min_size=8)),
        max_size=3,
    ),
    st.sampled_from((1, 3, 0, 300, 100_000)),
)


def with_changes(data: bytes, changes: list[tuple[float, int]]) -> bytes:
    """Change some bytes, each at its share of the length."""
    changed = bytearray(data)
    for share, value in changes if data else ():
        changed[int(share * (len(data) - 1))] = value
    return bytes(changed)


WRITERS: dict[str, Callable[[Any], bytes]] = {
    ".csv": as_csv,
    ".tsv": as_csv,
    ".json": as_json,
    ".txt": as_json_lines,
    ".parquet": as_parquet,
    ".arrow": as_arrow,
}
CHANGES = st.just([]) | st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)


def files(suffix: str) -> st.SearchStrategy[bytes]:
    """Files of a type: whole ones, with some bytes changed, and bytes that are none."""
    inner = suffix.removesuffix(".gz")
    tables = {".parquet": TABLES, ".arrow": TABLES}.get(inner, ROWS)
    whole = tables.map(WRITERS.get(inner, as_json_lines))
    contents = st.builds(with_changes, whole, CHANGES) | st.binary(max_size=300)
    if tables is ROWS:
        contents |= REPEATED
    return st.builds(with_changes, contents.map(gzip.compress), CHANGES) if suffix != inner else contents


@pytest.fixture(scope="module")
def process() -> Iterator[ReadingProcess]:
    reading = ReadingProcess()
    yield reading
    reading.close()


@pytest.fixture
def fresh_process() -> Iterator[ReadingProcess]:
    reading = ReadingProcess()
    yield reading
    reading.close()


def check(process: ReadingProcess, suffix: str, examples: int, is_the_same: bool) -> None:
    @settings(
        max_examples=examples,
        derandomize=is_the_same,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(files(suffix))
    def explained_or_read(data: bytes) -> None:
        reply = process.read(f"a{suffix}", data)
        assert reply.outcome in ("rows", "refused"), reply.outcome
        assert reply.peak < LIMIT_PEAK

    explained_or_read()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", READERS)
def test_any_bytes_give_rows_or_an_explanation(suffix: str, process: ReadingProcess) -> None:
    check(process, suffix, IN_THE_GATE // len(READERS), True)


@pytest.mark.long
@pytest.mark.parametrize("suffix", READERS)
def test_many_more_bytes_do_so_in_a_process_of_their_own(suffix: str, fresh_process: ReadingProcess) -> None:
    check(fresh_process, suffix, IN_FULL // len(READERS), False)
