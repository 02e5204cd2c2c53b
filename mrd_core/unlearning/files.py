"""The files of an unlearning run. Each is written under a temporary name and renamed, but for the logs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mrd_core.scoring.files import write_atomically


@dataclass(frozen=True)
class UnlearningFiles:
    """What the directory of an unlearning run holds, by name. Loads no torch."""

    directory: Path

    @property
    def samples(self) -> Path:
        """The forget set: those samples of the score run that are unlearned."""
        return self.directory / "samples.parquet"

    @property
    def retain(self) -> Path:
        """The retain set; absent without one."""
        return self.directory / "retain.parquet"

    @property
    def curriculum(self) -> Path:
        """One row a sample: sample_id, n_tokens, mean_log_prob, the mrd_* columns, weight, share.

        `weight` is what the sampler weighs by (NaN where undefined), `share` the expected share of an epoch's
        draws at the start, before any sample has left.
        """
        return self.directory / "curriculum.parquet"

    @property
    def refusals(self) -> Path:
        """The refusal answers, one a line; absent where the method teaches none."""
        return self.directory / "refusals.txt"

    @property
    def scored(self) -> Path:
        """What the score run cost, and its title (JSON)."""
        return self.directory / "scored.json"

    @property
    def start(self) -> Path:
        """What was found before the first step (JSON): thresholds, reference NLL, initial measures, reasons."""
        return self.directory / "start.json"

    @property
    def before(self) -> Path:
        """One row a sample on the starting model: sample_id, accuracy, nll."""
        return self.directory / "before.parquet"

    @property
    def answers_before(self) -> Path:
        """The starting model's own answers: sample_id, own_answer, for some of the samples."""
        return self.directory / "answers_before.parquet"

    @property
    def tokens_before(self) -> Path:
        """One row an answer token on the starting model: sample_id, position, piece, log_prob."""
        return self.directory / "tokens_before.parquet"

    @property
    def steps(self) -> Path:
        """The realised order: one JSON line a step, appended as it is taken."""
        return self.directory / "steps.jsonl"

    @property
    def evaluations(self) -> Path:
        """What was measured on the way: one JSON line an evaluation, see `feed.Evaluation`; absent without any."""
        return self.directory / "evaluations.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the newest checkpoint; removed when the run is done."""
        return self.directory / "checkpoints"

    @property
    def outcome(self) -> Path:
        """One row a sample.

        sample_id, updates, draws, forgotten_step (NA: never found forgotten), forgotten_at_end,
        accuracy_before, accuracy_after, nll_before, nll_after [nats per answer token], own_answer_before,
        own_answer_after.
        """
        return self.directory / "outcome.parquet"

    @property
    def tokens(self) -> Path:
        """One row an answer token: sample_id, position, piece, log_prob_before, log_prob_after [nats]."""
        return self.directory / "answer_tokens.parquet"

    @property
    def model(self) -> Path:
        """The result: a folder that `from_pretrained` loads, or an adapter, with a card."""
        return self.directory / "model"

    @property
    def summary(self) -> Path:
        """The figures of the whole run; written last."""
        return self.directory / "summary.json"

    def read_summary(self) -> dict[str, Any]:
        """Return the figures of a finished run."""
        return self.read_json(self.summary)

    def read_json(self, path: Path) -> dict[str, Any]:
        """Return what `write_json` wrote."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def read_steps(self) -> list[dict[str, Any]]:
        """Return the steps that are written down whole; a line that a kill cut short does not count."""
        return _lines(self.steps)

    def read_evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations that are written down whole, oldest first."""
        return _lines(self.evaluations)

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

    def write_frame(self, path: Path, frame: pd.DataFrame) -> None:
        """Write a table as Parquet."""
        write_atomically(path, lambda stream: frame.to_parquet(stream, index=False))

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Write JSON without NaN."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()
        write_atomically(path, lambda stream: stream.write(text + b"\n"))

    def remove_scaffolding(self) -> None:
        """Remove what only training needed. May be repeated."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for temporary in self.directory.glob(".*.tmp"):
            temporary.unlink(missing_ok=True)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log; none where it has not begun."""
    if not path.exists():
        return []
    whole, _, _rest = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
