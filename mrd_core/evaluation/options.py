"""The settings of an evaluation as options of a command line, both ways. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.settings.configuration import help_of
from mrd_core.settings.options import Option, nested, options_of

_OWN_SETS = ("forget", "retain", "held_out")


def _own_set(name: str) -> list[Option]:
    option = f"{name.replace('_', '-')}-set"
    return [
        Option(option, (name, "source"), help_of(EvaluateConfig, name)),
        *options_of(ForgetSetConfig, (name,), "subset", "split", prefix=f"{option}-"),
    ]


def _plain(*fields: str) -> list[Option]:
    return [Option(field.replace("_", "-"), (field,), help_of(EvaluateConfig, field)) for field in fields]


OPTIONS: tuple[Option, ...] = (
    *_plain("suite", "data", "forget_split", "reference", "limit", "max_new_tokens", "k_percent"),
    Option(
        "extraction-likelihood",
        ("extraction_likelihood",),
        help_of(EvaluateConfig, "extraction_likelihood"),
        "flag",
    ),
    Option(
        "harness-tasks",
        ("harness_tasks",),
        f"{help_of(EvaluateConfig, 'harness_tasks')} Several with commas between them.",
        "several",
    ),
    *_plain("toxicity_model", "batch_tokens"),
    *(option for name in _OWN_SETS for option in _own_set(name)),
    *options_of(ModelConfig, ("model",), "adapter", "device", "dtype", "template"),
)


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given as nested settings; see `options.nested`."""
    return nested(OPTIONS, given)


def words(config: EvaluateConfig) -> list[str]:
    """Return the options that say how an evaluation differs from the defaults, its model and runs apart."""
    default = EvaluateConfig.model_construct(suite=config.suite)
    found: list[str] = []
    for option in OPTIONS:
        value = option.value_of(config)
        if option.path[0] == "model" and config.unlearn_run is not None and option.name in ("adapter", "template"):
            # It is that of the unlearning run.
            continue
        if option.path == ("suite",) or (value is not None and value != option.value_of(default)):
            found += option.words(value)
    return found
