"""The files of an experiment. Loads no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from mrd_core.runs.files import Artifact, RunDirectory, whole_lines, write_atomically, write_frame

# One measurement: a sample unlearned, a composite, a σ, a probe.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class ExperimentFiles(RunDirectory):
    """What the directory of an experiment holds, by name."""

    noun: ClassVar[str] = "experiment"
    results: ClassVar[tuple[str, ...]] = ("rows", "summary")

    scoring = Artifact("scoring", "The score run that it made for itself; absent where it was given one.")
    samples = Artifact("samples.parquet", "The forget set.")
    scores = Artifact("scores.parquet", "A row per sample: MRD in all variants, as in a score run.")
    measures = Artifact("measures.parquet", "A row per sample: other measures of difficulty, as in a score run.")
    scored = Artifact("scored.json", "What the score run cost, and its title.")
    retain = Artifact("retain.parquet", "The retain set; absent without one.")
    unlearned = Artifact(
        "unlearned.json", "Durability: settings and summary of each unlearning run that is attacked."
    )
    outcomes = Artifact("outcomes.parquet", "Durability: outcome of each of these runs, a row per sample.")
    unrelated = Artifact("unrelated.parquet", "Durability: the texts that the control trains on.")
    paraphrases = Artifact("paraphrases.parquet", "Durability: samples asked otherwise; absent without any.")
    units = Artifact("units.jsonl", "A line per finished unit of work, {unit, rows}, appended as it is done.")
    rows = Artifact("rows.parquet", "The rows of all units: the result.")

    def append(self, unit: str, rows: Sequence[Row]) -> None:
        """Note that a unit is done. It is in the log whole, or a reader does not see it."""
        line = json.dumps({"unit": unit, "rows": list(rows)}) + "\n"
        with self.units.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())

    def finished_units(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of every finished unit; a line that a kill cut short does not count."""
        return {entry["unit"]: entry["rows"] for entry in whole_lines(self.units)}

    def mend(self) -> None:
        """Cut off a line that a kill has left unfinished, before anything is appended behind it."""
        if self.units.exists():
            whole, newline, _rest = self.units.read_bytes().rpartition(b"\n")
            write_atomically(self.units, lambda stream: stream.write(whole + newline))

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write the result."""
        write_frame(self.rows, pd.DataFrame(list(rows)))

    def read_rows(self) -> pd.DataFrame:
        """Return the result, or what there is of it so far."""
        if self.rows.exists():
            return pd.read_parquet(self.rows)
        return pd.DataFrame([row for rows in self.finished_units().values() for row in rows])
