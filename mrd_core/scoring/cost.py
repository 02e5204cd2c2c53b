"""What a score run will cost, before it is launched. Loads no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mrd_core.model.weights import parameter_count
from mrd_core.runs import Run
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.measures import FORWARD, FORWARD_AND_BACKWARD
from mrd_core.scoring.records import ScoreSummary

# English text in a usual vocabulary; only for the estimate before the tokenizer is loaded.
CHARACTERS_PER_TOKEN = 4.0
# A forward pass is two operations per weight and token; a laptop core does about this many per second.
OPERATIONS_PER_SECOND_AND_CORE = 25e9
START_UP_SECONDS = 8.0
# Where runs with the precision target usually stop; they never exceed their cap.
USUAL_EVALUATIONS = 48
# Baseline, pilot and check cost about as much as this many evaluations.
PLANNING_EVALUATIONS = 6


@dataclass(frozen=True)
class ScoringCost:
    """An estimate.

    Attributes:
        evaluations: Forward evaluations that will probably be needed; at most the cap.
        cap: The most there can be.
        seconds: Time for `evaluations` [s]; None where the size of the model is unknown.
        basis: What the estimate rests on, for people.
    """

    evaluations: int
    cap: int
    seconds: float | None
    basis: str


def estimate(
    forget_set: ForgetSet, model_folder: Path | None, config: EstimatorConfig, past: Iterable[Run]
) -> ScoringCost:
    """Estimate the cost of a score run.

    Args:
        forget_set: What will be scored.
        model_folder: Local folder of the model; None for a hub id, whose size is not known yet.
        config: Cap and stopping rule.
        past: Earlier runs; the newest finished one on this machine gives the pace.
    """
    cap = config.draws
    evaluations = min(cap, USUAL_EVALUATIONS) if config.stop == "precision" else cap
    if model_folder is None:
        return ScoringCost(evaluations, cap, None, "the model's size is known once it is downloaded")
    lengths = forget_set.frame["prompt"].str.len() + forget_set.frame["answer"].str.len()
    weights = parameter_count(model_folder)
    work = float(lengths.sum()) / CHARACTERS_PER_TOKEN * weights
    pace, basis = _pace(past)
    # The measures beside MRD are passes too.
    measuring = FORWARD + (FORWARD_AND_BACKWARD if config.gradient_norms != "no" else 0.0)
    passes = evaluations + PLANNING_EVALUATIONS + measuring
    seconds = START_UP_SECONDS + work * passes / pace
    return ScoringCost(evaluations, cap, seconds, basis)


def _pace(past: Iterable[Run]) -> tuple[float, str]:
    """Return weights × tokens × evaluations per second, and where the figure is from."""
    for run in past:
        done = ScoreSummary.of(run)
        if done is not None and done.seconds > 0:
            work = done.tokens * done.model_parameters * (done.evaluations + PLANNING_EVALUATIONS)
            return work / done.seconds, f"the pace of run {run.id}"
    cores = os.cpu_count() or 1
    return OPERATIONS_PER_SECOND_AND_CORE * cores / 2, f"a usual laptop's pace on {cores} core(s)"
