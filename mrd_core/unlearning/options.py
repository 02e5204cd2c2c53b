"""The settings of an unlearning run as options of a command line, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from mrd_core.config import ForgetSetConfig, ModelConfig, help_of
from mrd_core.unlearning.config import (
    CurriculumConfig,
    OptimiserConfig,
    RetainConfig,
    StoppingConfig,
    UnlearnConfig,
)
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.stopping import Checks, Limits


class Option(NamedTuple):
    """An option.

    Attributes:
        name: Without its dashes.
        path: Where its value stands in the configuration.
        help: With the unit.
        kind: `value` for text that the configuration parses, `flag`, or `list` for one that may be repeated.
        flag_value: What a flag sets.
    """

    name: str
    path: tuple[str, ...]
    help: str
    kind: str = "value"
    flag_value: bool = True


def _of(config: type[BaseModel], section: tuple[str, ...], *fields: str, prefix: str = "") -> list[Option]:
    return [
        Option(prefix + field.replace("_", "-"), (*section, field), help_of(config, field)) for field in fields
    ]


def _parameters() -> str:
    """Say which method has which parameters, with their defaults."""
    return "; ".join(
        f"{method.name}: {', '.join(f'{one.name}={one.default}' for one in method.parameters)}"
        for method in METHODS.values()
    )


OPTIONS: tuple[Option, ...] = (
    *_of(ModelConfig, ("model",), "adapter", "device", "template"),
    Option("dtype", ("model", "dtype"), "Precision of the weights; `auto` is float32, which small steps need."),
    Option("method", ("method",), f"{help_of(UnlearnConfig, 'method')} {', '.join(METHODS)}."),
    Option("parameter", ("parameters",), f"NAME=VALUE, may be repeated. {_parameters()}", "list"),
    *_of(UnlearnConfig, (), "refusals", "stratum"),
    *_of(CurriculumConfig, ("curriculum",), "sampler", "column", "recompute_epochs", "recompute_pairs"),
    Option(
        "keep-forgotten",
        ("curriculum", "drop_forgotten"),
        "Leave forgotten samples in the pool, and go on training on them.",
        "flag",
        flag_value=False,
    ),
    Option("retain-set", ("retain", "samples", "source"), help_of(RetainConfig, "samples")),
    *_of(ForgetSetConfig, ("retain", "samples"), "subset", "split", prefix="retain-"),
    *_of(RetainConfig, ("retain",), "weight", "term", prefix="retain-"),
    Option("optimiser", ("optimiser", "name"), help_of(OptimiserConfig, "name")),
    *_of(
        OptimiserConfig,
        ("optimiser",),
        "learning_rate",
        "weight_decay",
        "schedule",
        "max_grad_norm",
        "batch_size",
        "micro_batch",
        "mixed_precision",
    ),
    Option(
        "gradient-checkpointing",
        ("optimiser", "gradient_checkpointing"),
        help_of(OptimiserConfig, "gradient_checkpointing"),
        "flag",
    ),
    *_of(OptimiserConfig, ("optimiser",), "lora_rank", "lora_alpha"),
    Option("threshold-source", ("stopping", "source"), help_of(StoppingConfig, "source")),
    *_of(StoppingConfig, ("stopping",), "accuracy"),
    Option("extraction", ("stopping", "extraction"), help_of(StoppingConfig, "extraction"), "flag"),
    *_of(StoppingConfig, ("stopping",), "extraction_likelihood"),
    Option("held-out", ("stopping", "held_out", "source"), help_of(StoppingConfig, "held_out")),
    *_of(StoppingConfig, ("stopping",), "reference"),
    *_of(Checks, ("stopping", "checks"), "spacing", "overshoot", "interval", prefix="check-"),
    *_of(StoppingConfig, ("stopping",), "probe_steps", "probe_samples"),
    *_of(
        Limits,
        ("limits",),
        "max_steps",
        "max_epochs",
        "max_seconds",
        "max_retain_loss_rise",
        "min_retain_accuracy",
    ),
    *_of(UnlearnConfig, (), "seed", "checkpoint_steps", "answers"),
    Option("report-to", ("report_to",), help_of(UnlearnConfig, "report_to") + " May be repeated.", "list"),
    *_of(UnlearnConfig, (), "study"),
)


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given as the nested settings of a configuration.

    Args:
        given: By name; None, False and empty lists were not given.
    """
    settings: dict[str, Any] = {}
    for option in OPTIONS:
        value = given.get(option.name)
        if value not in (None, False, []):
            _put(settings, option.path, option.flag_value if option.kind == "flag" else value)
    if "parameters" in settings:
        settings["parameters"] = dict(_pair(text) for text in settings["parameters"])
    # A limit of steps stands alone; the default of epochs is for those who set none.
    limits = settings.get("limits", {})
    if not {"max_steps", "max_epochs"} & limits.keys():
        _put(settings, ("limits", "max_epochs"), UnlearnConfig.model_fields["limits"].default.max_epochs)
    return settings


def words(config: UnlearnConfig) -> list[str]:
    """Return the options that say how `config` differs from the defaults."""
    default = UnlearnConfig(score_run=config.score_run, model=config.model)
    found: list[str] = []
    for option in OPTIONS:
        value = _get(config, option.path)
        if value is None or option.path[0] == "model":
            continue
        if value == _get(default, option.path) and not _is_second_limit(config, option):
            continue
        if option.kind == "flag":
            found.append(f"--{option.name}")
        elif isinstance(value, dict):
            found += [word for name, one in value.items() for word in (f"--{option.name}", f"{name}={one}")]
        else:
            values = value if isinstance(value, tuple) else (value,)
            found += [word for one in values for word in (f"--{option.name}", str(one))]
    return found


def _is_second_limit(config: UnlearnConfig, option: Option) -> bool:
    """Tell whether this is the limit of epochs beside one of steps, which needs to be said: see `settings_of`."""
    return option.path == ("limits", "max_epochs") and config.limits.max_steps is not None


def _put(settings: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        settings = settings.setdefault(part, {})
    settings[path[-1]] = value


def _get(config: BaseModel, path: tuple[str, ...]) -> Any:
    value: Any = config
    for part in path:
        value = None if value is None else getattr(value, part)
    return value


def _pair(text: str) -> tuple[str, float | str]:
    name, _, value = text.partition("=")
    return name.strip(), _number_or_text(value.strip())


def _number_or_text(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
