"""Where a forget set comes from: the demo, a file, a folder, a data set on the hub, or an upload."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.forget_set import ForgetSet
from mrd_core.samples.reading import (
    SUFFIXES,
    Table,
    check_size,
    listed,
    parse,
    read_bytes,
    read_table,
    table_from_upload,
    unreadable,
)
from mrd_core.samples.validation import to_forget_set

# Of a source that is too long to be a path; the start of it says which one is meant.
_SHOWN_LENGTH = 80
_HUB_ID = re.compile(r"[\w-]+|[\w-][\w.-]*/[\w-][\w.-]*")


def read(config: ForgetSetConfig, *, limit_bytes: int | None = None) -> ForgetSet:
    """Read the forget set that `config` names; its files may have `limit_bytes` in all [bytes].

    Raises:
        UserError: As in `load_table` and `to_forget_set`.
    """
    return to_forget_set(load_table(config, limit_bytes=limit_bytes), config)


def read_split(config: ForgetSetConfig, split: str) -> ForgetSet:
    """Read a forget, retain or held-out set; of the demo its own `split` unless another is named.

    Raises:
        UserError: As in `read`.
    """
    if config.source == "demo" and config.split is None:
        config = config.model_copy(update={"split": split})
    return read(config)


def read_upload(name: str, data: bytes, config: ForgetSetConfig, *, limit_bytes: int) -> ForgetSet:
    """Read an uploaded file from its bytes, without writing it anywhere; `config.source` is not used."""
    return to_forget_set(table_from_upload(name, data, limit_bytes), config)


def load_table(config: ForgetSetConfig, *, limit_bytes: int | None = None) -> Table:
    """Return the raw rows of `config.source`: `demo`, a file, a folder, or else a data set on the hub.

    Raises:
        UserError: Nothing is there or it cannot be read, the hub cannot be reached or refuses, or there are
            several splits or subsets and none is chosen.
    """
    source = config.source
    if not source:
        raise UserError("The forget set", "No source is given.", "Give `demo`, a path, or a hub data set.")
    if source == "demo":
        return _demo(config.split or "forget")
    path = _located(source)
    if path.is_dir():
        return _data_set(source, str(path.resolve()), config, limit_bytes)
    if path.exists() or not _may_be_hub_id(source, path):
        _refuse_split(config)
        return read_table(path, limit_bytes=limit_bytes)
    _check_reachable(source)
    return _data_set(source, source, config, limit_bytes)


def _demo(split: str) -> Table:
    from mrd_core.demo.corpus import SPLITS, of_split

    if split not in SPLITS:
        raise UserError(f"The demo's split '{split}'", "does not exist.", f"Choose one of: {', '.join(SPLITS)}.")
    frame = of_split(split)
    return Table("demo", frame.astype(object).where(frame.notna(), None))


def _located(source: str) -> Path:
    """Return `source` as a path whose existence can be asked for."""
    try:
        path = Path(source).expanduser()
        path.exists()
    except OSError as error:
        raise unreadable(source[:_SHOWN_LENGTH], error) from error
    except RuntimeError as error:
        raise UserError(source, f"{error}", "Write the path out in full.") from error
    return path


def _may_be_hub_id(source: str, path: Path) -> bool:
    """Return whether a missing path is rather the name of a data set than a mistyped file."""
    looks_local = path.suffix.lower() in SUFFIXES or ("/" in source and path.parent.is_dir())
    return bool(_HUB_ID.fullmatch(source)) and not looks_local


def _refuse_split(config: ForgetSetConfig) -> None:
    if config.split or config.subset:
        raise UserError(
            config.source,
            "It is a single table, which has no subsets or splits to choose from.",
            "Leave subset and split empty.",
        )


def _check_reachable(source: str) -> None:
    """Ask the hub for `source` once, because `datasets` tries for half a minute when there is no network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # exported lazily

    try:
        HfApi().auth_check(source, repo_type="dataset")
    except GatedRepoError as error:
        why = "Access to this data set is gated, and this account has not been let in."
        raise _hub_error(source, why) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        why = "There is no such file or folder, and the hub has no public data set of this name."
        raise _hub_error(source, why) from error
    except (OSError, httpx.HTTPError) as error:
        why = f"There is no such file or folder, and the hub cannot be reached ({type(error).__name__})."
        raise _hub_error(source, why) from error


def _hub_error(source: str, why: str) -> UserError:
    return UserError(source, why, "Check the name, or download the file of the data set and give its path.")


def _data_set(source: str, where: str, config: ForgetSetConfig, limit_bytes: int | None) -> Table:
    """Read one split of a folder or hub data set, `where` being what `datasets` knows it by.

    `datasets` finds the splits, subsets and files. Their rows are read here, because its own readers turn
    "NA" into nothing and dates into times, and would leave a copy of private texts in its cache.
    """
    import datasets

    failures = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
    try:
        files = _files_of(source, _splits(where, config.subset), config.split)
        check_size(source, _total_size(files), limit_bytes)
        paths = [Path(path) for path in datasets.DownloadManager().download(files)]
    except failures as error:
        raise UserError(
            source,
            f"It cannot be read as a data set ({' '.join(str(error).splitlines()[:2])}).",
            "Choose a subset if there are several, or give the path of one of its files.",
        ) from error
    tables = [
        parse(file, PurePosixPath(file).suffix, read_bytes(path)) for file, path in zip(files, paths, strict=True)
    ]
    return _joined(source, tables)


def _splits(where: str, subset: str | None) -> dict[str, list[str]]:
    """Return the files (paths or hf:// addresses) of each split."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        builder = datasets.load_dataset_builder(where, subset, cache_dir=cache)
    return {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}


def _files_of(source: str, splits: dict[str, list[str]], chosen: str | None) -> list[str]:
    if chosen is None and len(splits) == 1:
        return next(iter(splits.values()))
    if chosen is None or chosen not in splits:
        found = f"It has no split {chosen!r}" if chosen else "It has several splits and none is chosen"
        raise UserError(source, f"{found}. The splits are: {listed(list(splits))}.", "Choose one of them.")
    return splits[chosen]


def _total_size(files: Iterable[str]) -> int:
    """Return the size of local or remote files together, before any is downloaded [bytes]."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    return sum(system.size(path) for system, path in map(url_to_fs, files))


def _joined(source: str, tables: list[Table]) -> Table:
    """Put the rows of several files under each other, in the order of the files."""
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    files = ", ".join(PurePosixPath(table.name).name for table in tables)
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    return Table(source, frame, (f"Read from {files}.", *notes))
