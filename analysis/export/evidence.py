"""What an experiment shows, as JSON and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.evidence.interpretation import Evidence
from analysis.evidence.measurements import Measurements
from mrd_core.runs.files import json_value, write_atomically


def evidence_json(measurements: Measurements, evidence: Evidence) -> dict[str, Any]:
    """Return what an experiment shows as JSON values: undefined and unbounded figures are None.

    Keys: experiment, title, directory, finished, verdict, findings, caveats, paper, tables (each a list of
    records).
    """
    return {
        "experiment": measurements.config.kind,
        "title": measurements.config.title,
        "directory": str(measurements.directory),
        "finished": measurements.finished,
        "verdict": evidence.verdict,
        "findings": list(evidence.findings),
        "caveats": list(evidence.caveats),
        "paper": evidence.paper,
        "tables": {name: _records(frame) for name, frame in evidence.tables.items()},
    }


def tables_csv(evidence: Evidence) -> dict[str, bytes]:
    """Return the content of a CSV file for each table, by the table's name."""
    return {name: frame.to_csv(index=False).encode() for name, frame in evidence.tables.items()}


def write_tables(folder: Path, prefix: str, evidence: Evidence) -> list[str]:
    """Write every table as `folder`/`prefix`-`table`.csv, each whole or not at all; return the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{prefix}-{name}.csv": content for name, content in tables_csv(evidence).items()}
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
