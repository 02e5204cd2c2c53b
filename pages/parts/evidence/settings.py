"""The settings of an experiment as inputs, made from the declarations of its configuration.

Each function shows its inputs and returns what was set as raw values; nothing is judged before all is drawn.
"""

from __future__ import annotations

from mrd_core.errors import UserError
from mrd_core.experiments.config import OPTIMISERS, UnlearningExperimentConfig
from mrd_core.experiments.kinds import experiments
from mrd_core.settings.fields import declared, help_of
from mrd_core.unlearning.methods import METHODS
from pages.parts.evidence.defaults import METHODS_WITH_RETAIN, sizes
from pages.parts.evidence.kinds import presentation
from pages.shell import layout, source
from pages.shell.inputs import Form, Values
from pages.shell.scored import Scored

FORM = Form("evidence")
UNLEARNING = {
    "learning_rate": "Learning rate",
    "weight_decay": "Weight decay",
    "accuracy": "Forgotten below MA",
    "max_updates": "Most updates",
    "lora_rank": "LoRA rank",
}
OWN_SETTINGS = (
    "A method's own settings, such as β, are its defaults here; the command below takes others with "
    "`--parameters NAME=VALUE`."
)


def ask(scored: Scored, kind: str) -> Values:
    """Ask for everything that an experiment can be told."""
    config = experiments()[kind].config
    usual = sizes(scored, kind)
    with layout.grid(f"evidence_sizes_{kind}", columns=4, least="10rem"):
        values = FORM.fields(config, {**presentation(kind).sizes, "seed": "Seed"}, defaults=usual)
    if issubclass(config, UnlearningExperimentConfig):
        # Two methods are chosen at first where they are to be compared.
        methods = declared(config, "methods").default
        if scored.retain and len(methods) > 1:
            methods = METHODS_WITH_RETAIN
        labels = {name: method.label for name, method in METHODS.items()}
        with layout.grid(f"evidence_methods_{kind}", least="20rem"):
            values["methods"] = FORM.several(config, "methods", "Methods", labels, methods, OWN_SETTINGS)
            values["optimisers"] = FORM.several(config, "optimisers", "Optimisers", OPTIMISERS)
        default = "Demo" if scored.is_demo else "None"
        values["retain"] = source.ask(FORM.name, "retain set", help_of(config, "retain"), default)
        with layout.grid(f"evidence_stop_{kind}", columns=5, least="10rem"):
            values |= FORM.fields(config, UNLEARNING)
    return values | presentation(kind).ask(scored, FORM)


def require_choices(values: Values) -> None:
    """Refuse settings of which one at least has to be chosen, and none is.

    Raises:
        UserError: It is so.
    """
    for name in ("methods", "optimisers", "dtypes", "runs", "attacks"):
        if values.get(name) == []:
            raise UserError(f"The {name}", "None is chosen.", "Choose one at least.")
