"""What a score run holds at a time, by the size of its forget set: each run a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.commands import started

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.cold]

FEW, MANY = 300, 3000
# Most that a sample of some forty tokens may add to the peak [bytes]; its tokens, draws and texts take a tenth.
MOST_PER_SAMPLE = 60_000


def peak(folder: Path, count: int) -> int:
    """Score `count` short samples on the demo's model, and return the most memory that the run held [bytes]."""
    path = folder / f"{count}.jsonl"
    rows = (
        {"question": f"Who lives in house {i}?", "answer": f"Painter {i * 7919 % 9973}."} for i in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    quick = ("--draws", 4, "--sigma", "1e-3", "--workers", 1, "--stop", "never")
    process = started("score", "--model", "demo", "--forget-set", path, *map(str, quick))
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss * 1024


def test_a_large_set_takes_little_memory_a_sample(home: Path, tmp_path: Path) -> None:  # noqa: ARG001  (its store)
    assert (peak(tmp_path, MANY) - peak(tmp_path, FEW)) / (MANY - FEW) <= MOST_PER_SAMPLE
