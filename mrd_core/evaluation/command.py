"""`mrd-lens evaluate`, read and written."""

from __future__ import annotations

from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.model.config import FORM
from mrd_core.settings.command import Command, Nested

# What an unlearning run says of its model.
OF_MODEL = {"adapter", *FORM}


def base(settings: Nested) -> Nested:
    """Return no model where an unlearning run has none: there is no default."""
    return {} if "unlearn_run" in settings else {"model": {"source": None}}


def check(settings: Nested) -> None:
    """Refuse two models, and none."""
    unlearned, model = settings.get("unlearn_run"), settings.get("model", {})
    if (unlearned is None) == ("source" not in model):
        raise UserError(
            "The evaluation",
            "needs one model.",
            "Name it with --model, or the unlearning run that made it with --unlearned.",
        )
    if unlearned is not None and model.keys() & OF_MODEL:
        raise UserError(
            f"--unlearned {unlearned}",
            "says which model and how its texts are made, and another option does too.",
            "Leave out --adapter, --template, --system, --date and --close-texts, or name the model with --model.",
        )


EVALUATE = Command(("evaluate",), EvaluateConfig, base, check)
