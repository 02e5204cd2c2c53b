"""What a score run will cost, before it is launched. Loads no torch."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mrd_core.config import EstimatorConfig
from mrd_core.errors import UserError
from mrd_core.measures import FORWARD, FORWARD_AND_BACKWARD
from mrd_core.runs import Run
from mrd_core.samples import ForgetSet

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
class Cost:
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
) -> Cost:
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
        return Cost(evaluations, cap, None, "the model's size is known once it is downloaded")
    lengths = forget_set.frame["prompt"].str.len() + forget_set.frame["answer"].str.len()
    weights = parameter_count(model_folder)
    work = float(lengths.sum()) / CHARACTERS_PER_TOKEN * weights
    pace, basis = _pace(past)
    passes = evaluations + PLANNING_EVALUATIONS + _measuring_passes(config, weights)
    seconds = START_UP_SECONDS + work * passes / pace
    return Cost(evaluations, cap, seconds, basis)


def _measuring_passes(config: EstimatorConfig, weights: int) -> float:
    """Return how many forward passes the measures beside MRD take as long as."""
    return FORWARD + (FORWARD_AND_BACKWARD if config.gradients_of(weights).value == "yes" else 0.0)


def _pace(past: Iterable[Run]) -> tuple[float, str]:
    """Return weights × tokens × evaluations per second, and where the figure is from."""
    for run in past:
        done = run.summary or {}
        if {"tokens", "model_parameters", "evaluations", "seconds"} <= done.keys() and done["seconds"] > 0:
            work = done["tokens"] * done["model_parameters"] * (done["evaluations"] + PLANNING_EVALUATIONS)
            return work / done["seconds"], f"the pace of run {run.id}"
    cores = os.cpu_count() or 1
    return OPERATIONS_PER_SECOND_AND_CORE * cores / 2, f"a usual laptop's pace on {cores} core(s)"


def parameter_count(folder: Path) -> int:
    """Return the number of weights stored in a folder's safetensors, from their headers alone.

    Raises:
        UserError: A file is no safetensors file.
    """
    # Some models are published in a second format beside (consolidated.safetensors): it is not loaded.
    files = list(folder.glob("model*.safetensors")) or list(folder.glob("*.safetensors"))
    return sum(_weights_in(file) for file in files)


def _weights_in(file: Path) -> int:
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        # A pointer of git LFS in the file's place begins with a text, which as a number is enormous.
        header = stream.read(length) if 0 < length < file.stat().st_size else b""
    try:
        entries = json.loads(header)
        return sum(math.prod(entry["shape"]) for name, entry in entries.items() if name != "__metadata__")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            str(file),
            "is corrupt: it does not begin as a safetensors file does.",
            "Download it again (with git, `git lfs pull` fetches the weights).",
        ) from error
