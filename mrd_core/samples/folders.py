"""What a folder of data may reach: the files in it, and none that its card or a link names elsewhere."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from mrd_core.errors import UserError
from mrd_core.settings.installation import Settings

# Where `datasets` looks for the files of a set; the first is a card with YAML at its head.
_CARDS = ("README.md", ".huggingface.yaml")
# Of the name of a file, in a message.
_SHOWN_LENGTH = 80


def check_within(folder: Path, roots: Sequence[Path] = ()) -> None:
    """Refuse a folder that reaches beyond itself and the roots through a link, or that has too many files.

    Raises:
        UserError: It is so.
    """
    for path in files_of(folder):
        if not lies_within(path, folder, roots):
            raise UserError(
                f"The folder '{folder}'",
                f"holds '{path.relative_to(folder)}', a link to a file that lies elsewhere.",
                "Put the file itself there, or give its own path.",
            )


def lies_within(path: Path, folder: Path, roots: Sequence[Path] = ()) -> bool:
    """Return whether a file lies in the folder, under a root, or among the blobs of its hub cache."""
    folder = folder.resolve()
    snapshots = [parent for parent in (folder, *folder.parents) if parent.parent.name == "snapshots"]
    blobs = [snapshot.parents[1] / "blobs" for snapshot in snapshots]
    return any(path.resolve().is_relative_to(root) for root in (folder, *roots, *blobs))


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and those below it, links followed.

    Raises:
        UserError: There are more than MRD_FOLDER_LIMIT of them.
    """
    limit, count, seen = Settings.from_environment().folder_limit, 0, set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        count += len(folders) + len(files)
        if count > limit:
            raise UserError(
                f"The folder '{folder}'",
                f"holds more than {limit:,} files and folders.",
                "Give the path of the file or folder with the data in it, or raise the limit (MRD_FOLDER_LIMIT).",
            )
        yield from (Path(place, file) for file in files)


def is_remote(where: str) -> bool:
    """Return whether `where` is a data set on the hub: folders are named in full."""
    return not Path(where).is_absolute()


def check_cards(source: str, where: str) -> bool:
    """Return whether a card says which files belong to a folder or hub data set.

    Raises:
        UserError: It names files elsewhere, or a folder has too many files to be looked through.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    cards = []
    if not is_remote(where):
        deque(files_of(Path(where)), maxlen=0)
        cards = [card for card in (Path(where, name) for name in _CARDS) if card.is_file()]
    for name in _CARDS if is_remote(where) else ():
        with suppress(EntryNotFoundError):
            cards.append(Path(hf_hub_download(where, name, repo_type="dataset")))
    for card in cards:
        _check_card(source, card)
    return bool(cards)


def check_place(source: str, file: str, where: str, has_card: bool) -> None:
    """Refuse a file that a card found out of its folder, or at an address that is not the hub's.

    Where there is no card, links are the user's own.
    """
    path = Path(os.path.normpath(file))
    if is_remote(where):
        is_inside = file.startswith("hf://") and "::" not in file
    else:
        is_inside = path.is_relative_to(where) and (not has_card or lies_within(path, Path(where)))
    if not is_inside:
        raise _elsewhere(source, file)


def _check_card(source: str, card: Path) -> None:
    """Refuse a card, or the YAML in its place, that names files out of its folder.

    Raises:
        UserError: It does.
    """
    from huggingface_hub import DatasetCard

    text = card.read_text(encoding="utf-8-sig")
    head = DatasetCard(text if card.suffix == ".md" else f"---\n{text}\n---\n", ignore_metadata_errors=True).data
    for name in _names(head.get("configs")):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "://" in name or "::" in name:
            raise _elsewhere(f"{source}, {card.name}", name)


def _elsewhere(source: str, file: str) -> UserError:
    return UserError(
        source,
        f"It names '{file[:_SHOWN_LENGTH]}', which lies outside of the folder and is not read.",
        "Put the file into the folder, or give the path of the file itself.",
    )


def _names(configs: Any) -> Iterator[str]:
    """Yield the files, patterns and folders that the configurations of a card name."""
    parts = [config.get(key) for config in configs or () for key in ("data_files", "data_dir")]
    # YAML can refer to a list from within it.
    seen: set[int] = set()
    while parts:
        if isinstance(part := parts.pop(), str):
            yield part
        elif isinstance(part, dict | list) and id(part) not in seen:
            seen.add(id(part))
            parts += part.values() if isinstance(part, dict) else part
