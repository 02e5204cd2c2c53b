"""Small real jobs for the tests of the worker; each is named `tests.support.run_jobs:NAME`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mrd_core.errors import UserError
from mrd_core.runs import JobContext
from mrd_core.scoring.config import ScoreConfig

STEPS_FILE = "steps.txt"
GO_FILE = "go"


def count(config: ScoreConfig, context: JobContext) -> dict[str, Any]:
    """Do `draws` short steps, going on from where an earlier attempt stopped."""
    path = context.directory / STEPS_FILE
    done = int(path.read_text()) if path.exists() else 0
    for step in range(done, config.estimator.draws):
        context.check_cancelled()
        time.sleep(0.02)
        _replace(path, str(step + 1))
        context.metrics(step, loss=1 / (step + 1))
        context.progress(step + 1, config.estimator.draws, message="counting")
    context.event("info", "counted")
    return {"steps": config.estimator.draws, "began_at": done}


def wait_for_go(_config: ScoreConfig, context: JobContext) -> dict[str, Any]:
    """Note begin and end in a journal beside the run directories; in between, wait for the file `go`."""
    journal = context.directory.parent / "journal"
    _append(journal, f"begin {context.directory.name}")
    while not (context.directory / GO_FILE).exists():
        context.check_cancelled()
        context.progress(0, 1, message="waiting for go")
        time.sleep(0.02)
    _append(journal, f"end {context.directory.name}")
    return {}


def ignore_everything(_config: ScoreConfig, context: JobContext) -> dict[str, Any]:
    """Never look at a request to cancel, and end when the file `go` is there."""
    while not (context.directory / GO_FILE).exists():
        time.sleep(0.02)
    return {"whole": True}


def fill_the_disk(_config: ScoreConfig, _context: JobContext) -> dict[str, Any]:
    """Write to the device that is always full."""
    with Path("/dev/full").open("w") as full:
        full.write("x")
    return {}


def break_down(config: ScoreConfig, _context: JobContext) -> dict[str, Any]:
    """Fail in a way nobody foresaw."""
    return {"ratio": 1 / int(config.estimator.seed)}


def refuse(_config: ScoreConfig, _context: JobContext) -> dict[str, Any]:
    """Fail in a way the user can put right."""
    raise UserError("forget.csv", "It has no column named answer.", "Map a column to the answer.")


def report_nan(_config: ScoreConfig, context: JobContext) -> dict[str, Any]:
    """Return numbers that JSON has no word for."""
    context.metrics(0, reliability=float("nan"))
    return {"reliability": float("nan"), "median": 0.5}


def _replace(path: Path, text: str) -> None:
    """Write under another name and rename, since a killed `write_text` leaves an empty file behind."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _append(path: Path, line: str) -> None:
    with path.open("a") as journal:
        journal.write(line + "\n")
