"""How long an experiment will take, before it is launched. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig, UnlearningExperimentConfig
from mrd_core.experiments.kinds import experiments
from mrd_core.experiments.passes import ALONE, alone, updates
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.runs.submission import queue_of
from mrd_core.scoring.cost import OPERATIONS_PER_SECOND_AND_CORE, PLANNING_EVALUATIONS, START_UP_SECONDS
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.cost import forward_flops


class ExperimentCost(NamedTuple):
    """An estimate.

    Attributes:
        passes: Forward passes of one sample, those that cost more counted as several.
        seconds: Probable time [s].
        basis: What the estimate rests on, for people.
    """

    passes: float
    seconds: float
    basis: str


def estimate(
    config: ExperimentConfig, scored: ScoreSummary, n_samples: int, past: Iterable[Run]
) -> ExperimentCost:
    """Estimate the cost of an experiment on a score run.

    Args:
        config: Of the experiment.
        scored: Summary of the score run.
        n_samples: Samples of its forget set.
        past: Earlier runs, the newest first; one of the same kind on the same device and size of model gives the
            pace.
    """
    passes = experiments()[config.kind].passes(config, n_samples)
    for run in past:
        if (pace := _pace(run, config, scored)) is not None:
            return ExperimentCost(passes, START_UP_SECONDS + passes / pace, f"the pace of run {run.id}")
    operations = forward_flops(scored.model_parameters, scored.tokens) / n_samples
    if scored.seconds and queue_of(config.device) == queue_of(scored.device):
        per_second = (scored.evaluations + PLANNING_EVALUATIONS) * n_samples / scored.seconds
        basis = "the pace of the score run"
        if isinstance(config, UnlearningExperimentConfig):
            # Nearly all of it is one text at a time.
            per_second *= ALONE / alone(1 / per_second)
            basis += f", and {updates(config)} updates until a sample is forgotten"
    else:
        per_second, basis = OPERATIONS_PER_SECOND_AND_CORE / operations, "a usual laptop's pace"
    return ExperimentCost(passes, START_UP_SECONDS + passes / per_second, basis)


def _pace(run: Run, config: ExperimentConfig, scored: ScoreSummary) -> float | None:
    """Return passes per second of an earlier experiment; None where it is no measure for this one."""
    done = run.summary or {}
    if run.kind != config.kind or run.device != queue_of(config.device) or not done.get("seconds"):
        return None
    # The time of a resumed run is that of its last attempt alone.
    if run.attempt > 1 or done["scored"]["model_parameters"] != scored.model_parameters:
        return None
    try:
        earlier = read_config(run.directory, type(config))
    except UserError:
        # Its directory was removed by hand.
        return None
    return experiments()[earlier.kind].passes(earlier, done["n_samples"]) / float(done["seconds"])
