"""The shell command that does what a page is about to do."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import BaseModel

from mrd_core.config import EstimatorConfig, ScoreConfig


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


def _options(
    config: BaseModel, default: BaseModel, *, skip: set[str] | None = None, suffix: str = ""
) -> list[str]:
    words: list[str] = []
    for field in type(config).model_fields:
        value: Any = getattr(config, field)
        if field not in (skip or ()) and value != getattr(default, field):
            words += [f"--{field.replace('_', '-')}{suffix}", str(value)]
    return words
