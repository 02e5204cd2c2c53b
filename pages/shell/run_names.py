"""What people call runs where they pick one: by title, where several share it by time too, and never by an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mrd_core.runs import Run
from pages.shell.notices import SYMBOLS
from pages.shell.wording import told_apart


def run_names(runs: Iterable[Run], *, with_state: bool = False) -> dict[str, str]:
    """Return a name for each run, by id; no two are alike, since a browser knows what is picked by its label.

    Args:
        runs: In the order in which they are offered.
        with_state: Whether the symbol of its state stands in front.
    """
    known = {run.id: run for run in runs}
    titles = {run.id: f"{SYMBOLS[run.state]} {run.title}" if with_state else run.title for run in known.values()}
    timed = told_apart(titles, {run.id: f" · {run.created_at.astimezone():%d %b %H:%M}" for run in known.values()})
    seen = Counter[str]()
    numbers = {}
    for run_id, name in timed.items():
        seen[name] += 1
        numbers[run_id] = f" ({seen[name]})"
    return told_apart(timed, numbers)
