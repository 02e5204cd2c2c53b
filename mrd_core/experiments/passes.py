"""Forward passes that unlearning takes in an experiment, before it is carried out. Loads no torch."""

from __future__ import annotations

from mrd_core.experiments.config import UnlearningExperimentConfig

# Learning rates are searched until unlearning takes about so many updates.
USUAL_UPDATES = 30
# A search of a learning rate: tries, and unlearnings of each.
TRIES, TRIED_ALONE, TRIED_TOGETHER = 3, 5, 2
# Retain samples that the Fisher information is taken over.
FISHER_SAMPLES = 64
# A forward and a backward pass.
UPDATE = 3.0
# Passes over one text of a small model are mostly overhead; those of a score run are over full batches, in as many
# processes as the machine has room for.
ALONE = 4.0
# A large model has no such overhead [s a pass]: what is left is that an experiment is one process.
OVERHEAD, ONE_PROCESS = 0.015, 1.5


def alone(seconds: float) -> float:
    """Return how many passes of a score run, of so many seconds each, a pass over one text takes as long as."""
    return min(ALONE, ONE_PROCESS + OVERHEAD / seconds)


def unlearning_passes(config: UnlearningExperimentConfig, method: str) -> float:
    """Return the passes of unlearning one sample with a method, twice as many where retain samples take part."""
    return updates(config) * UPDATE * (2 if config.retain_weight(method) else 1)


def updates(config: UnlearningExperimentConfig) -> int:
    """Return how many updates unlearning usually takes."""
    return min(USUAL_UPDATES, config.max_updates)


def searched(config: UnlearningExperimentConfig, tried: int) -> int:
    """Return how many unlearnings the search of a learning rate takes; `tried` at each rate."""
    return TRIES * tried if config.learning_rate == "auto" else 0
