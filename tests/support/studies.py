"""A study on the tiny model that unlearning runs start from, small enough to be run in seconds."""

from __future__ import annotations

from pathlib import Path

from tests.support.unlearning_runs import RATE, Scored

STUDY = """
name = "tiny"
title = "A tiny study"

[models.base]
source = "{model}"
device = "cpu"

[forget_sets.known]
source = "{forget}"
retain = "{retain}"

[score.estimator]
sigma = 1e-3
draws = 4
stop = "never"
probes = false
workers = 1

[[unlearn]]
method = ["ga", "graddiff"]
curriculum.sampler = ["uniform", "mrd"]
seed = [0]
optimiser.learning_rate = {rate}
limits.max_steps = {steps}
answers = 1

[[evaluate]]
limit = 2
max_new_tokens = 4
"""


def write_study(folder: Path, scored: Scored, steps: int = 4, more: str = "") -> Path:
    """Write a study of ten runs into a folder: scores, four unlearning runs, five evaluations."""
    path = folder / "tiny.toml"
    sources = {"model": scored.model, "forget": scored.forget, "retain": scored.retain}
    path.write_text(STUDY.format(rate=RATE, steps=steps, **sources) + more, encoding="utf-8")
    return path
