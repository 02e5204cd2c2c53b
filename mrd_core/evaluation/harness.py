"""Tasks of lm-evaluation-harness (Gao et al. 2024), which is installed apart.

Besides its own tasks, such as `piqa` or `mmlu`, it runs those that the data folder describes in YAML:

    task: my_questions
    dataset_path: json
    dataset_kwargs: {data_files: {test: my_questions.jsonl}}
    test_split: test
    output_type: multiple_choice
    doc_to_text: "{{question}}\\nAnswer:"
    doc_to_choice: "{{choices}}"
    doc_to_target: answer
    metric_list: [{metric: acc}]

File names there are relative to the folder of the YAML file. The harness fetches the data of its own tasks from
the hub, and keeps what it has read in the cache of `datasets`. A YAML file that names a function (`!function`) is
refused: no code that comes with data is run. Loads no torch before a task is run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrd_core.errors import UserError
from mrd_core.folders import brief

if TYPE_CHECKING:
    from mrd_core.evaluation.subject import Subject

# Questions of zero-shot tasks are seldom longer [tokens]; where they are, batches are halved until they fit.
_USUAL_LENGTH = 256
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError)


def available() -> str | None:
    """Return the version of the harness, or None where it is not installed."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return None


def require(tasks: Sequence[str]) -> None:
    """Refuse tasks where there is no harness to run them.

    Raises:
        UserError: It is not installed; names the tasks.
    """
    if available() is None:
        raise UserError(
            f"The harness tasks {', '.join(tasks)}",
            "need lm-evaluation-harness, which is not installed.",
            "Install it (`pip install lm-eval`; requirements-harness.txt names the version), or ask for no tasks.",
        )


