"""What an experiment shows, as JSON and as files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from analysis.evidence.interpretation import Evidence
from analysis.evidence.measurements import Measurements
from analysis.export.files import csv_file, records, write_exports


def evidence_json(measurements: Measurements, evidence: Evidence) -> dict[str, Any]:
    """Return what an experiment shows as JSON values: undefined and unbounded figures are None.

    Keys: experiment, title, directory, finished, verdict, findings, caveats, paper, elsewhere, tables (each a
    list of records).
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
        "elsewhere": evidence.elsewhere,
        "tables": {name: records(frame) for name, frame in evidence.tables.items()},
    }


def write_tables(folder: Path, prefix: str, evidence: Evidence) -> list[str]:
    """Write every table as `folder`/`prefix`-`table`.csv, each whole or not at all; return the files' names."""
    contents = {f"{prefix}-{name}.csv": partial(csv_file, frame) for name, frame in evidence.tables.items()}
    write_exports(folder, contents)
    return list(contents)
