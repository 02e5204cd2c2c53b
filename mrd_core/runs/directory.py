"""The run directory: `config.json`, the worker's log, and whatever the job writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from mrd_core.characteristics_config import CharacteristicsConfig
from mrd_core.errors import UserError
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.experiments.config import EXPERIMENTS
from mrd_core.scoring.config import ScoreConfig
from mrd_core.settings.configuration import RunConfig
from mrd_core.unlearning.config import UnlearnConfig

CONFIG_FILE = "config.json"
LOG_FILE = "worker.log"
# Where the directory of a score run holds those of its characteristics runs.
READINGS = "characteristics"
# In a directory that the user chose, other files may be the user's own.
WRITTEN_BY_RUNS = frozenset(
    {
        LOG_FILE,
        "samples.parquet",
        "plan.json",
        "baseline.npy",
        "units",
        "draws.parquet",
        "tokens.parquet",
        "hidden_states.npy",
        READINGS,
        "features.parquet",
        "spans.parquet",
        "samples.csv",
        "strata.csv",
        "claims.csv",
        "claims.json",
        "groups.csv",
        "regression.csv",
        "report.html",
        "scores.parquet",
        "measures.parquet",
        "scoring",
        "units.jsonl",
        "rows.parquet",
        "retain.parquet",
        "curriculum.parquet",
        "refusals.txt",
        "scored.json",
        "start.json",
        "before.parquet",
        "answers_before.parquet",
        "tokens_before.parquet",
        "steps.jsonl",
        "evaluations.jsonl",
        "checkpoints",
        "outcome.parquet",
        "answer_tokens.parquet",
        "tensorboard",
        "model",
        "sets",
        "sets.json",
        "parts",
        "unlearned.json",
        "values.parquet",
        "answers.parquet",
        "aggregates.json",
        "openunlearning.json",
        "summary.json",
    }
)
Config = TypeVar("Config", bound=RunConfig)
CONFIGS: dict[str, type[RunConfig]] = {
    "score": ScoreConfig,
    "characteristics": CharacteristicsConfig,
    "unlearn": UnlearnConfig,
    "evaluate": EvaluateConfig,
    **EXPERIMENTS,
}


def write_config(directory: Path, config: RunConfig) -> None:
    """Write `config` to `directory`/config.json; readers see the whole file or none."""
    temporary = directory / f".{CONFIG_FILE}.tmp"
    temporary.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / CONFIG_FILE)


def read_config(directory: Path, of: type[Config]) -> Config:
    """Read and validate `directory`/config.json by its `kind`, which must be one of `of` (RunConfig: any).

    Raises:
        UserError: The file is missing, is no JSON object, has another or an unknown kind or an invalid value.
    """
    path = directory / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            str(path),
            f"A run directory needs a readable {CONFIG_FILE} ({_reason(error)}).",
            "Name the directory of a run, or copy the config.json of another run there.",
        ) from error
    config = _parse(path, text)
    if not isinstance(config, of):
        wanted = ", ".join(kind for kind, known in CONFIGS.items() if issubclass(known, of))
        raise UserError(
            str(directory),
            f"It is a {config.kind} run, no {wanted} run.",
            f"Name the directory of a {wanted} run.",
        )
    return config


def remove(directory: Path, *, whole: bool = True) -> None:
    """Remove a run directory; one that does not exist is fine.

    config.json goes last, so that a removal that was interrupted can be repeated.

    Args:
        directory: The run directory.
        whole: Remove everything in it; else only what a run writes, and the directory if that leaves it empty.

    Raises:
        UserError: The directory has no config.json, so it may be something else of the user's.
    """
    if not directory.exists():
        return
    config = directory / CONFIG_FILE
    if not config.is_file():
        raise UserError(
            str(directory),
            f"It holds no {CONFIG_FILE}, so it may not be a run directory and is left alone.",
            "Look what is in it and remove it by hand.",
        )
    for entry in directory.iterdir():
        if entry != config and (whole or entry.name in WRITTEN_BY_RUNS):
            _remove_entry(entry)
    config.unlink()
    if not any(directory.iterdir()):
        directory.rmdir()


def _parse(path: Path, text: str) -> RunConfig:
    try:
        fields = TypeAdapter(dict[str, object]).validate_json(text)
        return CONFIGS[str(fields.get("kind", "score"))].model_validate_json(text)
    except KeyError as error:
        raise UserError(
            str(path), f"The kind {error} is unknown.", f"Use one of: {', '.join(CONFIGS)}."
        ) from error
    except ValidationError as error:
        raise UserError(
            str(path), _first_problem(error), "Correct the file, or copy the config.json of another run."
        ) from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}." if place else f"{first['msg']}."


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"


def _remove_entry(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
