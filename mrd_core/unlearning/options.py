"""The settings of an unlearning run as options of a command line, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrd_core.model.config import ModelConfig
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.settings.configuration import help_of
from mrd_core.settings.options import Option, nested, options_of, pairs, put
from mrd_core.unlearning.config import (
    CurriculumConfig,
    EvaluationDuringConfig,
    OptimiserConfig,
    RetainConfig,
    StoppingConfig,
    UnlearnConfig,
)
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.stopping import Checks, Limits


def _parameters() -> str:
    """Say which method has which parameters, with their defaults."""
    return "; ".join(
        f"{method.name}: {', '.join(f'{one.name}={one.default}' for one in method.parameters)}"
        for method in METHODS.values()
    )


OPTIONS: tuple[Option, ...] = (
    *options_of(ModelConfig, ("model",), "adapter", "device", "template"),
    Option("dtype", ("model", "dtype"), "Precision of the weights; `auto` is float32, which small steps need."),
    Option("method", ("method",), f"{help_of(UnlearnConfig, 'method')} {', '.join(METHODS)}."),
    Option("parameter", ("parameters",), f"NAME=VALUE, may be repeated. {_parameters()}", "list"),
    *options_of(UnlearnConfig, (), "refusals", "stratum"),
    *options_of(CurriculumConfig, ("curriculum",), "sampler", "column", "recompute_epochs", "recompute_pairs"),
    Option(
        "keep-forgotten",
        ("curriculum", "drop_forgotten"),
        "Leave forgotten samples in the pool, and go on training on them.",
        "flag",
        flag_value=False,
    ),
    Option("retain-set", ("retain", "samples", "source"), help_of(RetainConfig, "samples")),
    *options_of(ForgetSetConfig, ("retain", "samples"), "subset", "split", prefix="retain-"),
    *options_of(RetainConfig, ("retain",), "weight", "term", prefix="retain-"),
    Option("optimiser", ("optimiser", "name"), help_of(OptimiserConfig, "name")),
    *options_of(
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
    *options_of(OptimiserConfig, ("optimiser",), "lora_rank", "lora_alpha"),
    Option("threshold-source", ("stopping", "source"), help_of(StoppingConfig, "source")),
    *options_of(StoppingConfig, ("stopping",), "accuracy"),
    Option("extraction", ("stopping", "extraction"), help_of(StoppingConfig, "extraction"), "flag"),
    *options_of(StoppingConfig, ("stopping",), "extraction_likelihood"),
    Option("held-out", ("stopping", "held_out", "source"), help_of(StoppingConfig, "held_out")),
    *options_of(StoppingConfig, ("stopping",), "reference"),
    *options_of(Checks, ("stopping", "checks"), "spacing", "overshoot", "interval", prefix="check-"),
    *options_of(StoppingConfig, ("stopping",), "probe_steps", "probe_samples"),
    Option("evaluate-every", ("evaluation", "every_steps"), help_of(EvaluationDuringConfig, "every_steps")),
    Option("evaluate-samples", ("evaluation", "samples"), help_of(EvaluationDuringConfig, "samples")),
    Option("evaluate-tokens", ("evaluation", "max_new_tokens"), help_of(EvaluationDuringConfig, "max_new_tokens")),
    *options_of(
        Limits,
        ("limits",),
        "max_steps",
        "max_epochs",
        "max_seconds",
        "max_retain_loss_rise",
        "min_retain_accuracy",
    ),
    *options_of(UnlearnConfig, (), "seed", "checkpoint_steps", "answers"),
    Option("report-to", ("report_to",), help_of(UnlearnConfig, "report_to") + " May be repeated.", "list"),
    *options_of(UnlearnConfig, (), "study"),
)


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given as the nested settings of a configuration.

    Args:
        given: By name; None, False and empty lists were not given.
    """
    settings = nested(OPTIONS, given)
    if "parameters" in settings:
        settings["parameters"] = pairs(settings["parameters"])
    # A limit of steps stands alone; the default of epochs is for those who set none.
    limits = settings.get("limits", {})
    if not {"max_steps", "max_epochs"} & limits.keys():
        put(settings, ("limits", "max_epochs"), UnlearnConfig.model_fields["limits"].default.max_epochs)
    return settings


def words(config: UnlearnConfig) -> list[str]:
    """Return the options that say how `config` differs from the defaults."""
    default = UnlearnConfig(score_run=config.score_run, model=config.model)
    found: list[str] = []
    for option in OPTIONS:
        value = option.value_of(config)
        if value is None or option.path[0] == "model":
            continue
        if value != option.value_of(default) or _is_second_limit(config, option):
            found += option.words(value)
    return found


def _is_second_limit(config: UnlearnConfig, option: Option) -> bool:
    """Tell whether this is the limit of epochs beside one of steps, which needs to be said: see `settings_of`."""
    return option.path == ("limits", "max_epochs") and config.limits.max_steps is not None
