"""The shell command that does what a page is about to do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence, Set
from typing import Any

from pydantic import BaseModel

from analysis.characteristics.config import CharacteristicsConfig
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.options import words as evaluation_options
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.options import words as experiment_options
from mrd_core.model.config import ModelConfig
from mrd_core.scoring.config import EstimatorConfig, ScoreConfig
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.options import words as options_of

# What `--corpus` says where no training corpus is wanted; left out, the option means the default of the model.
NO_CORPUS = "none"


def score_command(config: ScoreConfig) -> str:
    """Return `python -m mrd_core score …` with every setting that is not a default."""
    estimator = config.estimator
    presets = {"paper": EstimatorConfig.paper(), "recommended": EstimatorConfig.recommended()}
    words = ["python", "-m", "mrd_core", "score"]
    words += ["--model", config.model.source, "--forget-set", config.forget_set.source]
    words += ["--preset", estimator.preset] if estimator.preset != "recommended" else []
    words += _options(estimator, presets[estimator.preset], skip={"preset", "time_floor"})
    words += _options(config.model, type(config.model)(), skip={"source"})
    plain = type(config.forget_set)(source="")
    words += _options(config.forget_set, plain, skip={"source", "columns"})
    words += _options(config.forget_set.columns, plain.columns, suffix="-column")
    return shlex.join(words)


def characteristics_command(config: CharacteristicsConfig, choices: Mapping[str, Sequence[str]]) -> str:
    """Return `python -m analysis characteristics …` with every setting that is not a default.

    Args:
        config: The reading.
        choices: Values of further options, such as `threshold`.
    """
    words = ["python", "-m", "analysis", "characteristics", str(config.score_run)]
    words += ["--corpus", config.corpus.source if config.corpus else NO_CORPUS]
    if config.corpus:
        words += _options(
            config.corpus, type(config.corpus)(source=""), only={"subset", "split"}, prefix="corpus-"
        )
    words += _options(config.reading, type(config.reading)())
    words += [word for name, values in choices.items() for value in values for word in (f"--{name}", value)]
    return shlex.join(words)


def unlearn_command(config: UnlearnConfig, scored: ModelConfig) -> str:
    """Return `python -m mrd_core unlearn …` with every setting that is not a default.

    Args:
        config: Of the run.
        scored: The model of the score run, which needs no mention.
    """
    command = ["python", "-m", "mrd_core", "unlearn", "--scores", str(config.score_run)]
    command += ["--model", config.model.source] if config.model.source != scored.source else []
    command += _options(config.model, scored, skip={"source"})
    return shlex.join(command + options_of(config))


def experiment_command(config: ExperimentConfig) -> str:
    """Return `python -m mrd_core experiment …` on a score run, with every setting that is not a default."""
    words = ["python", "-m", "mrd_core", "experiment", config.name, "--scores", str(config.score_run)]
    return shlex.join(words + experiment_options(config))


def evaluate_command(config: EvaluateConfig) -> str:
    """Return `python -m mrd_core evaluate …` with every setting that is not a default."""
    words = ["python", "-m", "mrd_core", "evaluate"]
    if config.unlearn_run is not None:
        words += ["--unlearned", str(config.unlearn_run)]
    else:
        words += ["--model", config.model.source]
    words += ["--scores", str(config.score_run)] if config.score_run is not None else []
    return shlex.join(words + evaluation_options(config))


def _options(
    config: BaseModel,
    default: BaseModel,
    *,
    skip: Set[str] = frozenset(),
    only: Set[str] | None = None,
    prefix: str = "",
    suffix: str = "",
) -> list[str]:
    words: list[str] = []
    for field in type(config).model_fields:
        value: Any = getattr(config, field)
        wanted = field not in skip and (only is None or field in only)
        if wanted and value is not None and value != getattr(default, field):
            words += [f"--{prefix}{field.replace('_', '-')}{suffix}", str(value)]
    return words
