"""Where a forget set comes from: the demo, a file, a folder, a data set on the hub, or an upload."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from mrd_core.errors import UserError
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.samples.folders import check_cards, check_place, is_remote
from mrd_core.samples.forget_set import ForgetSet
from mrd_core.samples.limits import check_shape, check_size, check_unpacked, unpacked_limit
from mrd_core.samples.reading import (
    SUFFIXES,
    Table,
    check_name,
    listed,
    parse,
    read_bytes,
    read_table,
    stem_and_suffix,
    table_from_upload,
    unreadable,
)
from mrd_core.samples.validation import to_forget_set
from mrd_core.settings.places import expanded

# Of a source that is too long to be a path; the start of it says which one is meant.
_SHOWN_LENGTH = 80
# What a file's name ends in that is one of several parts; other numbers, as in forget10, mean something.
_PART = re.compile(r"[-_.]?\d{1,5}-of-\d{1,5}$|(?:(?<=part)|(?<=shard)|(?<=chunk))[-_]?\d+$")
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
    return to_forget_set(table_from_upload(name, data, limit_bytes).of_split(config.split), config)


def is_nowhere(config: ForgetSetConfig) -> bool:
    """Tell whether no file holds the samples: an upload gives a name and no place, and other files go."""
    path = Path(config.source)
    looks_local = path.is_absolute() or stem_and_suffix(config.source)[1] in SUFFIXES
    return looks_local and not (path.is_absolute() and path.exists())


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
        from mrd_core.demo.corpus import of_split

        frame = of_split(config.split or "forget")
        return Table("demo", frame.astype(object).where(frame.notna(), None))
    path = _located(source)
    if (path / "dataset_dict.json").exists():
        return _saved(source, path / _chosen(source, _saved_splits(path), config), limit_bytes)
    if (path / "state.json").exists():
        return _saved(source, path, limit_bytes).of_split(config.split)
    if path.is_dir():
        return _data_set(source, str(path.resolve()), config, limit_bytes)
    # A missing path is rather a mistyped file than the name of a data set where it looks like one.
    looks_local = stem_and_suffix(source)[1] in SUFFIXES or ("/" in source and path.parent.is_dir())
    if path.exists() or looks_local or not _HUB_ID.fullmatch(source):
        if config.subset:
            raise UserError(
                source, "It is a file, which has no subsets to choose from.", "Leave the subset empty."
            )
        return read_table(path, limit_bytes=limit_bytes, split=config.split)
    _check_reachable(source)
    return _data_set(source, source, config, limit_bytes)


def _saved(source: str, folder: Path, limit_bytes: int | None) -> Table:
    """Read the Arrow files of a folder that `save_to_disk` of `datasets` wrote, in their order.

    Raises:
        UserError: One of its files is not there or is no good.
    """
    path = folder / "state.json"
    files = [file.get("filename") if isinstance(file, dict) else None for file in _json(path, "_data_files")]
    names = [name for name in files if isinstance(name, str)]
    if not names or len(names) < len(files):
        raise _not_as_saved(path, "It does not name the files of the data set")
    return _joined(source, [(name, folder / Path(name).name) for name in dict.fromkeys(names)], limit_bytes)


def _saved_splits(folder: Path) -> list[str]:
    """Return the splits of a saved data set; each is a folder in this one."""
    path = folder / "dataset_dict.json"
    splits = [split for split in _json(path, "splits") if isinstance(split, str) and split == Path(split).name]
    if not splits:
        raise _not_as_saved(path, "It names no splits")
    return sorted(splits)


def _chosen(source: str, splits: Sequence[str], config: ForgetSetConfig) -> str:
    if config.split is not None and config.split in splits:
        return config.split
    if config.split is None and len(splits) == 1:
        return splits[0]
    why = f"It has no split {config.split!r}" if config.split else "It has several splits and none is chosen"
    raise UserError(source, f"{why}. The splits are: {listed(splits)}.", "Choose one of them.")


def _json(path: Path, key: str) -> list[Any]:
    """Return the list that an object in a file of `save_to_disk` holds under `key`."""
    check_size(str(path), path.stat().st_size if path.is_file() else 0, unpacked_limit())
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise _not_as_saved(path, f"It is no JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise _not_as_saved(path, f"It has no list {key!r}")
    return list(value[key])


def _not_as_saved(path: Path, why: str) -> UserError:
    return UserError(str(path), f"{why}.", "Save the data set again, or write it with to_parquet.")


def _located(source: str) -> Path:
    """Return `source` as a path whose existence can be asked for."""
    check_name(source)
    try:
        path = expanded(source)
        path.exists()
    except OSError as error:
        raise unreadable(source[:_SHOWN_LENGTH], error) from error
    return path


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
    try:
        files, split = _files_of_split(source, where, config)
        paths = _downloaded(source, files, limit_bytes) if is_remote(where) else [Path(file) for file in files]
    except UserError:
        raise
    except Exception as error:  # what `datasets` raises depends on what it stumbles over
        raise UserError(
            source,
            f"It cannot be read as a data set ({' '.join(str(error).splitlines()[:2]) or type(error).__name__}).",
            "Choose a subset if there are several, or give the path of one of its files.",
        ) from error
    table = _joined(source, list(zip(files, paths, strict=True)), limit_bytes)
    if config.split and not split and len(table.splits) > 1:
        raise UserError(
            source,
            f"The rows of its split {config.split!r} are of several splits: {listed(table.splits)}.",
            "Give the path of one of its files, and choose one of them.",
        )
    return table.of_split(split)


def _downloaded(source: str, files: Sequence[str], limit_bytes: int | None) -> list[Path]:
    """Download files from the hub, asked for their size before, and return where they are."""
    import datasets
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    check_size(source, sum(system.size(path) for system, path in map(url_to_fs, files)), limit_bytes)
    return [Path(path) for path in datasets.DownloadManager().download(list(files))]


def _joined(source: str, files: Sequence[tuple[str, Path]], limit_bytes: int | None) -> Table:
    """Read files, by what they are called and where they are, and join their rows; the limits are for all."""
    check_size(source, sum(path.stat().st_size for _, path in files if path.is_file()), limit_bytes)
    notes = [f"Read from {', '.join(PurePosixPath(name).name for name, _ in files)}."]
    frames: list[pd.DataFrame] = []
    columns: dict[str, None] = {}
    weight = rows = 0
    for name, path in files:
        table = parse(name, read_bytes(path), limit_bytes)
        columns |= dict.fromkeys(table.frame.columns)
        rows += len(table.frame)
        check_shape(source, rows, len(columns))
        weight += int(table.frame.map(_length).to_numpy().sum())
        check_unpacked(source, weight)
        frames.append(table.frame)
        notes += table.notes
    return Table(source, pd.concat(frames, ignore_index=True), tuple(dict.fromkeys(notes)))


def _files_of_split(source: str, where: str, config: ForgetSetConfig) -> tuple[list[str], str | None]:
    """Return the files (paths or hf:// addresses) of the split that is chosen, or of the only one.

    Where there is only one, its rows may be of several splits: the one to choose from them comes second.

    `datasets` puts all files into `train` whose names it does not know. Here each file is a split of its name, and
    only numbered parts (`x-00000-of-00002`) are one; a split of `datasets` can still be chosen as a whole.

    Raises:
        UserError: There is no such split, or there are several and none is chosen.
    """
    import datasets

    has_card = check_cards(source, where)
    with tempfile.TemporaryDirectory() as cache:
        builder = datasets.load_dataset_builder(where, config.subset, cache_dir=cache)
    known: dict[str, list[str]] = {
        str(split): list(files) for split, files in (builder.config.data_files or {}).items()
    }
    for file in (file for files in known.values() for file in files):
        check_place(source, file, where, has_card)
    splits = {name: files for split, listed in known.items() for name, files in _by_name(split, listed).items()}
    folder = Path(where)
    # Where some names are known to it, `datasets` leaves out the others; a card says what belongs to the set.
    if folder.is_dir() and config.subset is None and not has_card:
        used = {Path(file).name for files in known.values() for file in files}
        others = [
            file
            for file in sorted(folder.iterdir())
            if stem_and_suffix(file.name)[1] in SUFFIXES and file.name not in used
        ]
        splits |= _by_name("", [str(file) for file in others])
    every = _by_name("", [file for files in known.values() for file in files])
    if chosen := (every | known | splits).get(config.split or ""):
        return chosen, None
    if len(splits) == 1:
        return next(iter(splits.values())), config.split
    several = "several splits" if len(known) > 1 else "several files"
    why = f"It has no split {config.split!r}" if config.split else f"It has {several} and none is chosen"
    raise UserError(source, f"{why}. The splits are: {listed(list(splits))}.", "Choose one of them.")


def _length(cell: Any) -> int:
    return len(cell) if isinstance(cell, str) else 0


def _by_name(split: str, files: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of a split, those with parts of one name together; under the split's name if it is one."""
    folder = os.path.commonpath([str(PurePosixPath(file).parent) for file in files]) if files else ""
    named: dict[tuple[str, str], list[str]] = {}
    for file in files:
        path = PurePosixPath(os.path.relpath(file, folder))
        suffix = path.name.removeprefix(stem_and_suffix(path.name)[0])
        named.setdefault((_PART.sub("", str(path).removesuffix(suffix)), suffix), []).append(file)
    if split and len(named) == 1:
        return {split: list(files)}
    stems = Counter(stem for stem, _ in named)
    return {stem if stems[stem] == 1 else stem + suffix: parts for (stem, suffix), parts in named.items()}
