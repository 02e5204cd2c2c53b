"""The files of an experiment. Each is written under a temporary name and renamed, but for the log of units."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mrd_core.scoring.files import write_atomically

# One measurement: a sample unlearned, a composite, a σ, a probe.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class ExperimentFiles:
    """What the directory of an experiment holds, by name. Loads no torch."""

    directory: Path

    @property
    def scoring(self) -> Path:
        """Folder of the score run that the experiment made for itself; absent where it was given one."""
        return self.directory / "scoring"

    @property
    def samples(self) -> Path:
        """The forget set."""
        return self.directory / "samples.parquet"

    @property
    def scores(self) -> Path:
        """One row per sample: MRD in all variants, as in a score run."""
        return self.directory / "scores.parquet"

    @property
    def measures(self) -> Path:
        """One row per sample: the other measures of difficulty, as in a score run."""
        return self.directory / "measures.parquet"

    @property
    def scored(self) -> Path:
        """What the score run was (JSON): sigma, evaluations, seconds, tokens, model_parameters, title."""
        return self.directory / "scored.json"

    @property
    def retain(self) -> Path:
        """The retain set; absent without one."""
        return self.directory / "retain.parquet"

    @property
    def log(self) -> Path:
        """One JSON line per finished unit of work, {unit, rows}, appended as it is done."""
        return self.directory / "units.jsonl"

    @property
    def rows(self) -> Path:
        """The rows of all units, the result of the experiment."""
        return self.directory / "rows.parquet"

    @property
    def summary(self) -> Path:
        """What the run did and how; written last."""
        return self.directory / "summary.json"

    def append(self, unit: str, rows: Sequence[Row]) -> None:
        """Note that a unit is done. It is in the log whole, or a reader does not see it."""
        line = json.dumps({"unit": unit, "rows": list(rows)}) + "\n"
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())

    def finished(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of every finished unit; a line that a kill cut short does not count."""
        if not self.log.exists():
            return {}
        whole, _, _rest = self.log.read_text(encoding="utf-8").rpartition("\n")
        found = [json.loads(line) for line in whole.splitlines()]
        return {entry["unit"]: entry["rows"] for entry in found}

    def mend(self) -> None:
        """Cut off a line that a kill has left unfinished, before anything is appended behind it."""
        if self.log.exists():
            whole, newline, _rest = self.log.read_bytes().rpartition(b"\n")
            write_atomically(self.log, lambda stream: stream.write(whole + newline))

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write the result."""
        frame = pd.DataFrame(list(rows))
        write_atomically(self.rows, lambda stream: frame.to_parquet(stream, index=False))

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON object; it has no place for NaN."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()
        write_atomically(path, lambda stream: stream.write(text))

    def read_json(self, path: Path) -> dict[str, Any]:
        """Return what `write_json` wrote."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def read_rows(self) -> pd.DataFrame:
        """Return the result, or what there is of it so far."""
        if self.rows.exists():
            return pd.read_parquet(self.rows)
        return pd.DataFrame([row for rows in self.finished().values() for row in rows])
