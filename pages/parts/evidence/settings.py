"""The settings of an experiment as inputs, made from the declarations of its configuration.

Each function shows its inputs and returns what was set as raw values; nothing is judged before all is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from mrd_core.errors import UserError
from mrd_core.experiments.config import (
    EXPERIMENTS,
    OPTIMISERS,
    ExperimentConfig,
    SelectionConfig,
    SensitivityConfig,
    TheoremConfig,
    UnlearningExperimentConfig,
)
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.columns import MRD_TITLES
from mrd_core.settings.fields import help_of
from mrd_core.unlearning.methods import METHODS
from pages.parts.evidence import defaults as evidence_defaults
from pages.shell import layout as unlearn_layout
from pages.shell import source as unlearn_source
from pages.shell.inputs import key_of, number, text
from pages.shell.scored import Scored

Values = dict[str, Any]
# What makes an experiment large or small.
SIZES: Mapping[str, Mapping[str, str]] = {
    "validity": {"samples": "Samples", "repeats": "Repeats"},
    "parameter-change": {"composites": "Composites", "size": "Samples of each"},
    "selection": {"selections": "Selections of a kind", "size": "Samples of a group"},
    "sensitivity": {"samples": "Samples", "pairs": "Pairs at each σ", "draws": "Evaluations for K"},
    "theorem": {"samples": "Samples", "probes": "Probes of a sample", "pairs": "Pairs of a sample"},
}
DTYPES = ("float32", "bfloat16")
OWN_SETTINGS = (
    "A method's own settings, such as β, are its defaults here; the command below takes others with "
    "`--parameters NAME=VALUE`."
)


def ask(of: Scored, kind: str) -> Values:
    """Ask for everything that an experiment can be told."""
    config = EXPERIMENTS[kind]
    usual = evidence_defaults.sizes(of, kind)
    with unlearn_layout.grid(f"evidence_sizes_{kind}", columns=4, least="10rem"):
        values: Values = {
            name: number(config, name, label, default=usual.get(name)) for name, label in SIZES[kind].items()
        }
        values["seed"] = number(config, "seed", "Seed")
    if issubclass(config, UnlearningExperimentConfig):
        values |= _unlearning(of, config)
    elif config is SensitivityConfig:
        values |= _sensitivity()
    else:
        values["sigma"] = number(TheoremConfig, "sigma", "σ of the noise")
    return values


def require_choices(values: Values) -> None:
    """Refuse settings of which one at least has to be chosen, and none is.

    Raises:
        UserError: It is so.
    """
    for name in ("methods", "optimisers", "dtypes"):
        if values.get(name) == []:
            raise UserError(f"The {name}", "None is chosen.", "Choose one at least.")


def _unlearning(of: Scored, config: type[ExperimentConfig]) -> Values:
    with unlearn_layout.grid(f"evidence_methods_{config.name}", least="20rem"):
        values: Values = {
            "methods": _several(config, "methods", "Methods", _methods(of, config), _labels(), OWN_SETTINGS),
            "optimisers": _several(config, "optimisers", "Optimisers", ["adamw"], OPTIMISERS),
        }
    values["retain"] = unlearn_source.ask(
        "retain set", help_of(config, "retain"), "Demo" if of.is_demo else "None"
    )
    with unlearn_layout.grid(f"evidence_stop_{config.name}", columns=4, least="10rem"):
        values |= {
            "learning_rate": text(config, "learning_rate", "Learning rate", "auto"),
            "weight_decay": number(config, "weight_decay", "Weight decay"),
            "accuracy": number(config, "accuracy", "Forgotten below MA"),
            "max_updates": number(config, "max_updates", "Most updates"),
        }
    if config is SelectionConfig:
        values["column"] = st.selectbox(
            "Balanced by",
            list(MRD_TITLES),
            format_func=MRD_TITLES.__getitem__,
            key=key_of(SelectionConfig, "column"),
            help=help_of(SelectionConfig, "column"),
            persist_state="session",
        )
    return values


def _methods(of: Scored, config: type[ExperimentConfig]) -> Sequence[str]:
    """Return the methods that are chosen at first: two where they are to be compared."""
    declared: Sequence[str] = config.model_fields["methods"].default
    two = evidence_defaults.METHODS_WITH_RETAIN
    return two if of.retain and len(declared) > 1 else declared


def _labels() -> dict[str, str]:
    return {name: method.label for name, method in METHODS.items()}


def _sensitivity() -> Values:
    default = ", ".join(f"{sigma:g}" for sigma in SensitivityConfig.model_fields["sigmas"].default)
    sigmas = text(SensitivityConfig, "sigmas", "Values of σ", default)
    with unlearn_layout.grid("evidence_precision", least="20rem"):
        return {
            "sigmas": [part.strip() for part in sigmas.split(",") if part.strip()],
            "dtypes": _several(SensitivityConfig, "dtypes", "Precisions", DTYPES, {name: name for name in DTYPES}),
            "sigma": text(SensitivityConfig, "sigma", "σ of the study of K", "auto"),
        }


def _several(
    config: type[ExperimentConfig],
    field: str,
    label: str,
    default: Sequence[str],
    options: Mapping[Any, str],
    more: str = "",
) -> list[str]:
    """Ask for several of the options; `more` stands behind the declared help."""
    return st.multiselect(
        label,
        list(options),
        default=list(default),
        format_func=options.__getitem__,
        key=key_of(config, field),
        help=f"{help_of(config, field)} {more}".strip(),
        persist_state="session",
    )


def retain_config(values: Values) -> ForgetSetConfig | None:
    """Return the retain set that was named.

    Raises:
        UserError: It is not named, or no allowed root holds the path.
    """
    source: unlearn_source.Source = values["retain"]
    return source.config()
