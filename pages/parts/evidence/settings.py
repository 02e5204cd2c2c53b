"""The settings of an experiment as inputs, made from the declarations of its configuration.

Each function shows its inputs and returns what was set as raw values; nothing is judged before all is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mrd_core.errors import UserError
from mrd_core.experiments.config import (
    EXPERIMENTS,
    OPTIMISERS,
    SelectionConfig,
    SensitivityConfig,
    TheoremConfig,
    UnlearningExperimentConfig,
)
from mrd_core.scoring.columns import MRD_TITLES
from mrd_core.settings.fields import help_of
from mrd_core.unlearning.methods import METHODS
from pages.parts.evidence import defaults as evidence_defaults
from pages.shell import layout, source
from pages.shell.inputs import Form
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
FORM = Form("evidence")
OWN_SETTINGS = (
    "A method's own settings, such as β, are its defaults here; the command below takes others with "
    "`--parameters NAME=VALUE`."
)


def ask(scored: Scored, kind: str) -> Values:
    """Ask for everything that an experiment can be told."""
    config = EXPERIMENTS[kind]
    usual = evidence_defaults.sizes(scored, kind)
    with layout.grid(f"evidence_sizes_{kind}", columns=4, least="10rem"):
        values: Values = {
            name: FORM.number(config, name, label, default=usual.get(name)) for name, label in SIZES[kind].items()
        }
        values["seed"] = FORM.number(config, "seed", "Seed")
    if issubclass(config, UnlearningExperimentConfig):
        values |= _unlearning(scored, config)
    elif config is SensitivityConfig:
        values |= _sensitivity()
    else:
        values["sigma"] = FORM.number(TheoremConfig, "sigma", "σ of the noise")
    return values


def require_choices(values: Values) -> None:
    """Refuse settings of which one at least has to be chosen, and none is.

    Raises:
        UserError: It is so.
    """
    for name in ("methods", "optimisers", "dtypes"):
        if values.get(name) == []:
            raise UserError(f"The {name}", "None is chosen.", "Choose one at least.")


def _unlearning(scored: Scored, config: type[UnlearningExperimentConfig]) -> Values:
    # Two methods are chosen at first where they are to be compared.
    methods: Sequence[str] = config.model_fields["methods"].default
    if scored.retain and len(methods) > 1:
        methods = evidence_defaults.METHODS_WITH_RETAIN
    labels = {name: method.label for name, method in METHODS.items()}
    with layout.grid(f"evidence_methods_{config.name}", least="20rem"):
        values: Values = {
            "methods": FORM.several(config, "methods", "Methods", labels, methods, OWN_SETTINGS),
            "optimisers": FORM.several(config, "optimisers", "Optimisers", OPTIMISERS),
        }
    default = "Demo" if scored.is_demo else "None"
    values["retain"] = source.ask(FORM.name, "retain set", help_of(config, "retain"), default)
    with layout.grid(f"evidence_stop_{config.name}", columns=4, least="10rem"):
        values |= {
            "learning_rate": FORM.text(config, "learning_rate", "Learning rate"),
            "weight_decay": FORM.number(config, "weight_decay", "Weight decay"),
            "accuracy": FORM.number(config, "accuracy", "Forgotten below MA"),
            "max_updates": FORM.number(config, "max_updates", "Most updates"),
        }
    if config is SelectionConfig:
        values["column"] = FORM.choice(SelectionConfig, "column", "Balanced by", MRD_TITLES)
    return values


def _sensitivity() -> Values:
    config = SensitivityConfig
    default = ", ".join(f"{sigma:g}" for sigma in config.model_fields["sigmas"].default)
    sigmas = FORM.text(config, "sigmas", "Values of σ", default)
    with layout.grid("evidence_precision", least="20rem"):
        return {
            "sigmas": [part.strip() for part in sigmas.split(",") if part.strip()],
            "dtypes": FORM.several(config, "dtypes", "Precisions"),
            "sigma": FORM.text(config, "sigma", "σ of the study of K"),
        }
