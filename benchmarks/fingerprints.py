"""What a run left behind, so that two runs can be held against each other bit for bit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from mrd_core.runs import Run, RunStore
from mrd_core.runs.files import LOG_FILE

Fingerprint = dict[str, str]

# What no two runs have in common: keys, columns and metrics of times and of memory; the worker's words; the
# model's card, which quotes the seconds of its summary; and what was left half-written, which is no result.
TIMES_AND_MEMORY = re.compile(r"(?:^|_)(?:seconds|memory)(?:_|$)")
NO_RESULTS = (LOG_FILE, "README.md", "*.tmp")


def fingerprint(run: Run, store: RunStore) -> Fingerprint:
    """Return digests of all that a run left in its directory and in the store, by file and column or key.

    Floats count by their bits, all NaN alike.
    """
    directory = run.directory
    prints: Fingerprint = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        if not any(path.match(pattern) for pattern in NO_RESULTS):
            name = path.relative_to(directory)
            prints |= {f"{name}{part}": _digest(content) for part, content in _contents(path)}
    # A resumed run says once more what it said before it was killed.
    metrics = store.metrics(run.id).drop(columns="rowid").drop_duplicates().sort_values(["name", "step"])
    metrics = metrics[~metrics["name"].str.contains(TIMES_AND_MEMORY)]
    updates = store.sample_updates(run.id).drop(columns="rowid")
    return prints | {"metrics": _digest(_bits(metrics)), "sample updates": _digest(_bits(updates))}


def differences(one: Fingerprint, other: Fingerprint) -> list[str]:
    """Return what is not the same in both, or is in one of them alone."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the contents of a file that must not differ, by column or key where it has some."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield from ((f":{name}", repr(table[name].to_pylist()).encode()) for name in _lasting(table.column_names))
        yield ":columns", repr(table.column_names).encode()
    elif path.suffix == ".json":
        content = _without_times(json.loads(path.read_text(encoding="utf-8")))
        parts = content if isinstance(content, dict) else {"": content}
        yield from ((f":{name}" if name else "", repr(part).encode()) for name, part in parts.items())
    elif path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        yield "", repr([_without_times(json.loads(line)) for line in lines]).encode()
    else:
        yield "", path.read_bytes()


def _without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _without_times(content[name]) for name in _lasting(content)}
    return list(map(_without_times, content)) if isinstance(content, list) else content


def _lasting(names: Any) -> list[str]:
    return [name for name in names if not TIMES_AND_MEMORY.search(name)]


def _bits(frame: pd.DataFrame) -> bytes:
    return repr(frame.to_dict("list")).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
