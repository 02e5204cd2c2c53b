"""Unlearning runs, as the rest of the program sees them. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from mrd_core.model.config import ModelConfig
from mrd_core.runs.directory import read_config
from mrd_core.runs.kind import Description, Kind, Summary
from mrd_core.runs.subject import subject_in
from mrd_core.unlearning.command import on_scores
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.cost import estimate
from mrd_core.unlearning.damage import in_words, rest
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.records import UnlearningSummary
from mrd_core.unlearning.request import copy_samples


def prepare(config: UnlearnConfig, draft: Path) -> UnlearnConfig:
    """Copy the samples and their weights from the score run, so that the run survives it.

    Raises:
        UserError: The score run is not finished, or the sampler, the stratum or the retain set is no good.
    """
    copy_samples(config, UnlearningFiles(draft))
    return config


def model_of(directory: Path) -> ModelConfig:
    """Return the model that a finished run made, its adapter on the model that it was trained on.

    Raises:
        UserError: It has not finished.
    """
    config, folder = read_config(directory, UnlearnConfig), UnlearningFiles.finished(directory).model
    if config.optimiser.lora_rank is None:
        return config.model.with_source(str(folder))
    return config.model.with_source(config.model.source, (*config.model.adapter, str(folder)))


def title(config: UnlearnConfig) -> str:
    """Return what is made of which samples: `GA + MRD, seed 0 on forget.jsonl`."""
    samples = subject_in(config.score_run)["forget_set"]
    return f"{config.name} on {samples}" if samples else config.name


def headline(summary: Summary) -> str:
    """Return how many samples were forgotten in how many updates, and what became of the retain set."""
    figures = UnlearningSummary.model_validate(summary)
    kept = f"retain set {rest(figures)}"
    return f"{figures.forgotten} of {figures.n_samples} forgotten, {figures.updates} updates, {kept}"


def describe(directory: Path, summary: Summary) -> Description:
    """Return what was forgotten at what price, what was kept, and where the model lies."""
    figures = UnlearningSummary.model_validate(summary)
    lines = [
        f"{figures.label}: {figures.forgotten} of {figures.n_samples} samples found forgotten in "
        f"{figures.updates} updates ({figures.steps} steps, {figures.seconds:.0f} s); it ended with "
        f"{figures.stop_reason}, {figures.forgotten_at_end} forgotten on the final weights."
    ]
    for name in ("forget", "retain"):
        accuracy, nll = f"{name}_accuracy", f"{name}_nll"
        if figures.measure(nll) is not None:
            lines.append(
                f"{name}: MA {figures.measure(accuracy, before=True):.3f} → {figures.measure(accuracy):.3f}, NLL "
                f"{figures.measure(nll, before=True):.3f} → {figures.measure(nll):.3f} nats per answer token"
            )
    files = UnlearningFiles(directory)
    best = [f"{figures.best.sentence} It is in {files.best}"] if figures.best else []
    return Description((*lines, in_words(figures), *best, f"Model: {files.model}"))


UNLEARN = Kind(
    name="unlearn",
    label="Unlearning run",
    config=UnlearnConfig,
    job="mrd_core.unlearning.job:unlearn_job",
    files=UnlearningFiles,
    counted="updates",
    headline=headline,
    describe=describe,
    cost=estimate,
    prepare=prepare,
    title=title,
    on_scores=on_scores,
    model=model_of,
)
