"""What a score run will cost, before it is launched. Loads no torch; `forecast` measures it on the model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path

import pandas as pd
from tokenizers import Tokenizer

from mrd_core.model.weights import parameter_count
from mrd_core.runs import Run
from mrd_core.samples import ForgetSet, evenly_spaced
from mrd_core.scoring.config import EstimatorConfig
from mrd_core.scoring.measures import FORWARD, FORWARD_AND_BACKWARD
from mrd_core.scoring.records import ScoreSummary

# English text in a usual vocabulary, where a model has no tokenizer that can be read without it.
CHARACTERS_PER_TOKEN = 4.0
COUNTED_TEXTS = 200
# What a template adds to a sample, about.
TEMPLATE_TOKENS = 8
# A forward pass is two operations per weight and token; a laptop core does about this many per second.
OPERATIONS_PER_SECOND_AND_CORE = 25e9
START_UP_SECONDS = 8.0
# Where runs usually stop, with sign probes and without; they never exceed their cap.
USUAL_EVALUATIONS, USUAL_ALONE = 24, 48
# Units of sign probes of such a run, and of a preview.
USUAL_UNITS = 2
# A backward pass with its norms, in forward passes, about.
BACKWARD_WITH_NORMS = 2.0
# Baseline, pilot and check cost about as much as this many evaluations.
PLANNING_EVALUATIONS = 6
# The baseline is one precision finer than the draws. The pilot makes two pairs at each σ on 32 samples at most: at
# two of them, and at about four more where the largest is looked for.
BASELINE_PASSES = 2.5
PILOT_EVALUATIONS, PILOT_OF_THE_LARGEST = 8, 24
PILOT_SAMPLES = 32
# Of a process: the program with its libraries, and what a batch of a usual vocabulary takes.
PROCESS_BYTES = 0.6e9
MOST_WORKERS = 4

Passes = Mapping[str, float]


@dataclass(frozen=True)
class ScoringCost:
    """An estimate.

    Attributes:
        evaluations: Forward evaluations that will probably be needed; at most the cap.
        cap: The most there can be.
        passes: Forward passes over the whole forget set by what they are for, see `passes_of`.
        seconds: Time for these [s]; None where the size of the model is unknown.
        seconds_per_pass: Time of one of them in one process [s]; None likewise.
        memory: Of all processes together [bytes]; None where the size of the model is unknown.
        basis: What the estimate rests on, for people.
    """

    evaluations: int
    cap: int
    passes: Passes
    seconds: float | None
    seconds_per_pass: float | None
    memory: float | None
    basis: str


def estimate(
    forget_set: ForgetSet, model: Path | None, config: EstimatorConfig, past: Iterable[Run]
) -> ScoringCost:
    """Estimate the cost of a score run.

    Args:
        forget_set: What will be scored.
        model: Local folder of the model, or its GGUF file; None for a hub id, whose size is not known yet.
        config: Cap and stopping rule.
        past: Earlier runs, the newest first; of those that have finished the one whose model is nearest in size
            gives the pace.
    """
    evaluations, cap = usual_evaluations(config), 0 if config.preview else config.draws
    passes = passes_of(config, len(forget_set), evaluations)
    if model is None:
        basis = "the model's size is known once it is downloaded"
        return ScoringCost(evaluations, cap, passes, None, None, None, basis)
    weights, workers = parameter_count(model), _workers(config)
    tokenizer = _tokenizer(model)
    work = _tokens(forget_set.frame, tokenizer) * weights
    pace, basis = _pace(past, weights)
    if tokenizer is None:
        basis += f", {CHARACTERS_PER_TOKEN:g} characters taken for a token"
    per_pass = work / pace
    seconds = START_UP_SECONDS + in_turn(passes, workers) * per_pass
    # The weights, and where there is noise their perturbed copy, in single precision.
    memory = workers * (PROCESS_BYTES + (1 if config.preview else 2) * 4 * weights)
    return ScoringCost(evaluations, cap, passes, seconds, per_pass, memory, basis)


def usual_evaluations(config: EstimatorConfig) -> int:
    """Return after how many evaluations a run usually stops; a preview makes none."""
    if config.preview:
        return 0
    usual = USUAL_EVALUATIONS if config.has_probes else USUAL_ALONE
    return min(config.draws, usual) if config.stop in ("auto", "precision") else config.draws


def pilot_evaluations(config: EstimatorConfig) -> int:
    """Return how often the pilot draws noise."""
    if config.preview:
        return 0
    return PILOT_EVALUATIONS if config.has_probes or config.sigma != "auto" else PILOT_OF_THE_LARGEST


def passes_of(config: EstimatorConfig, samples: int, evaluations: int) -> dict[str, float]:
    """Return forward passes over all samples by what they are for; a dearer pass counts as several."""
    return {
        "baseline": BASELINE_PASSES,
        "pilot": pilot_evaluations(config) * min(1.0, PILOT_SAMPLES / max(1, samples)),
        "draws": evaluations,
        "probes": _usual_probes(config, evaluations),
        "measures": FORWARD,
        "gradients": FORWARD_AND_BACKWARD if config.gradient_norms != "no" else 0.0,
    }


def _usual_probes(config: EstimatorConfig, evaluations: int) -> float:
    if not config.has_probes:
        return 0.0
    units = USUAL_UNITS * (1.0 if config.preview else evaluations / USUAL_EVALUATIONS)
    return units * (FORWARD + config.backward_passes_per_unit * BACKWARD_WITH_NORMS)


def in_turn(passes: Passes, workers: int) -> float:
    """Return how many passes a run makes one after the other, its units being shared out to processes."""
    return sum(passes.values()) - (passes["draws"] + passes["probes"]) * (1 - 1 / workers)


def _workers(config: EstimatorConfig) -> int:
    return min(os.cpu_count() or 1, MOST_WORKERS) if config.workers == "auto" else config.workers


def _tokenizer(model: Path) -> Tokenizer | None:
    """Return the model's tokenizer; None where it has no file of one, or one that cannot be read."""
    file = model / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        return Tokenizer.from_file(str(file))
    except Exception:  # The library raises no narrower kind for a damaged file; loading the model names it.
        return None


