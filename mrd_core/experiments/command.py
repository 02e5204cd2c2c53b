"""`mrd-lens experiment NAME`, read and written."""

from __future__ import annotations

from collections.abc import Mapping

from mrd_core.errors import UserError
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.experiments.kinds import experiments
from mrd_core.runs.directory import read_config
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.command import Command, Nested


def base(settings: Nested) -> Nested:
    """Return where samples and model are from: the score run, or nowhere yet."""
    if "score_run" not in settings:
        return {"model": {"source": None}}
    scored = read_config(settings["score_run"], ScoreConfig)
    return scored.model_dump(include={"model", "forget_set", "estimator"})


def check(settings: Nested) -> None:
    """Refuse samples and a model of two sources, and of none."""
    model, forget_set = settings.get("model", {}), settings.get("forget_set", {})
    if "score_run" not in settings:
        if "source" not in model or "source" not in forget_set:
            raise UserError(
                "The experiment",
                "needs a model and a forget set.",
                "Name both with --model and --forget-set, or a score run with --scores.",
            )
    elif forget_set or model.keys() - {"device", "dtype"}:
        raise UserError(
            f"--scores {settings['score_run']}",
            "says which model and which forget set, and another option does too.",
            "Leave out --scores, or what else is said of them; --device and --dtype may differ.",
        )


COMMANDS: Mapping[str, Command[ExperimentConfig]] = {
    name: Command(("experiment", name), experiment.config, experiment.base or base, experiment.check or check)
    for name, experiment in experiments().items()
}
