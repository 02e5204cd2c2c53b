"""Asking for an evaluation: its sets are read and kept there and then, with the MRD of the samples.

Loads no torch.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

from mrd_core.errors import UserError
from mrd_core.evaluation import harness
from mrd_core.evaluation.config import EvaluateConfig, SuiteName
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.sets import Suite
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Launcher, Run, RunStore, submit
from mrd_core.runs.directory import read_config
from mrd_core.scoring.files import RunFiles
from mrd_core.settings.installation import Settings
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.files import UnlearningFiles

_LOADERS: dict[SuiteName, str] = {
    "tofu": "mrd_core.evaluation.suites.tofu",
    "wmdp": "mrd_core.evaluation.suites.wmdp",
    "whp": "mrd_core.evaluation.suites.whp",
    "safe": "mrd_core.evaluation.suites.safe",
    "custom": "mrd_core.evaluation.suites.custom",
}


def request(
    config: EvaluateConfig,
    *,
    store: RunStore,
    settings: Settings,
    directory: Path | None = None,
    launcher: Launcher | None = None,
) -> Run:
    """Submit an evaluation, with its own copy of what is asked and of the scores beside it.

    Args:
        config: Of the run; what it leaves open is taken from its unlearning run, see `completed`.
        store: Where the row goes.
        settings: Names the data root.
        directory: The run directory; new or empty.
        launcher: Starts the worker; without one the caller carries the run out itself.

    Raises:
        UserError: A run that it builds on is not finished, a set is missing or no good, or the harness that
            is asked for is not installed.
    """
    whole = completed(config)
    if config.harness_tasks:
        harness.require(config.harness_tasks)
    return submit(
        whole,
        store=store,
        settings=settings,
        directory=directory,
        launcher=launcher,
        prepare=lambda draft: copy_sets(whole, EvaluationFiles(draft)),
    )


def completed(config: EvaluateConfig) -> EvaluateConfig:
    """Return the configuration with the model and the score run of the unlearning run, where there is one.

    Raises:
        UserError: The unlearning run is not finished, or is none.
    """
    if config.unlearn_run is None:
        return config
    unlearned = read_config(config.unlearn_run, UnlearnConfig)
    files = UnlearningFiles(config.unlearn_run)
    if not files.summary.exists() or not files.model.is_dir():
        raise UserError(
            f"The unlearning run in {config.unlearn_run}",
            "has no model: it has not finished, or its model was removed.",
            "Wait for it, resume it, or evaluate another run.",
        )
    changes = {"model": _made(unlearned, files.model, config.model)}
    return config.model_copy(update=changes | {"score_run": config.score_run or unlearned.score_run})


def load_suite(config: EvaluateConfig) -> Suite:
    """Return the sets that an evaluation asks, each within its limit.

    Raises:
        UserError: A set is missing or no good.
    """
    suite: Suite = importlib.import_module(_LOADERS[config.suite]).load(config)
    return Suite(tuple(one.limited(config.limit) for one in suite.sets), suite.notes)


def copy_sets(config: EvaluateConfig, files: EvaluationFiles) -> None:
    """Write the sets, the scores and the account of the unlearning run into the run's directory.

    Raises:
        UserError: As in `request`.
    """
    if config.score_run is not None:
        scored = RunFiles(config.score_run)
        # An unlearning run survives its score run, and then there is no MRD to stand beside.
        if not _is_inherited(config) or scored.summary.exists():
            shutil.copyfile(RunFiles.finished(config.score_run).scores, files.scores)
    if config.unlearn_run is not None:
        unlearned = read_config(config.unlearn_run, UnlearnConfig)
        summary = UnlearningFiles(config.unlearn_run).read_summary()
        content: dict[str, Any] = {"config": unlearned.model_dump(mode="json"), "summary": summary}
        files.write_json(files.unlearned, content)
    suite = load_suite(config)
    require_reference(config, suite)
    suite.save(files)


def _is_inherited(config: EvaluateConfig) -> bool:
    """Return whether the score run is that of the unlearning run, and was not named."""
    if config.unlearn_run is None:
        return False
    return config.score_run == read_config(config.unlearn_run, UnlearnConfig).score_run


def require_reference(config: EvaluateConfig, suite: Suite) -> None:
    """Refuse a reference that nothing can be held against, or that is a path to nowhere, before anything is asked.

    Raises:
        UserError: It is so.
    """
    from mrd_core.model.folders import folder_of, is_path

    if config.reference is None:
        return
    if not any("perturbed_answer" in one.frame for one in suite.of_role("forget")):
        raise UserError(
            f"The reference {config.reference}",
            "cannot be held against this forget set: it has no perturbed answers, and so no truth ratio.",
            "Leave the reference out, or give a forget set with the columns perturbed_answer and "
            "paraphrased_answer (TOFU's forget10_perturbed).",
        )
    files = EvaluationFiles(Path(config.reference).expanduser())
    if files.catalogue.exists():
        EvaluationFiles.finished(files.directory)
    elif is_path(config.reference):
        # A name on the hub is fetched by the run, which takes its time.
        folder_of(config.reference)


def _made(unlearned: UnlearnConfig, model: Path, wished: ModelConfig) -> ModelConfig:
    """Return the model that an unlearning run made, its adapter on the model that it was trained on.

    Raises:
        UserError: That model had an adapter of its own: two cannot be merged.
    """
    wishes = {"device": wished.device, "dtype": wished.dtype, "template": unlearned.model.template}
    if unlearned.optimiser.lora_rank is not None:
        if unlearned.model.adapter is not None:
            raise UserError(
                f"The adapter in {model}",
                f"was trained on a model with another adapter ({unlearned.model.adapter}), and two are not merged "
                "here.",
                "Merge the first into its model, save that, and unlearn from there.",
            )
        return ModelConfig(source=unlearned.model.source, adapter=str(model), **wishes)
    return ModelConfig(source=str(model), **wishes)
