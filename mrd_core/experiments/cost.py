"""How long an experiment will take, before it is launched. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import NamedTuple

from mrd_core.errors import UserError
from mrd_core.experiments.config import (
    ExperimentConfig,
    ParameterChangeConfig,
    SelectionConfig,
    SensitivityConfig,
    TheoremConfig,
    UnlearningExperimentConfig,
    ValidityConfig,
)
from mrd_core.runs import Run
from mrd_core.runs.directory import read_config
from mrd_core.runs.launcher import queue_of
from mrd_core.scoring.cost import OPERATIONS_PER_SECOND_AND_CORE, PLANNING_EVALUATIONS, START_UP_SECONDS
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.config import MOST_RETAIN_MEASURED
from mrd_core.unlearning.cost import forward_flops

# Learning rates are searched until unlearning takes about so many updates.
USUAL_UPDATES = 30
# A search of a learning rate: tries, and unlearnings of each.
TRIES, TRIED_ALONE, TRIED_TOGETHER = 3, 5, 2
# A forward and a backward pass.
UPDATE = 3.0
# A Hessian-vector product in double precision: about four passes, each twice as long.
PROBE = 8.0
# Passes over one text of a small model are mostly overhead; those of a score run are over full batches.
ALONE = 4.0


class Cost(NamedTuple):
    """An estimate.

    Attributes:
        passes: Forward passes of one sample, those that cost more counted as several.
        seconds: Probable time [s].
        basis: What the estimate rests on, for people.
    """

    passes: float
    seconds: float
    basis: str


def estimate(config: ExperimentConfig, scored: ScoreSummary, n_samples: int, past: Iterable[Run]) -> Cost:
    """Estimate the cost of an experiment on a score run.

    Args:
        config: Of the experiment.
        scored: Summary of the score run.
        n_samples: Samples of its forget set.
        past: Earlier runs, the newest first; one of the same kind on the same device and size of model gives the
            pace.
    """
    passes = _passes(config, n_samples)
    for run in past:
        if (pace := _pace(run, config, scored)) is not None:
            return Cost(passes, START_UP_SECONDS + passes / pace, f"the pace of run {run.id}")
    operations = forward_flops(scored.model_parameters, scored.tokens) / n_samples
    if scored.seconds and queue_of(config.device) == queue_of(scored.device):
        per_second = (scored.evaluations + PLANNING_EVALUATIONS) * n_samples / scored.seconds
        basis = f"the pace of the score run, and {USUAL_UPDATES} updates until a sample is forgotten"
    else:
        per_second, basis = OPERATIONS_PER_SECOND_AND_CORE / operations, "a usual laptop's pace"
    return Cost(passes, START_UP_SECONDS + passes / per_second, basis)


def _pace(run: Run, config: ExperimentConfig, scored: ScoreSummary) -> float | None:
    """Return passes per second of an earlier experiment; None where it is no measure for this one."""
    done = run.summary or {}
    if run.kind != config.name or run.device != queue_of(config.device) or not done.get("seconds"):
        return None
    # The time of a resumed run is that of its last attempt alone.
    if run.attempt > 1 or done["scored"]["model_parameters"] != scored.model_parameters:
        return None
    try:
        earlier = read_config(run.directory, type(config))
    except UserError:
        # Its directory was removed by hand.
        return None
    return _passes(earlier, done["n_samples"]) / float(done["seconds"])


@singledispatch
def _passes(config: ExperimentConfig, n_samples: int) -> float:
    """Return the forward passes of one sample that an experiment takes."""
    raise TypeError(f"nothing is known of {type(config).__name__} on {n_samples} samples")


@_passes.register
def _of_validity(config: ValidityConfig, n_samples: int) -> float:
    samples = min(config.samples, n_samples)
    return ALONE * sum(
        _unlearning(config, method) * (samples * config.repeats_of(method) + _search(config, TRIED_ALONE))
        for method, _optimiser in config.arms
    )


@_passes.register
def _of_parameter_change(config: ParameterChangeConfig, _n_samples: int) -> float:
    unlearnings = config.composites + _search(config, TRIED_TOGETHER)
    return (
        config.size * unlearnings * float(sum(_unlearning(config, method) for method, _optimiser in config.arms))
    )


@_passes.register
def _of_selection(config: SelectionConfig, n_samples: int) -> float:
    size, schemes = min(config.size, max(n_samples // 2, 1)), 2
    alone = ALONE * (schemes * config.selections + _search(config, TRIED_ALONE))
    together = size * (schemes * config.selections + _search(config, TRIED_TOGETHER))
    looks = MOST_RETAIN_MEASURED * 2 * schemes * config.selections * len(config.arms) if config.retain else 0
    return looks + (alone + together) * sum(_unlearning(config, method) for method, _optimiser in config.arms)


@_passes.register
def _of_sensitivity(config: SensitivityConfig, n_samples: int) -> float:
    per_dtype = 2 * config.pairs * len(config.sigmas) + 2 * UPDATE
    return float(min(config.samples, n_samples) * (len(config.dtypes) * per_dtype + 2 * config.draws))


@_passes.register
def _of_theorem(config: TheoremConfig, n_samples: int) -> float:
    return min(config.samples, n_samples) * (ALONE * PROBE * config.probes + 4.0 * config.pairs)


def _unlearning(config: UnlearningExperimentConfig, method: str) -> float:
    """Return the passes of unlearning one sample."""
    return USUAL_UPDATES * UPDATE * (2 if config.retain_weight(method) else 1)


def _search(config: UnlearningExperimentConfig, tried: int) -> int:
    return TRIES * tried if config.learning_rate == "auto" else 0
