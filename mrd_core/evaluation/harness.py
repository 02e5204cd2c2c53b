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
the hub, and keeps what it has read in the cache of `datasets`. No code that comes with data is run, see
`harness_tasks`. Loads no torch before a task is run.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from mrd_core.errors import UserError
from mrd_core.model.location import brief
from mrd_core.settings.places import expanded

if TYPE_CHECKING:
    from mrd_core.evaluation.subject import Subject

# Questions of zero-shot tasks are seldom longer [tokens]; where they are, batches are halved until they fit.
_USUAL_LENGTH = 256
# What the harness raises over the data or the templates of a task.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    ImportError,
    AttributeError,
    SyntaxError,
    TemplateError,
)


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
        By task (and group), the value of each metric; a metric with a filter is called `metric (filter)`. NaN
        where the model has broken down.

    Raises:
        UserError: The harness is not installed, a task is unknown or has code of its own, its data cannot be read,
            or a value of it leaves the range of numbers.
    """
    require(tasks)
    with _quiet():
        return _run(subject, tasks, expanded(str(data)) if data is not None else None, limit)


def _run(
    subject: Subject, tasks: Sequence[str], folder: Path | None, limit: int | None
) -> dict[str, dict[str, float]]:
    from lm_eval.api.group import Group

    from mrd_core.evaluation.harness_tasks import task_manager
    from mrd_core.model.reader import evaluating, within_memory

    manager = task_manager(folder, tasks)
    # With their data.
    loaded = [task for name in dict.fromkeys(tasks) for task in _loaded(manager, name)]
    try:
        manager.load(loaded)
    except ValueError as error:
        raise UserError(
            f"The tasks {', '.join(tasks)}", f"overlap: {brief(error)}", "Ask for the group, or for its parts."
        ) from error
    with evaluating(subject.model.network), _explained(tasks):
        raw = within_memory(
            lambda size: _evaluated(subject, manager, loaded, limit, size),
            max(1, subject.batch_tokens // _USUAL_LENGTH),
        )
    # What the harness calls them in its results; a group without a value of its own stands for its tasks.
    wanted = set()
    for task in loaded:
        parts = task.get_all_tasks() if isinstance(task, Group) else [task]
        has_own = isinstance(task, Group) and task.aggregate_metric_list
        wanted |= {task.name} if has_own else {part.task_name for part in parts}
    return {name: metrics(values) for name, values in raw.items() if name in wanted}


def metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics among what the harness reports of a task: {"acc,none": 0.5, …} becomes {"acc": 0.5}."""
    numbers = {}
    for key, value in values.items():
        name, _, filtered = key.partition(",")
        if filtered and isinstance(value, int | float) and not name.endswith("_stderr"):
            numbers[name if filtered == "none" else f"{name} ({filtered})"] = float(value)
    return numbers


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


@contextmanager
def _explained(tasks: Sequence[str]) -> Iterator[None]:
    """Turn what a question or a model makes the harness stumble over into a message that names the tasks."""
    try:
        yield
    except (ArithmeticError, TemplateError) as error:
        raise UserError(
            f"The tasks {', '.join(tasks)}",
            f"could not be evaluated by lm-evaluation-harness: {type(error).__name__}: {brief(error)}.",
            "A model that has broken down makes some metrics overflow: leave such tasks out. Otherwise, check the "
            "templates of the task.",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings and progress bars of the harness, about which nobody can do anything, out of the log."""
    import datasets
    from lm_eval.api import model, task
    from lm_eval.models import huggingface
    from tqdm import tqdm  # type: ignore[import-untyped]

    logger, has_bars = logging.getLogger("lm_eval"), not datasets.are_progress_bars_disabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    # Some of the bars have no switch of their own.
    for module in (model, task, huggingface):
        module.tqdm = lambda *args, **named: tqdm(*args, **named | {"disable": True})
    try:
        yield
    finally:
        logger.setLevel(level)
        if has_bars:
            datasets.enable_progress_bars()


def _evaluated(
    subject: Subject, manager: Any, tasks: Sequence[Any], limit: int | None, batch_size: int
) -> dict[str, dict[str, Any]]:
    from lm_eval import simple_evaluate

    results = simple_evaluate(
        model=_language_model(subject, batch_size),
        tasks=list(tasks),
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