def _tokens(frame: pd.DataFrame, tokenizer: Tokenizer | None) -> float:
    """Return about how many tokens the texts have, by some of them where there is a tokenizer."""
    texts = frame["prompt"] + " " + frame["answer"]
    if tokenizer is None:
        return float(texts.str.len().sum()) / CHARACTERS_PER_TOKEN
    some = texts.iloc[evenly_spaced(len(texts), COUNTED_TEXTS)] if len(texts) else texts
    counted = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(list(some)))
    per_character = counted / max(1.0, float(some.str.len().sum()))
    return per_character * float(texts.str.len().sum()) + TEMPLATE_TOKENS * len(texts)


def _pace(past: Iterable[Run], weights: int) -> tuple[float, str]:
    """Return weights × tokens × passes per second, and where the figure is from."""
    finished = [
        (run, done)
        for run in past
        if (done := ScoreSummary.of(run)) is not None and done.seconds > 0 and done.model_parameters > 0
    ]
    if not finished:
        cores = os.cpu_count() or 1
        return OPERATIONS_PER_SECOND_AND_CORE * cores / 2, f"a usual laptop's pace on {cores} core(s)"
    # Small models have other paces than large ones: theirs is the time of everything but multiplying.
    run, done = min(finished, key=lambda one: abs(log(one[1].model_parameters / max(1, weights))))
    earlier = EstimatorConfig(probes=bool(done.probes), preview=done.preview)
    passes = passes_of(earlier, done.n_samples or 1, done.evaluations)
    if done.passes is not None:
        passes |= {"probes": done.passes - done.evaluations}
    if not done.seconds_measures:
        # Of an earlier version, or measured before it was resumed.
        passes |= {"measures": 0.0, "gradients": 0.0}
    work = done.tokens * done.model_parameters * in_turn(passes, done.workers)
    return work / (done.seconds + done.seconds_measures), f"the pace of run {run.id}"
