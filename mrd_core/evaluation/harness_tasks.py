"""What lm-evaluation-harness knows of tasks: its own, and those of the data folder, none of whose code is run.

The harness trusts the YAML files of tasks: they may name functions, ask for metrics that are scripts, and hold
templates that reach all of Python. Those of a data folder are checked before it reads them: they may hold plain
data only, include files of that folder only, and ask for metrics of the harness only. Templates are rendered in a
sandbox. Loads no torch before it is asked for tasks.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mrd_core.errors import UserError
from mrd_core.model.location import brief


def task_manager(folder: Path | None, tasks: Sequence[str]) -> Any:
    """Return the harness's `TaskManager` that knows these tasks.

    Args:
        folder: Has YAML files of further tasks; None or anything but a folder has none.
        tasks: Names of tasks, groups or tags. Those of the harness are read only where they are asked for.

    Raises:
        UserError: A YAML file of the folder cannot be read, or could run code; names it.
    """
    files: list[Path] = []
    if folder is not None and folder.is_dir():
        # Those that are included may be called `_template_yaml`.
        files = sorted(path for path in folder.rglob("*yaml") if path.is_file())
        for path in files:
            _require_no_code(path.resolve(), folder.resolve())
    from lm_eval.tasks import TaskManager

    _sandbox_templates()
    manager = TaskManager(include_path=str(folder) if files else None, include_defaults=False)
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


def _sandbox_templates() -> None:
    """Let templates see the fields of a question and change nothing, instead of reaching all of Python."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    environment = utils.env
    sandbox = ImmutableSandboxedEnvironment(
        loader=environment.loader,
        undefined=environment.undefined,
        keep_trailing_newline=environment.keep_trailing_newline,
    )
    sandbox.filters.update(environment.filters)
    # Every template is rendered by `utils.apply_template`, which takes the environment from there.
    utils.env = sandbox


def _read_without_code(manager: Any, files: Sequence[Path]) -> None:
    """Let the tasks in these files be what was read of them, with their data files found."""
    own = {path.resolve() for path in files}
    for entry in manager.task_index.values():
        if entry.yaml_path is not None and entry.yaml_path.resolve() in own:
            options = dict(entry.cfg.get("dataset_kwargs") or {})
            if "data_files" in options:
                options["data_files"] = _absolute(options["data_files"], entry.yaml_path.parent.resolve())
            # With a configuration and no path, the harness does not read the file again.
            entry.cfg, entry.yaml_path = dict(entry.cfg) | ({"dataset_kwargs": options} if options else {}), None


def _require_no_code(path: Path, folder: Path, including: frozenset[Path] = frozenset()) -> None:
    """Refuse a YAML file that could run code, or includes one that could or one from outside the folder."""
    config = _plain_data(path)
    for mapping in _mappings(config):
        for metric in _listed(mapping.get("metric_list")):
            _require_known(metric, path)
    included = _listed(config.get("include")) if isinstance(config, Mapping) else []
    for name in included:
        other = (path.parent / str(name)).resolve()
        if not other.is_relative_to(folder):
            raise UserError(
                f"The task in {path}",
                f"includes {name}, which lies outside the data folder.",
                "Put what it includes into the data folder.",
            )
        # The harness itself refuses a circle.
        if other not in including:
            _require_no_code(other, folder, including | {path})


def _plain_data(path: Path) -> Any:
    """Return what a YAML file holds: texts, numbers, lists and mappings, and no object of Python."""
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        raise UserError(
            f"The task in {path}",
            f"names a function or another object of Python ({error.problem}), and no code that comes with data is "
            "run.",
            "Write it with templates alone, or remove the file from the data folder.",
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"The task in {path}", f"cannot be read: {brief(error)}", "Correct the file, or remove it."
        ) from error


def _require_known(metric: Any, path: Path) -> None:
    """Refuse a metric that the harness would look for elsewhere: there, it is a script."""
    importlib.import_module("lm_eval.api.metrics")  # which registers them
    from lm_eval.api.registry import metric_registry

    name = metric.get("metric") if isinstance(metric, Mapping) else metric
    known = isinstance(name, str) and name in metric_registry
    if not known or (isinstance(metric, Mapping) and metric.get("hf_evaluate")):
        raise UserError(
            f"The task in {path}",
            f"asks for the metric {name!r} from outside lm-evaluation-harness, and no code that comes with data "
            "is run.",
            f"Ask for one of its own, without `hf_evaluate`: {', '.join(sorted(metric_registry))}.",
        )


def _mappings(value: Any) -> Iterator[Mapping[Any, Any]]:
    """Yield every mapping within what a YAML file holds: groups have the settings of their tasks inside."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        yield from _mappings(item)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _absolute(files: Any, folder: Path) -> Any:
    if isinstance(files, Mapping):
        return {split: _absolute(named, folder) for split, named in files.items()}
    if isinstance(files, list):
        return [_absolute(named, folder) for named in files]
    return files if "://" in str(files) else str(folder / files)
