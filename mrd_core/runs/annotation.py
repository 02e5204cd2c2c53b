"""What people write on a run: another name, tags, a note."""

from __future__ import annotations

from collections.abc import Iterable

from mrd_core.errors import UserError
from mrd_core.runs.directory import read_config
from mrd_core.runs.kind import kind_named
from mrd_core.runs.record import Run
from mrd_core.runs.store import RunStore
from mrd_core.settings.configuration import RunConfig

LONGEST_NAME, LONGEST_TAG, LONGEST_NOTE = 120, 40, 2000


def rename(store: RunStore, run: Run, name: str) -> Run:
    """Call a run by another name, and return it; "" gives back the name that its settings make.

    Raises:
        UserError: The name is too long, or the settings are gone.
    """
    title = " ".join(name.split())
    _require_short("name", title, LONGEST_NAME)
    if not title:
        title = kind_named(run.kind).title(read_config(run.directory, RunConfig))
    return store.annotate(run.id, title=title)


def tag(store: RunStore, run: Run, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Run:
    """Put tags on a run and take others off it, and return it; its tags keep their order.

    Raises:
        UserError: A tag is blank, too long, or holds a comma.
    """
    added = [" ".join(each.split()) for each in add]
    for each in added:
        if not each or "," in each:
            raise UserError(f"The tag '{each}'", "is blank or holds a comma.", "Use words, one tag at a time.")
        _require_short("tag", each, LONGEST_TAG)
    removed = set(remove)
    return store.annotate(
        run.id, tags=tuple(each for each in dict.fromkeys([*run.tags, *added]) if each not in removed)
    )


def note(store: RunStore, run: Run, text: str) -> Run:
    """Write a note on a run, in place of the one that it had, and return it; "" removes it.

    Raises:
        UserError: It is too long.
    """
    _require_short("note", text.strip(), LONGEST_NOTE)
    return store.annotate(run.id, note=text.strip() or None)


def _require_short(noun: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise UserError(
            f"The {noun} '{text[:20]}…'",
            f"has {len(text)} characters; it may have {longest}.",
            "Shorten it.",
        )
