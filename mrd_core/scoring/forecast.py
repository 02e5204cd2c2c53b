"""What a score run will do and cost, measured on the model itself; nothing is started."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.runs import JobContext
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.scoring.cost import START_UP_SECONDS, Passes, passes_of, pilot_evaluations, usual_evaluations
from mrd_core.scoring.mrd import Estimator, measure_baseline
from mrd_core.scoring.pilot import PILOT_DRAWS, START_SIGMA, pilot_samples
from mrd_core.scoring.plan import Stage, load_stage, may_go_by_layers, memory_reason, must_stream, precision
from mrd_core.scoring.workers import Workers

TIMED_SECONDS = 1.0


@dataclass(frozen=True)
class Forecast:
    """A score run before it is launched.

    Attributes:
        samples: N.
        tokens: Of all samples, prompts included.
        evaluations: Forward evaluations that will probably be needed; at most `cap`.
        cap: The most there can be.
        passes: Forward passes over the whole forget set by what they are for.
        seconds: Probable time of each of them, and of starting up [s].
        most_seconds: Time where the run goes on to its cap [s].
        memory: Of one process, at its highest so far [bytes].
        workers: Processes.
        choices: What was chosen, and why.
    """

    samples: int
    tokens: int
    evaluations: int
    cap: int
    passes: Passes
    seconds: dict[str, float]
    most_seconds: float
    memory: int
    workers: int
    choices: dict[str, str]

    @property
    def total_seconds(self) -> float:
        """Probable time of the whole run [s]."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Pace:
    """What was timed.

    Attributes:
        forward: A pass over the whole forget set [s].
        baseline: The same, one precision finer [s].
        noise: What an evaluation takes beside its pass [s].
    """

    forward: float
    baseline: float
    noise: float


def forecast(config: ScoreConfig, forget_set: ForgetSet) -> Forecast:
    """Load the model, take the pace of a few samples on it, and return what a run will do and cost.

    Raises:
        UserError: Bad model, or samples that it cannot take.
    """
    began = time.perf_counter()
    stage = load_stage(config, forget_set, None, JobContext(Path("dry run")))
    loading = time.perf_counter() - began
    estimator, encoded = config.estimator, stage.passes.encoded
    streams = must_stream(stage, estimator)
    by_layers = streams and may_go_by_layers(stage)
    pace = _pace(stage, config, streams, by_layers)
    workers = Workers.of(estimator, config.model)
    processes = len(workers.devices)
    evaluations, cap = usual_evaluations(estimator), 0 if estimator.preview else estimator.draws
    passes = passes_of(estimator, len(encoded), evaluations)
    an_evaluation = pace.forward + pace.noise
    # The pilot's noise is written as often, whatever the number of its samples.
    own = {
        "baseline": pace.baseline,
        "pilot": passes["pilot"] * pace.forward + pilot_evaluations(estimator) * pace.noise,
        "draws": evaluations * an_evaluation / processes,
        "probes": passes["probes"] * pace.forward / processes,
    }
    seconds = {"start": START_UP_SECONDS + loading} | {
        name: own.get(name, count * pace.forward) for name, count in passes.items()
    }
    return Forecast(
        samples=len(encoded),
        tokens=int(encoded.lengths.sum()),
        evaluations=evaluations,
        cap=cap,
        passes=passes,
        seconds=seconds,
        most_seconds=sum(seconds.values()) + (cap - evaluations) * an_evaluation / processes,
        memory=_highest_memory(stage),
        workers=processes,
        choices={name: choice.stated for name, choice in stage.model.choices.items()}
        | {
            "template": stage.encoder.template.stated,
            "σ": _sigma(estimator),
            "batch": f"{stage.passes.batch_tokens} padded tokens",
            "workers": workers.stated,
            "memory": "no copy of the weights"
            if estimator.preview
            else memory_reason(streamed=streams, by_layers=by_layers),
        },
    )


def _sigma(estimator: EstimatorConfig) -> str:
    if estimator.preview:
        return "none: a preview draws no noise"
    return "chosen by a pilot" if estimator.sigma == "auto" else f"{estimator.sigma:g} (as asked)"


def _pace(stage: Stage, config: ScoreConfig, streams: bool, by_layers: bool) -> Pace:
    """Time passes over a few samples of all lengths, and stretch them to all tokens."""
    few = stage.passes.of(pilot_samples(stage.passes.encoded))
    share = int(few.encoded.lengths.sum()) / max(1, int(stage.passes.encoded.lengths.sum()))
    sigma = START_SIGMA if config.estimator.sigma == "auto" else config.estimator.sigma
    with precision(stage.model.dtype):
        # The first pass makes room.
        few()
        forward = _seconds(few)
        began = time.perf_counter()
        baseline = measure_baseline(few, stage.model.dtype)
        finer = time.perf_counter() - began
        if config.estimator.preview:
            return Pace(forward / share, finer / share, 0.0)
        noise = Noise(config.estimator.seed, sigma)
        model = PerturbedModel(stage.scorer, noise, streamed=streams)
        estimator = Estimator(few, model, baseline, config.estimator.mode, by_layers=by_layers)
        estimator.unit(PILOT_DRAWS[0])
        unit = _seconds(lambda: estimator.unit(PILOT_DRAWS[0]))
    evaluation = unit / config.estimator.evaluations_per_unit
    return Pace(forward / share, finer / share, max(0.0, evaluation - forward))


def _seconds(act: Callable[[], Any]) -> float:
    """Return the mean time over a second, or over two times where one takes longer [s].

    What else the machine does is part of its pace.
    """
    began, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - began < TIMED_SECONDS:
        act()
        count += 1
    return (time.perf_counter() - began) / count


def _highest_memory(stage: Stage) -> int:
    if stage.model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(stage.model.device)
    # Linux counts in kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
