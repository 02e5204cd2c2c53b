"""The handbook's chapter on the files of runs, made from what the kinds of run declare.

python -m mrd_core.runs.handbook > docs/files.md
"""

from __future__ import annotations

from collections.abc import Iterable

from mrd_core.runs.files import Artifact, RunDirectory
from mrd_core.runs.kind import kinds


def chapter() -> str:
    """Return the chapter as Markdown."""
    names: dict[type[RunDirectory], list[str]] = {}
    for kind in kinds().values():
        names.setdefault(kind.files, []).append(kind.name)
    shared = RunDirectory.artifacts()
    parts = [
        "# What a run leaves behind",
        "Made by `python -m mrd_core.runs.handbook` from what the code declares. Results are written whole or not "
        "at all, and files of lines (`.jsonl`) grow by whole lines. What is marked † is there only as long as a "
        "run needs it to go on.",
        "## Every run",
        _table(("file", "what it holds"), map(_file, shared.values())),
    ]
    for files, kind_names in names.items():
        own = [artifact for name, artifact in files.artifacts().items() if name not in shared]
        parts.append(f"## {files.noun.capitalize()}: " + ", ".join(f"`{name}`" for name in kind_names))
        parts.append(_table(("file", "what it holds"), map(_file, own)))
        for artifact in own:
            if artifact.columns:
                rows = (
                    (f"`{column.name}`", column.dtype, column.unit, column.about) for column in artifact.columns
                )
                parts.append(f"### Columns of its `{artifact.path}`")
                parts.append(_table(("column", "type", "unit", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))


def _file(artifact: Artifact) -> tuple[str, str]:
    return f"`{artifact.path}`{' †' if artifact.scaffolding else ''}", artifact.about


if __name__ == "__main__":
    print(chapter(), end="")
