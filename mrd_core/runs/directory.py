"""The run directory: `config.json`, the worker's log, and whatever the job writes."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from mrd_core.errors import UserError
from mrd_core.runs import last_words
from mrd_core.runs.files import CONFIG_FILE, PRIVATE_FOLDER, remove_entry, write_atomically
from mrd_core.runs.kind import kind_named, kinds
from mrd_core.runs.occupancy import held
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.options import refusal

STAGING, STAGING_LOCK, STAGING_GRACE = ".submitting-", ".lock", 60.0
Config = TypeVar("Config", bound=RunConfig)


def write_config(directory: Path, config: RunConfig) -> None:
    """Write `config` to `directory`/config.json; readers see the whole file or none."""
    text = config.model_dump_json(indent=2) + "\n"
    write_atomically(directory / CONFIG_FILE, lambda stream: stream.write(text.encode()))


def read_config(directory: Path, of: type[Config]) -> Config:
    """Read and validate `directory`/config.json by its `kind`, which must be one of `of` (RunConfig: any).

    A run that lies in the one that it builds on builds on that one wherever both were moved or copied to.

    Raises:
        UserError: The file is missing, is no JSON object, has another or an unknown kind or an invalid value.
    """
    path = directory / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(
            str(path),
            f"A run directory needs a readable {CONFIG_FILE} ({reason}).",
            "Name the directory of a run, or copy the config.json of another run there.",
        ) from error
    try:
        fields = TypeAdapter(dict[str, object]).validate_json(text)
        config = kind_named(str(fields.get("kind", "score"))).config.model_validate_json(text)
    except UserError as error:
        raise UserError(str(path), f"{error.what} {error.why}", error.fix) from error
    except ValidationError as error:
        fix = "Correct the file, or copy the config.json of another run."
        raise refusal(error, fix, where=path) from error
    if not isinstance(config, of):
        wanted = ", ".join(kind.name for kind in kinds().values() if issubclass(kind.config, of))
        raise UserError(
            str(directory),
            f"It is a {config.kind} run, no {wanted} run.",
            f"Name the directory of a {wanted} run.",
        )
    around = directory.resolve().parent.parent
    if kind_named(config.kind).has_place and (around / CONFIG_FILE).is_file():
        return config.model_copy(update={"score_run": around})
    return config


@contextmanager
def staged(directory: Path, runs: Path) -> Iterator[Path]:
    """Lend a folder in which a run directory of this name is made, held against a sweep.

    Of one that is made elsewhere than in `runs`, a link there knows the place, and leads to the run where a kill
    comes after it was made: so it is swept and named like the others.
    """
    staging = directory.parent / f"{STAGING}{secrets.token_hex(4)}"
    link = runs.resolve() / staging.name
    if elsewhere := link != staging:
        # Not every file system has links.
        with suppress(OSError):
            link.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
            link.symlink_to(directory, target_is_directory=True)
    try:
        staging.mkdir(mode=PRIVATE_FOLDER)
        with FileLock(staging / STAGING_LOCK, fallback_to_soft=False):
            draft = staging / directory.name
            draft.mkdir(mode=PRIVATE_FOLDER)
            yield draft
    finally:
        remove_entry(staging)
        if elsewhere:
            link.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what kills left of runs that were being submitted to a folder: texts that no list has.

    What they left elsewhere goes with the links that know it; a link that leads to a run stays.
    """
    for entry in folder.glob(f"{STAGING}*"):
        with suppress(OSError, Timeout):
            # One that has just been made is yet to be locked.
            if time.time() - entry.lstat().st_mtime <= STAGING_GRACE:
                continue
            staging = entry.readlink().parent / entry.name if entry.is_symlink() else entry
            if staging.exists():
                with FileLock(staging / STAGING_LOCK, timeout=0, fallback_to_soft=False):
                    shutil.rmtree(staging)
            if entry.is_symlink() and not (entry / CONFIG_FILE).exists():
                entry.unlink()


def remove(directory: Path, only: Collection[str] | None = None) -> None:
    """Remove a run directory; one that does not exist is fine.

    config.json goes last, so that a removal that was interrupted can be repeated.

    Args:
        directory: The run directory.
        only: Names of what a run writes, where other files in it may be the user's own: these are removed, and the
            directory if that leaves it empty. By default everything.

    Raises:
        UserError: The directory has no config.json, so it may be something else of the user's, another process is
            at work in it, or a file cannot be removed.
    """
    if not directory.exists():
        return
    try:
        _remove(directory, only)
    except OSError as error:
        raise UserError(
            str(error.filename or directory),
            f"It cannot be removed: {error.strerror}.",
            "Correct its permissions, then delete the run again.",
        ) from error


def _remove(directory: Path, only: Collection[str] | None) -> None:
    config = directory / CONFIG_FILE
    if not config.is_file():
        raise UserError(
            str(directory),
            f"It holds no {CONFIG_FILE}, so it may not be a run directory and is left alone.",
            "Look what is in it and remove it by hand.",
        )
    with held(directory):
        for entry in directory.iterdir():
            # What a kill left half-written is nobody's own.
            left = entry.match(".*.tmp") or entry.name == last_words.NAME
            if entry != config and (only is None or entry.name in only or left):
                remove_entry(entry)
        config.unlink()
    if not any(directory.iterdir()):
        directory.rmdir()
