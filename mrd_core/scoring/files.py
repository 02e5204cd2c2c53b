"""The files of a score run. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mrd_core.runs.files import Artifact, RunDirectory
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
class RunFiles(RunDirectory):
    """What the directory of a score run holds, by name."""

    noun: ClassVar[str] = "score run"

    samples = Artifact("samples.parquet", "The validated forget set, a row per sample.")
    plan = Artifact("plan.json", "What was decided before the first draw; its presence tells helpers to begin.")
    baseline = Artifact("baseline.npy", "P_t(θ), unperturbed, fp64, shape (tokens,).", scaffolding=True)
    units = Artifact("units", "Folder of finished units of draws.", scaffolding=True)
    hidden_states = Artifact("hidden_states.npy", "Mean last hidden state of each sample, fp32, shape (N, width).")
    scores = Artifact("scores.parquet", "A row per sample: MRD in all variants, with errors.")
    # Runs of earlier versions have no such file.
    measures = Artifact("measures.parquet", "A row per sample: other measures of difficulty; NaN where not taken.")
    draws = Artifact("draws.parquet", "A row per evaluation and sample.")
    tokens = Artifact("tokens.parquet", "A row per scored token.")
    readings = Artifact("characteristics", "Directories of the characteristics runs of these scores.")

    def unit(self, index: int) -> Path:
        """Return the file of one unit."""
        return self.units / f"{index:06d}.npz"

    def claim(self, index: int) -> Path:
        """Return the file that says which process draws a unit."""
        return self.units / f"{index:06d}.claim"

    def read_plan(self) -> Plan:
        """Return the plan."""
        return Plan.model_validate_json(self.plan.read_text(encoding="utf-8"))
