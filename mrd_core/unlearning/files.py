"""The files of an unlearning run. Loads no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from mrd_core.runs.files import Artifact, RunDirectory, whole_lines, write_atomically
from mrd_core.unlearning.records import OUTCOME

# In the log of steps, of those at which it was measured: the norm of each drawn sample's own part of the gradient.
GRADIENT_NORMS = "gradient_norms"


@dataclass(frozen=True)
class UnlearningFiles(RunDirectory):
    """What the directory of an unlearning run holds, by name."""

    noun: ClassVar[str] = "unlearning run"
    results: ClassVar[tuple[str, ...]] = ("model", "summary")

    samples = Artifact("samples.parquet", "The forget set: those samples of the score run that are unlearned.")
    retain = Artifact("retain.parquet", "The retain set; absent without one.")
    held_out = Artifact(
        "held_out.parquet", "The held-out set, where the thresholds are taken from one; absent else."
    )
    curriculum = Artifact(
        "curriculum.parquet",
        "A row per sample: its MRD, its weight (what the sampler weighs by; NaN where undefined) and the share of "
        "an epoch's draws to expect at the start.",
    )
    refusals = Artifact("refusals.txt", "The refusal answers, one a line; absent where the method teaches none.")
    scored = Artifact("scored.json", "What the score run cost, and its title.")
    start = Artifact("start.json", "Measured before the first step: thresholds, reference NLL, accuracy, reasons.")
    before = Artifact(
        "before.parquet",
        "A row per sample on the starting model: accuracy, nll, remembered (MA at the run's margin).",
    )
    answers_before = Artifact("answers_before.parquet", "The starting model's own answers, for some samples.")
    tokens_before = Artifact("tokens_before.parquet", "A row per answer token on the starting model.")
    steps = Artifact(
        "steps.jsonl",
        "The realised order: a line per step, appended as it is taken; at some with the norms of its gradients.",
    )
    evaluations = Artifact("evaluations.jsonl", "What was measured on the way, a line each; absent without any.")
    checkpoints = Artifact("checkpoints", "Folder of the newest checkpoint.", scaffolding=True, large=True)
    tensorboard = Artifact("tensorboard", "Logs for TensorBoard, where they were asked for.")
    outcome = Artifact(
        "outcome.parquet",
        "A row per sample: updates, draws, when it was forgotten, accuracy, NLL and own answer before and after.",
        OUTCOME,
    )
    tokens = Artifact("answer_tokens.parquet", "A row per answer token: log-probability before and after [nats].")
    candidates = Artifact("candidates", "Folder of the best weights on the way, so far.", scaffolding=True)
    best = Artifact(
        "best",
        "The weights of the best step on the way, as in `model`, with a card that says which it is; only where "
        "evaluations were made and can rank steps.",
    )
    model = Artifact("model", "The result: a folder that `from_pretrained` loads, or an adapter, with a card.")

    def read_steps(self) -> list[dict[str, Any]]:
        """Return the steps that are written down whole; a line that a kill cut short does not count."""
        return list(whole_lines(self.steps))

    def read_evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations that are written down whole, oldest first."""
        return list(whole_lines(self.evaluations))

    def keep_steps(self, count: int) -> None:
        """Cut the log of steps to its first `count` lines, for a run that goes on from a checkpoint there."""
        if self.steps.exists():
            lines = self.steps.read_bytes().splitlines(keepends=True)[:count]
            write_atomically(self.steps, lambda stream: stream.writelines(lines))

    def keep_evaluations(self, last_step: int) -> None:
        """Cut the log of evaluations to those up to a step, for a run that goes on from a checkpoint there."""
        if self.evaluations.exists():
            kept = [line for line in self.read_evaluations() if line["step"] <= last_step]
            text = "".join(f"{json.dumps(line)}\n" for line in kept).encode()
            write_atomically(self.evaluations, lambda stream: stream.write(text))
