"""What an experiment shows, as JSON and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.evidence.runs import Evidence, Measurements
from mrd_core.runs.files import json_value, write_atomically


def evidence_json(found: Measurements, shown: Evidence) -> dict[str, Any]:
    """Return what an experiment shows as JSON values: undefined and unbounded figures are None.

    Keys: experiment, title, directory, finished, verdict, findings, caveats, paper, tables (each a list of
    records).
    """
    return {
        "experiment": found.config.name,
        "title": found.config.title,
        "directory": str(found.directory),
        "finished": found.finished,
        "verdict": shown.verdict,
        "findings": list(shown.findings),
        "caveats": list(shown.caveats),
        "paper": shown.paper,
        "tables": {name: _records(frame) for name, frame in shown.tables.items()},
    }


def tables_csv(shown: Evidence) -> dict[str, bytes]:
    """Return the content of a CSV file for each table, by the table's name."""
    return {name: frame.to_csv(index=False).encode() for name, frame in shown.tables.items()}


def write_tables(folder: Path, prefix: str, shown: Evidence) -> list[str]:
    """Write every table as `folder`/`prefix`-`table`.csv, each whole or not at all; return the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{prefix}-{name}.csv": content for name, content in tables_csv(shown).items()}
    for name, content in files.items():
        _write(folder / name, content)
    return list(files)


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda stream: stream.write(content))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): _plain(value) for name, value in record.items()} for record in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    """Return a cell as a JSON value."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA else json_value(value)
