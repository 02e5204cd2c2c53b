"""What an unlearning run costs: operations counted as the field counts them, and an estimate before the launch.

Loads no torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mrd_core.runs import Run
from mrd_core.runs.files import read_json
from mrd_core.runs.submission import queue_of
from mrd_core.scoring.cost import OPERATIONS_PER_SECOND_AND_CORE, PLANNING_EVALUATIONS, START_UP_SECONDS
from mrd_core.scoring.records import ScoreSummary
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.memory import BYTES, MemoryPlan, Shape, planned
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import Method
from mrd_core.unlearning.stopping import StopReason

# How often a sample is trained on until it is forgotten, where nothing is known.
USUAL_UPDATES = 10.0


def forward_flops(parameters: int, tokens: int) -> int:
    """Return the operations of a forward pass: a multiplication and an addition for each weight and token.

    2 P T (Kaplan et al. 2020, Scaling Laws for Neural Language Models, Table 1), attention over the context left
    out: it is small while the context is short against 12 times the width of the model.
    """
    return 2 * parameters * tokens


def update_flops(parameters: int, tokens: int, *, adapter: bool = False, checkpointing: bool = False) -> int:
    """Return the operations of a forward and a backward pass.

    6 P T: the backward pass takes 2 P T for the gradients of the activations and 2 P T for those of the weights
    (Kaplan et al. 2020). The latter fall away where the weights are frozen, which leaves 4 P T.

    Args:
        parameters: P, those of the frozen model where an adapter is trained, whose own do not count.
        tokens: T, all that go through the model.
        adapter: Whether an adapter is trained on frozen weights.
        checkpointing: Whether gradient checkpointing takes the forward pass once more.
    """
    passes = 1 + (1 if adapter else 2) + (1 if checkpointing else 0)
    return passes * forward_flops(parameters, tokens)


def read_by_starting_model(config: UnlearnConfig, trained: int, refused: int, retained: int) -> int:
    """Return how much of what is trained on the starting model passes forward too, for the loss to compare with.

    Args:
        config: Of the run.
        trained: Forget texts that are trained on, in any unit.
        refused: Refusals beside them, in the same.
        retained: Retain texts, in the same.
    """
    method = METHODS[config.method]
    return (
        (trained if method.predictions == "both" else 0)
        + (refused if method.refuses_beside else 0)
        + (retained if config.retain_term != "nll" else 0)
    )


@dataclass(frozen=True)
class UnlearningCost:
    """An estimate.

    Attributes:
        updates: Samples that will probably be trained on, repeats counted; at most `max_updates`.
        max_updates: What the limits of steps and epochs leave room for.
        steps: Optimiser steps that will probably be taken.
        max_steps: The most there can be; smaller batches at the end of the pool may take some more.
        seconds: Probable time [s].
        max_seconds: The most it can take by all limits, that of time included [s].
        flops: Probable operations, MRD measured anew included; without what the score run has spent.
        max_flops: Those of `max_updates`.
        looks_share: Share of `flops` that goes into checks (EL included) and looks at the retain set.
        mrd_evaluations: Forward evaluations for MRD: the score run's, and those of measuring it anew; 0 where
            the order of the samples does not depend on MRD.
        mrd_flops: Operations of these, over the whole forget set.
        evaluations: How often forgetting and keeping will probably be evaluated on the way.
        evaluation_flops: Operations of that, which `flops` includes: each sample's text, its prompt (taken to be
            as long), and all that the model may write.
        memory: What is needed, for people.
        plan: What is held on each device, at the mean length of the samples; None where the sizes of the model are
            unknown.
        basis: What the estimate rests on, for people.
    """

    updates: int
    max_updates: int
    steps: int
    max_steps: int
    seconds: float
    max_seconds: float
    flops: int
    max_flops: int
    looks_share: float
    mrd_evaluations: int
    mrd_flops: int
    evaluations: int
    evaluation_flops: int
    memory: str
    plan: MemoryPlan | None
    basis: str


def estimate(
    config: UnlearnConfig, scored: ScoreSummary, n_samples: int, parameters: int | None, past: Iterable[Run]
) -> UnlearningCost:
    """Estimate the cost of an unlearning run.

    Args:
        config: Of the run.
        scored: Summary of the score run, which says how long the samples are and how large its model is.
        n_samples: Samples to forget.
        parameters: Weights of the model; None takes the scored one's.
        past: Earlier runs, the newest first; one of unlearning on the same device gives the pace.
    """
    size = scored.model_parameters if parameters is None else parameters
    known = [run for run in past if run.kind == "unlearn" and run.summary]
    lengths = scored.tokens / scored.n_samples, scored.scored_tokens / scored.n_samples
    plan = _Plan(config, n_samples, size, *lengths)
    updates, updates_basis = _updates_per_sample(config, size, known)
    pace, pace_basis = _pace(config, scored, known)
    usual = plan.volume(updates)
    expected, most = plan.work(usual), plan.work(plan.largest)
    longest = START_UP_SECONDS + most.total / pace
    if config.limits.max_seconds is not None:
        longest = min(longest, START_UP_SECONDS + config.limits.max_seconds + most.evaluations / pace)
    plan_of_memory = _memory_plan(config, size, *lengths)
    before = scored.evaluations if config.curriculum.uses_draws else 0
    return UnlearningCost(
        updates=usual.updates,
        max_updates=plan.largest.updates,
        steps=plan.steps(usual),
        max_steps=plan.steps(plan.largest),
        seconds=min(START_UP_SECONDS + expected.total / pace, longest),
        max_seconds=longest,
        flops=expected.total,
        max_flops=most.total,
        looks_share=expected.looks / expected.total,
        mrd_evaluations=before + plan.evaluations(usual),
        mrd_flops=forward_flops(scored.model_parameters, scored.tokens) * before + expected.mrd,
        evaluations=plan.times_evaluated(usual),
        evaluation_flops=expected.evaluations,
        memory=plan_of_memory.in_words if plan_of_memory else _memory(config, size),
        plan=plan_of_memory,
        basis=f"{updates_basis}; {pace_basis}"
        + ("; a model as large as the scored one" if parameters is None else ""),
    )


class _Volume(NamedTuple):
    """How much is drawn, and how much of that is trained on."""

    updates: int
    draws: int


class _Work(NamedTuple):
    """Operations: training, checks and looks at the retain set, MRD anew, evaluations, measures at both ends."""

    training: int
    looks: int
    mrd: int
    evaluations: int
    measures: int

    @property
    def total(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class _Plan:
    """What the work of a run follows from.

    Attributes:
        config: Of the run.
        samples: Samples to forget.
        parameters: Weights of the model.
        tokens: Of a sample's text, the mean; retain samples are taken to be as long.
        scored_tokens: Of what was scored of it: the answer, unless the score run's scope was the whole text.
    """

    config: UnlearnConfig
    samples: int
    parameters: int
    tokens: float
    scored_tokens: float

    @property
    def method(self) -> Method:
        return METHODS[self.config.method]

    @property
    def batch(self) -> int:
        return min(self.config.optimiser.batch_size, self.samples)

    @property
    def largest(self) -> _Volume:
        """What the limits leave room for, every draw an update."""
        most = self.config.most_steps(self.samples) * self.batch
        return _Volume(most, most)

    def volume(self, updates: float) -> _Volume:
        """Return the volume at so many updates a sample; one draw more finds out that it is forgotten."""
        most = self.largest.draws
        return _Volume(*(min(math.ceil(count * self.samples), most) for count in (updates, updates + 1)))

    def steps(self, volume: _Volume) -> int:
        return math.ceil(volume.draws / self.batch)

    def evaluations(self, volume: _Volume) -> int:
        """Return the forward evaluations of measuring MRD anew."""
        curriculum = self.config.curriculum
        if not (curriculum.recompute_epochs and curriculum.uses_draws):
            return 0
        return int(volume.draws / self.samples / curriculum.recompute_epochs) * 2 * curriculum.recompute_pairs

    def times_evaluated(self, volume: _Volume) -> int:
        """Return how often the weights are evaluated: before the first step, every n steps and after the last."""
        every = self.config.evaluation.every_steps
        return 1 + math.ceil(self.steps(volume) / every) if every else 0

    def work(self, volume: _Volume) -> _Work:
        """Return the operations of a volume of draws."""
        # Beside MA and NLL, each end of the run has the own answers of some samples.
        measured = 2 * (self.samples + min(self.config.answers, self.samples))
        stopping, evaluation = self.config.stopping, self.config.evaluation
        # Passes of one sample that show who is forgotten, beyond those that train it.
        prefixes = round(self.samples * self.scored_tokens) if stopping.extraction else 0
        checks = volume.draws - volume.updates + prefixes
        if self.method.needs_refusals:
            checks = stopping.checks.cost(volume.updates // self.samples, self.samples, prefixes)
        probes = evaluated = 0
        if self.config.retain.samples:
            probes = (1 + self.steps(volume) // stopping.probe_steps) * stopping.probe_samples
            # The length of the retain set is not known before it is read.
            evaluated = evaluation.samples
        evaluated += min(evaluation.samples, self.samples)
        written = forward_flops(self.parameters, evaluated * evaluation.max_new_tokens)
        return _Work(
            training=self._training(volume),
            looks=self._forward(checks + probes),
            mrd=self._forward(self.evaluations(volume) * self.samples),
            evaluations=self.times_evaluated(volume) * (self._forward(2 * evaluated) + written),
            measures=self._forward(measured),
        )

    def _training(self, volume: _Volume) -> int:
        """Return the operations of the forget samples and of their retain partners, one an update."""
        retained = volume.updates if self.config.retain_weight else 0
        reference = read_by_starting_model(self.config, volume.updates, volume.updates, retained)
        # Refusals are taken to be as long as the answers.
        forgotten = volume.updates * (2 if self.method.refuses_beside else 1)
        trained = update_flops(
            self.parameters,
            round((forgotten + retained) * self.tokens),
            adapter=self.config.optimiser.lora_rank is not None,
            checkpointing=self.config.optimiser.gradient_checkpointing,
        )
        return trained + self._forward(reference)

    def _forward(self, passes: int) -> int:
        return forward_flops(self.parameters, round(passes * self.tokens))


def _updates_per_sample(config: UnlearnConfig, parameters: int, past: Iterable[Run]) -> tuple[float, str]:
    """Return how often a sample is trained on until it is forgotten, and where the figure is from."""
    wanted = {"method": config.method, "model_parameters": parameters, "stop_reason": StopReason.ALL_FORGOTTEN}
    for run in past:
        done = run.summary or {}
        if wanted.items() <= done.items() and done.get("n_samples") and "updates" in done:
            figure = done["updates"] / done["n_samples"]
            return figure, f"{figure:.3g} updates a sample, as in run {run.id}"
    return USUAL_UPDATES, f"{USUAL_UPDATES:g} updates a sample, which is a guess"


def _pace(config: UnlearnConfig, scored: ScoreSummary, past: Iterable[Run]) -> tuple[float, str]:
    """Return operations per second, and where the figure is from."""
    here = queue_of(config.device)
    for run in past:
        done = run.summary or {}
        if run.device == here and done.get("flops_training") and done.get("seconds_training"):
            return done["flops_training"] / done["seconds_training"], f"the pace of run {run.id}"
    if scored.seconds and scored.device == here:
        passes = scored.evaluations + PLANNING_EVALUATIONS
        work = passes * forward_flops(scored.model_parameters, scored.tokens)
        return work / scored.seconds, "the pace of the score run"
    cores = os.cpu_count() or 1
    return OPERATIONS_PER_SECOND_AND_CORE * cores, f"a usual laptop's pace on {cores} core(s)"


def _memory_plan(config: UnlearnConfig, parameters: int, tokens: float, scored: float) -> MemoryPlan | None:
    """Plan the memory where the model lies in a folder with its sizes."""
    settings = config.model.location and config.model.location / "config.json"
    if not settings or not settings.is_file():
        return None
    shape = Shape.of(read_json(settings), parameters)
    if shape is None:
        return None
    # `auto` is what is trained in, see `adapters.load_trainable`.
    dtype = config.model.dtype if config.model.dtype in BYTES else "float32"
    on_gpu = queue_of(config.device).startswith("cuda")
    return planned(config, shape, tokens, scored, dtype=dtype, on_gpu=on_gpu, processes=config.processes)


def _memory(config: UnlearnConfig, parameters: int) -> str:
    """Say which copies of the weights are needed beside the model's own."""
    optimiser = config.optimiser
    copy = f"{parameters * BYTES.get(config.model.dtype, 4) / 2**30:.2g} GiB each"
    moments = {"adamw_torch": ", and AdamW's two moments", "sgd": ""}.get(
        optimiser.name, ", and AdamW's two moments in 8 bits"
    )
    beside = "beside weights and activations"
    if optimiser.lora_rank:
        return f"{beside}, gradients{moments}, of the adapter alone"
    copies = "three copies" if optimiser.name == "adamw_torch" else "one copy"
    parts = [f"{beside}, {copies} of the weights ({copy}): gradients{moments}"]
    if config.needs_starting_model:
        parts.append("one more for the starting model, which the loss compares with")
    return "; ".join(parts)
