"""The best weights on the way: kept where evaluations are made, by a rule over what those measure.

While a run goes on, `candidates` holds a folder `step-<n>` for the best step so far and, where that is later, one
for the best up to the newest checkpoint, to which a killed run goes back. At the end the best becomes the folder
`best`.
Loads no torch.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.records import BestStep

FORGET, RETAIN = "forget_extraction_strength", "retain_extraction_strength"
RULE = (
    "½ (forgotten + retained), on the samples that are evaluated on the way: forgotten is 1 less the share of the "
    "forget set's extraction strength that is left of what it was before the first step, retained the share that "
    "is left of the retain set's, each from 0 to 1. The starting model has 0.5, and so has one that knows nothing "
    "any more. Of equal steps the first is the best."
)
UNRANKED = (
    "No step is kept as the best: that takes a retain set, and an extraction strength above 0 on both sets before "
    "the first step."
)


def ranked(values: Mapping[str, float], start: Mapping[str, float]) -> tuple[float, float] | None:
    """Return what is forgotten and what is retained, each from 0 to 1; None where one cannot be told.

    Args:
        values: Of an evaluation, by name.
        start: Those before the first step.
    """
    left = [_share_left(values.get(name), start.get(name)) for name in (FORGET, RETAIN)]
    if left[0] is None or left[1] is None:
        return None
    return 1 - left[0], left[1]


def best_step(evaluations: Sequence[Mapping[str, Any]]) -> BestStep | None:
    """Return the best step after the start by `RULE`; None where no step can be ranked.

    Args:
        evaluations: Lines of `evaluations.jsonl`, that of step 0 first.
    """
    if not evaluations or evaluations[0]["step"] != 0:
        return None
    figures = [(line, ranked(line, evaluations[0])) for line in evaluations[1:]]
    steps = [
        BestStep(step=line["step"], score=sum(shares) / 2, forgotten=shares[0], retained=shares[1])
        for line, shares in figures
        if shares is not None
    ]
    if not steps:
        return None
    best = max(steps, key=lambda each: (each.score, -each.step))
    return best.model_copy(update={"last_step": steps[-1].step, "last_score": steps[-1].score})


class BestKeeper:
    """Keeps the weights of the best step while a run goes on.

    Args:
        files: Of the run.
        save: Writes the present weights into a folder that is not there yet.
        saved_step: Returns the step of the newest checkpoint, -1 without one.
    """

    def __init__(
        self, files: UnlearningFiles, save: Callable[[Path], None], saved_step: Callable[[], int]
    ) -> None:
        self._files = files
        self._save = save
        self._saved_step = saved_step

    def look(self, step: int) -> None:
        """Keep the present weights if the evaluation of this step, which is written down, is the best so far."""
        evaluations = self._files.read_evaluations()
        best = best_step(evaluations)
        if best is None or best.step != step:
            return
        with_weights(self._candidate(step), self._save)
        saved = self._saved_step()
        before = best_step([line for line in evaluations if line["step"] <= saved])
        kept = {step} | ({before.step} if before else set())
        for other in self._files.candidates.glob("step-*"):
            if _step_of(other) not in kept:
                shutil.rmtree(other)

    def go_back(self, step: int) -> None:
        """Drop what is of later steps than the one that a run goes on from; -1 for a run that begins anew."""
        for folder in self._files.candidates.glob("step-*"):
            if _step_of(folder) > step:
                shutil.rmtree(folder)

    def settle(self, describe: Callable[[BestStep], str]) -> BestStep | None:
        """Put the best weights into their place, with a card, and return which they are; None where none is.

        A run that was killed after that finds them in place.
        """
        best = best_step(self._files.read_evaluations())
        if best is None:
            return None
        candidate = self._candidate(best.step)
        if candidate.exists():
            (candidate / "README.md").write_text(describe(best), encoding="utf-8")
            shutil.rmtree(self._files.best, ignore_errors=True)
            candidate.rename(self._files.best)
        return best

    def _candidate(self, step: int) -> Path:
        return self._files.candidates / f"step-{step}"


def with_weights(folder: Path, save: Callable[[Path], None]) -> None:
    """Have a folder written, whole or not at all; one that is there is replaced."""
    staging = folder.with_name(f".{folder.name}.saving")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        save(staging)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _share_left(value: float | None, start: float | None) -> float | None:
    if value is None or start is None or not start > 0 or math.isnan(value):
        return None
    return min(1.0, value / start)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])
