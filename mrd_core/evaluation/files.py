"""The files of an evaluation. Each is written under a temporary name and renamed; `summary` is the last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.scoring.files import write_atomically

VALUE_COLUMNS = ["split", "sample_id", "metric", "value"]
ANSWER_COLUMNS = ["split", "sample_id", "asked", "prompt", "reference", "generated"]


@dataclass(frozen=True)
class EvaluationFiles:
    """What the directory of an evaluation holds, by name. Loads no torch."""

    directory: Path

    @classmethod
    def finished(cls, directory: Path) -> EvaluationFiles:
        """Return the files of an evaluation that has ended well: summary, values, aggregates, catalogue.

        Raises:
            UserError: One of them is missing; names it.
        """
        files = cls(directory)
        for path in (files.summary, files.values, files.aggregates, files.catalogue):
            if not path.exists():
                raise UserError(
                    f"The evaluation in {directory}",
                    f"has no {path.name}: it does not exist, has not finished, or is no longer whole.",
                    "Name the directory of an evaluation that succeeded (`python -m mrd_core runs list` shows "
                    "them), or evaluate once more.",
                )
        return files

    @property
    def sets(self) -> Path:
        """Folder of the sets that are asked, each its rows as `NAME.parquet`."""
        return self.directory / "sets"

    @property
    def catalogue(self) -> Path:
        """What the sets are (JSON list: name, title, role, kind) and `notes` on them; written after them."""
        return self.directory / "sets.json"

    @property
    def parts(self) -> Path:
        """Folder of finished parts of the work; removed when the run is done."""
        return self.directory / "parts"

    @property
    def scores(self) -> Path:
        """MRD of the forget samples, copied from the score run; absent without one."""
        return self.directory / "scores.parquet"

    @property
    def unlearned(self) -> Path:
        """`config` and `summary` of the unlearning run that made the model (JSON); absent without one."""
        return self.directory / "unlearned.json"

    @property
    def values(self) -> Path:
        """One row per value: split, sample_id, metric, value (NaN: undefined)."""
        return self.directory / "values.parquet"

    @property
    def answers(self) -> Path:
        """One row per text that was generated: split, sample_id, asked, prompt, reference, generated."""
        return self.directory / "answers.parquet"

    @property
    def aggregates(self) -> Path:
        """List of {split, metric, value (null: undefined), n, undefined} (JSON)."""
        return self.directory / "aggregates.json"

    @property
    def results(self) -> Path:
        """The same as a result file of OpenUnlearning."""
        return self.directory / "openunlearning.json"

    @property
    def summary(self) -> Path:
        """What was done and how; written last."""
        return self.directory / "summary.json"

    def remove_parts(self) -> None:
        """Remove what only an unfinished run needs. May be repeated."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def write_frame(self, path: Path, frame: pd.DataFrame) -> None:
        """Write a table as Parquet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda stream: frame.to_parquet(stream, index=False))

    def write_json(self, path: Path, content: Any) -> None:
        """Write JSON without NaN."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()
        write_atomically(path, lambda stream: stream.write(text + b"\n"))

    def read_json(self, path: Path) -> Any:
        """Return what `write_json` wrote."""
        return json.loads(path.read_text(encoding="utf-8"))

    def read_summary(self) -> Mapping[str, Any]:
        """Return the figures of a finished evaluation."""
        content: dict[str, Any] = self.read_json(self.summary)
        return content
