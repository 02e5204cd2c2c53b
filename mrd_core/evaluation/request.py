"""What an evaluation takes along when it is asked for: its sets, and the MRD of the samples.

Loads no torch.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mrd_core.errors import UserError
from mrd_core.evaluation import harness
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.reference import evaluated_values, evaluation_of, questions_of
from mrd_core.evaluation.sets import Sets
from mrd_core.evaluation.suites import suites
from mrd_core.model.config import FORM, ModelConfig
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import write_json
from mrd_core.runs.kind import Kind, kind_named
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.places import expanded

# Folders of weights in the directory of an unlearning run.
RESULT, BEST = "model", "best"


def prepare(config: EvaluateConfig, draft: Path) -> EvaluateConfig:
    """Write what is asked, and the scores beside it, into the directory of a new run.

    Returns:
        The configuration, with what it left open taken from its unlearning run, see `completed`.

    Raises:
        UserError: A run that it builds on is not finished, a set is missing or no good, or the harness that
            is asked for is not installed.
    """
    whole = completed(config)
    if config.harness_tasks:
        harness.require(config.harness_tasks)
    copy_sets(whole, EvaluationFiles(draft))
    return whole


def completed(config: EvaluateConfig) -> EvaluateConfig:
    """Return the configuration with what its runs say.

    That is the model and the score run of the unlearning run, where there is one, or else the form in which the
    texts were scored, as far as the evaluation asks for none: another day in a template is another prompt.

    Raises:
        UserError: A run that it builds on is not finished, or is none.
    """
    if config.unlearn_run is None:
        if config.score_run is None:
            return config
        scored = read_config(config.score_run, ScoreConfig).model
        form = {name: getattr(scored, name) for name in set(FORM) - config.model.model_fields_set}
        return config.model_copy(update={"model": config.model.model_copy(update=form)})
    unlearning, kind = maker(config.unlearn_run)
    model = kind.model(config.unlearn_run) if kind.model else config.model
    wishes = {"device": config.model.device, "dtype": config.model.dtype}
    score_run = config.score_run or getattr(unlearning, "score_run", None)
    return config.model_copy(update={"model": model.model_copy(update=wishes), "score_run": score_run})


def maker(directory: Path) -> tuple[RunConfig, Kind]:
    """Return the configuration and the kind of the run whose model is evaluated.

    Raises:
        UserError: Such runs make no model.
    """
    config = read_config(directory, RunConfig)
    kind = kind_named(config.kind)
    if kind.model is None:
        raise UserError(
            f"The {kind.files.noun} in {directory}", "makes no model.", "Name the directory of an unlearning run."
        )
    return config, kind


def load_sets(config: EvaluateConfig) -> Sets:
    """Return the sets that an evaluation asks, each within its limit.

    Raises:
        UserError: A set is missing or no good.
    """
    whole = suites()[config.suite].load(config)
    asked = Sets(tuple(each.limited(config.limit) for each in whole.sets), whole.notes)
    return Sets(asked.sets, (*whole.notes, *asked.overlaps()))


def copy_sets(config: EvaluateConfig, files: EvaluationFiles) -> None:
    """Write the sets, the scores and the account of the unlearning run into the run's directory.

    Raises:
        UserError: A set is missing or no good, or the score run is not finished or named and a preview.
    """
    inherited = None
    if config.unlearn_run is not None:
        unlearning, kind = maker(config.unlearn_run)
        inherited = getattr(unlearning, "score_run", None)
        summary = kind.files(config.unlearn_run).read_summary()
        write_json(files.unlearned, {"config": unlearning.model_dump(mode="json"), "summary": summary})
    elif (account := _account_of(config.model)) is not None:
        write_json(files.unlearned, account)
    scored = config.score_run
    # An unlearning run survives its score run, and then there is no MRD to stand beside; a preview has none.
    if scored is not None and (scored != inherited or ScoreFiles(scored).summary.exists()):
        own = ScoreFiles.finished(scored) if scored == inherited else ScoreFiles.with_mrd(scored)
        if not own.read_figures().preview:
            shutil.copyfile(own.scores, files.scores)
    sets = load_sets(config)
    require_reference(config, sets)
    sets.save(files)


def _account_of(model: ModelConfig) -> dict[str, Any] | None:
    """Return settings and summary of the unlearning run in whose directory a model lies; None of another model.

    Of the best weights on the way the summary says nothing but what they are called.
    """
    folder = expanded(model.adapter[-1] if model.adapter else model.source).resolve()
    if folder.name not in (RESULT, BEST) or not folder.is_dir():
        return None
    try:
        config, kind = maker(folder.parent)
        summary = kind.files(folder.parent).read_summary()
    except (UserError, OSError, ValueError):
        return None
    if folder.name == BEST:
        summary = {"label": f"{summary['label']}, best step", "seed": summary["seed"]}
    return {"config": config.model_dump(mode="json"), "summary": summary}


def require_reference(config: EvaluateConfig, sets: Sets) -> None:
    """Refuse a reference that does not fit the set, or that is a path to nowhere, before anything is asked.

    Raises:
        UserError: It is so.
    """
    from mrd_core.model.location import is_path, location_of

    if config.reference is None:
        return
    asked = questions_of(config, sets)
    if directory := evaluation_of(config.reference):
        evaluated_values(directory, asked)
    elif is_path(config.reference):
        # A name on the hub is fetched by the run, which takes its time.
        location_of(config.reference)
