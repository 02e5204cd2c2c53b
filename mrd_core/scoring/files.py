"""The files of a score run. Each is written under a temporary name and renamed: it is whole or absent."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrd_core.errors import UserError
from mrd_core.settings.configuration import Frozen


class Plan(Frozen):
    """What was decided before the first draw; a restart and every helping process read it and decide nothing.

    Attributes:
        sigma: Standard deviation of the noise.
        batch_tokens: Most padded tokens in a batch.
        threads: Torch threads of each process.
        workers: Processes that share the draws.
        streamed: Whether weights are perturbed a layer at a time.
        gate_passed: The precision gate's verdict, with its figures in `gate`.
        pilot: σ → median ratio of MRD/σ² at σ and σ/2; None where it is undefined.
        reasons: For each automatic choice, what was chosen and why.
    """

    device: str
    dtype: str
    sigma: float
    template: str
    batch_tokens: int
    threads: int
    workers: int
    streamed: bool
    gate_passed: bool
    gate: dict[str, float | str | None]
    pilot: dict[str, float | None]
    reasons: dict[str, str]


@dataclass(frozen=True)
class RunFiles:
    """What a run directory holds, by name."""

    directory: Path

    @classmethod
    def finished(cls, directory: Path) -> RunFiles:
        """Return the files of a score run that has ended well.

        Raises:
            UserError: It has not, or is none.
        """
        files = cls(directory)
        # The summary is written last.
        if not files.summary.exists():
            raise UserError(
                f"The score run in {directory}",
                "has no scores: it does not exist or has not finished.",
                "Name the directory of a score run that succeeded (`python -m mrd_core runs list` shows them).",
            )
        return files

    @property
    def samples(self) -> Path:
        """The validated forget set."""
        return self.directory / "samples.parquet"

    @property
    def plan(self) -> Path:
        """The plan; its presence tells helping processes to begin."""
        return self.directory / "plan.json"

    @property
    def baseline(self) -> Path:
        """P_t(θ), the unperturbed log-probabilities, fp64, shape (T,)."""
        return self.directory / "baseline.npy"

    @property
    def hidden_states(self) -> Path:
        """Mean last hidden state of each sample, fp32, shape (N, width)."""
        return self.directory / "hidden_states.npy"

    @property
    def units(self) -> Path:
        """Folder of finished units of draws; removed when the run is done."""
        return self.directory / "units"

    @property
    def scores(self) -> Path:
        """One row per sample."""
        return self.directory / "scores.parquet"

    @property
    def measures(self) -> Path:
        """One row per sample: sample_id and the columns of `measures.PLAIN_MEASURES` and `GRADIENT_MEASURES`.

        NaN where a measure was not taken. Runs of earlier versions have no such file.
        """
        return self.directory / "measures.parquet"

    @property
    def draws(self) -> Path:
        """One row per evaluation and sample."""
        return self.directory / "draws.parquet"

    @property
    def tokens(self) -> Path:
        """One row per scored token."""
        return self.directory / "tokens.parquet"

    @property
    def summary(self) -> Path:
        """The figures of the whole run; written last."""
        return self.directory / "summary.json"

    def unit(self, index: int) -> Path:
        """Return the file of one unit."""
        return self.units / f"{index:06d}.npz"

    def claim(self, index: int) -> Path:
        """Return the file that says which process draws a unit."""
        return self.units / f"{index:06d}.claim"

    def remove_scaffolding(self) -> None:
        """Remove what only drawing needed, and what killed processes left half-written. May be repeated."""
        shutil.rmtree(self.units, ignore_errors=True)
        self.baseline.unlink(missing_ok=True)
        for temporary in self.directory.glob(".*.tmp"):
            temporary.unlink(missing_ok=True)

    def read_plan(self) -> Plan:
        """Return the plan."""
        return Plan.model_validate_json(self.plan.read_text(encoding="utf-8"))

    def read_summary(self) -> dict[str, Any]:
        """Return the figures of a finished run."""
        summary: dict[str, Any] = json.loads(self.summary.read_text(encoding="utf-8"))
        return summary


def json_value(value: Any) -> Any:
    """JSON has no NaN and no infinity: an undefined figure is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, write: Callable[[io.BufferedWriter], object]) -> None:
    """Let `write` fill a file under a temporary name, then rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