def run_tasks(
    subject: Subject, tasks: Sequence[str], data: str | Path | None = None, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Run tasks of the harness on a loaded model, without a chat template.

    Args:
        subject: The model.
        tasks: Names of tasks, groups or tags.
        data: Folder with YAML files of further tasks; anything else has none.
        limit: Most questions of a task, the first ones; by default all.

    Returns:
        By task (and group), the value of each metric; a metric with a filter is called `metric (filter)`.

    Raises:
        UserError: The harness is not installed, a task is unknown or has code of its own, or its data cannot be
            read.
    """
    from mrd_core.memorization import evaluating, within_memory

    require(tasks)
    manager = _manager(Path(data).expanduser() if data is not None else None, tasks)
    found = _found(manager, tasks)
    with evaluating(subject.model.network):
        raw = within_memory(
            lambda size: _evaluated(subject, manager, found, limit, size),
            max(1, subject.batch_tokens // _USUAL_LENGTH),
        )
    wanted = {name for one in found for name in _names(one)}
    return {name: metrics(values) for name, values in raw.items() if name in wanted}


def metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics among what the harness reports of a task: {"acc,none": 0.5, …} becomes {"acc": 0.5}."""
    found = {}
    for key, value in values.items():
        name, _, filtered = key.partition(",")
        if filtered and isinstance(value, int | float) and not name.endswith("_stderr"):
            found[name if filtered == "none" else f"{name} ({filtered})"] = float(value)
    return found


def _manager(folder: Path | None, tasks: Sequence[str]) -> Any:
    """Return what knows these tasks; those of `folder` are read without running what they name."""
    from lm_eval.tasks import TaskManager

    # Those that are included may be called `_template_yaml`.
    files = sorted(folder.rglob("*yaml")) if folder is not None and folder.is_dir() else []
    for path in files:
        _require_no_code(path)
    place = str(folder) if files else None
    manager = TaskManager(include_path=place, include_defaults=False)
    if not set(tasks) <= set(manager.all_subtasks):
        for name, entry in _shipped().items():
            manager.task_index.setdefault(name, entry)
    _read_without_code(manager, files)
    return manager


@cache
def _shipped() -> Mapping[str, Any]:
    """Return the thousands of tasks that the harness brings; it takes half a minute to read them."""
    from lm_eval.tasks import TaskManager

    return dict(TaskManager().task_index)


def _read_without_code(manager: Any, files: Sequence[Path]) -> None:
    """Let the tasks in these files be what was read of them, with their data files found."""
    own = {path.resolve() for path in files}
    for entry in manager.task_index.values():
        if entry.yaml_path is not None and entry.yaml_path.resolve() in own:
            # With a configuration and no path, the harness does not read the file again.
            entry.cfg, entry.yaml_path = _located(entry.cfg, entry.yaml_path.parent), None


def _require_no_code(path: Path) -> None:
    if "!function" in path.read_text(encoding="utf-8", errors="replace"):
        raise UserError(
            f"The task in {path}",
            "names a function (`!function`), and no code that comes with data is run.",
            "Write it with templates alone, or remove the file from the data folder.",
        )


def _located(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration of a task with its data files relative to `folder`."""
    options = dict(config.get("dataset_kwargs") or {})
    if "data_files" in options:
        options["data_files"] = _absolute(options["data_files"], folder.resolve())
    return {**config, "dataset_kwargs": options} if options else dict(config)


def _absolute(files: Any, folder: Path) -> Any:
    if isinstance(files, Mapping):
        return {split: _absolute(one, folder) for split, one in files.items()}
    if isinstance(files, list):
        return [_absolute(one, folder) for one in files]
    return files if "://" in str(files) else str(folder / files)


def _found(manager: Any, tasks: Sequence[str]) -> list[Any]:
    """Return the tasks and groups of these names, with their data."""
    found = [one for name in dict.fromkeys(tasks) for one in _loaded(manager, name)]
    try:
        manager.load(found)
    except ValueError as error:
        raise UserError(
            f"The tasks {', '.join(tasks)}", f"overlap: {brief(error)}", "Ask for the group, or for its parts."
        ) from error
    return found


def _loaded(manager: Any, name: str) -> list[Any]:
    if name not in manager.task_index:
        raise UserError(
            f"The task '{name}'",
            "is not known to lm-evaluation-harness, and no YAML file in the data folder describes it.",
            "Check the name (`lm-eval ls tasks` shows all), or put its YAML file into the data folder.",
        )
    from datasets.exceptions import DatasetsError

    try:
        loaded = manager.load([name])
    except (*_UNREADABLE, DatasetsError) as error:
        raise UserError(
            f"The task '{name}'",
            f"could not be set up by lm-evaluation-harness: {brief(error)}",
            "Check its YAML file and its data; tasks of the harness fetch theirs from the hub.",
        ) from error
    # A group is asked as one; a tag stands for its tasks.
    return [loaded["groups"][name]] if name in loaded["groups"] else list(loaded["tasks"].values())


def _evaluated(
    subject: Subject, manager: Any, found: Sequence[Any], limit: int | None, batch_size: int
) -> dict[str, dict[str, Any]]:
    from lm_eval import simple_evaluate

    results = simple_evaluate(
        model=_language_model(subject, batch_size),
        tasks=list(found),
        task_manager=manager,
        limit=limit,
        bootstrap_iters=0,
        log_samples=False,
        # The generators of this process are not the harness's to set; questions are in order, answers greedy.
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    return dict(results["results"])


def _language_model(subject: Subject, batch_size: int) -> Any:
    """Return the model as the harness knows it, with a look at cancellation before each batch."""
    import torch
    from lm_eval.models.huggingface import HFLM

    class Watched(HFLM):  # type: ignore[misc]  # the harness has no types
        def _model_call(self, *args: Any, **named: Any) -> Any:
            subject.before_batch()
            return super()._model_call(*args, **named)

        def _model_generate(self, *args: Any, **named: Any) -> Any:
            subject.before_batch()
            return super()._model_generate(*args, **named)

    model = subject.model
    return Watched(
        pretrained=model.network,
        backend="causal",
        # It is given a padding token where it has none.
        tokenizer=copy.deepcopy(model.tokenizer),
        max_length=model.context,
        batch_size=batch_size,
        # Log-probabilities of bf16 would be rounded by up to 0.06.
        softmax_dtype=torch.float32,
    )


def _names(one: Any) -> list[str]:
    """Return what the harness calls a task, or a group with its tasks, in its results."""
    from lm_eval.api.group import Group

    if not isinstance(one, Group):
        return [one.task_name]
    return [one.name] if one.aggregate_metric_list else [task.task_name for task in one.get_all_tasks()]
