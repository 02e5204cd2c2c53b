"""The settings of experiments as options of a command line, both ways. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from mrd_core.experiments.config import EXPERIMENTS, ExperimentConfig
from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig
from mrd_core.settings.configuration import help_of
from mrd_core.settings.options import Option, nested, options_of

_MODEL = options_of(ModelConfig, ("model",), "adapter", "device", "dtype", "template")
_FORGET_SET = [
    *options_of(ForgetSetConfig, ("forget_set",), "layout", "subset", "split", "duplicates", "invalid_rows"),
    *(
        Option(f"{part.replace('_', '-')}-column", ("forget_set", "columns", part), help_of(ColumnMapping, part))
        for part in ColumnMapping.model_fields
    ),
]
# These have options of their own, or are no options.
_APART = ExperimentConfig.model_fields.keys() - {"seed"} | {"kind", "retain"}


def _options(config: type[ExperimentConfig]) -> tuple[Option, ...]:
    options = [_option(config, field) for field in config.model_fields if field not in _APART]
    if "retain" in config.model_fields:
        options.append(Option("retain-set", ("retain", "source"), help_of(config, "retain")))
        options += options_of(ForgetSetConfig, ("retain",), "subset", "split", prefix="retain-")
    return (*options, *_MODEL, *_FORGET_SET)


def _option(config: type[ExperimentConfig], field: str) -> Option:
    info = config.model_fields[field]
    several = get_origin(info.annotation) in (tuple, dict)
    form = "NAME=VALUE" if field == "parameters" else "values"
    text = help_of(config, field)
    return Option(
        field.replace("_", "-"),
        (field,),
        f"{text} Several {form} with commas between them; by default {_shown(info.default)}."
        if several
        else f"{text} By default {_shown(info.default)}.",
        "several" if several else "value",
    )


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in default)
    return str(default) if default != {} else "those of the methods"


OPTIONS: Mapping[str, tuple[Option, ...]] = {name: _options(config) for name, config in EXPERIMENTS.items()}


def settings_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given to an experiment as nested settings; see `options.nested`."""
    return nested(OPTIONS[name], given)


def words(config: ExperimentConfig) -> list[str]:
    """Return the options that say how an experiment on a score run differs from the defaults."""
    default = type(config)(
        score_run=config.score_run, forget_set=config.forget_set, model=config.model, **_needed(config)
    )
    words: list[str] = []
    for option in OPTIONS[config.name]:
        value = option.value_of(config)
        if option.path[0] in ("model", "forget_set") or value is None:
            continue
        if value != option.value_of(default) or option.path[0] in _needed(config):
            words += option.words(value)
    return words


def _needed(config: ExperimentConfig) -> dict[str, Any]:
    """Return the retain set: it is said in full, and by default there is none."""
    return {"retain": retain} if (retain := getattr(config, "retain", None)) else {}
