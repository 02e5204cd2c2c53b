"""Whether a report is true: everything that it says made anew from the files of its runs, and held against it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path as File
from typing import NamedTuple

from analysis.report.content import Leaf, Path, Report, called
from analysis.report.files import FIGURES, HTML, JSON, MARKDOWN, contents, figures
from analysis.report.making import report_of
from analysis.report.provenance import MODEL_DIGEST, programs
from analysis.report.runs import Member, Members, ordered
from mrd_core.errors import UserError
from mrd_core.runs.files import CONFIG_FILE, digest

# Figures of another processor differ in their last digits.
TOLERANCE = 1e-6
# What no file of a run says: who made the report, when and with what, and when a run ended.
_UNSAID = frozenset({"generated", "by", "programs"})
_MODEL = ("facts", "rows", MODEL_DIGEST, "value")
MISSING = "(nothing)"


class Difference(NamedTuple):
    """What a report says and its runs do not, or the other way round.

    Attributes:
        name: Of the figure, sentence or file.
        report: What the report says.
        runs: What follows from the runs.
    """

    name: str
    report: Leaf
    runs: Leaf


class Verification(NamedTuple):
    """How a report stands to its runs.

    Attributes:
        differences: What differs.
        compared: Figures and sentences that were compared.
        notes: What could not be compared, in sentences.
    """

    differences: tuple[Difference, ...]
    compared: int
    notes: tuple[str, ...]


def verified(report: Report, candidates: Sequence[Member], folder: File | None = None) -> Verification:
    """Make a report anew from its runs, and return what differs.

    Args:
        report: What is held against the runs.
        candidates: Runs, among which are those that it is on.
        folder: Where its page and its Markdown lie, which are held against it, too; None for neither.

    Raises:
        UserError: One of its runs is not among them, or has lost a file.
    """
    again = report_of(_matched(report, candidates), report.options, report.by, is_fresh=True)
    notes: list[str] = []
    pages = _of_pages(report, folder, notes) if folder else ()
    if report.programs != again.programs:
        others = [
            f"{name} {version}" for name, version in report.programs.items() if again.programs.get(name) != version
        ]
        notes.append(f"Made with other versions ({', '.join(others)}): sentences and last digits may differ.")
    if MODEL_DIGEST in report.facts.rows and MODEL_DIGEST not in again.facts.rows:
        notes.append("The model does not lie where it lay: its digest was not compared.")
    return Verification((*compared(report, again), *pages), len(_said(report)), tuple(notes))


def compared(report: Report, again: Report) -> list[Difference]:
    """Return what a report says otherwise than another one on the same runs, name by name."""
    stated, found = _said(report), _said(again)
    if _MODEL not in found:
        stated.pop(_MODEL, None)
    return [
        Difference(called(path), stated.get(path, MISSING), found.get(path, MISSING))
        for path in dict.fromkeys((*stated, *found))
        if path not in stated or path not in found or not _same(stated[path], found[path])
    ]


def _matched(report: Report, candidates: Sequence[Member]) -> Members:
    """Return the runs of a report, each under the name that it has there: by name, by settings, or by kind."""
    left, runs = list(candidates), []
    for name, record in report.runs.items():
        alike = [member for member in left if member.kind == record.kind]
        same = [member for member in alike if member.name == name]
        same += [each for each in alike if record.files.get(CONFIG_FILE) == digest(each.directory / CONFIG_FILE)]
        # A single one of the kind stands for it; its files will tell.
        same += alike if len(alike) == 1 else []
        if not same:
            raise UserError(
                f"The report's run {name} ({record.title})",
                "is not among the runs that were named, nor does it rest on one of them.",
                "Name its directory, too.",
            )
        left.remove(same[0])
        runs.append(Member(name, record.kind, same[0].directory, record.when))
    return ordered(runs)


def _said(report: Report) -> dict[Path, Leaf]:
    return {path: leaf for path, leaf in report.leaves().items() if path[0] not in _UNSAID}


def _same(stated: Leaf, found: Leaf) -> bool:
    if isinstance(stated, float) and isinstance(found, int | float):
        return math.isclose(stated, found, rel_tol=TOLERANCE, abs_tol=1e-12)
    return type(stated) is type(found) and stated == found


def _of_pages(report: Report, folder: File, notes: list[str]) -> Iterator[Difference]:
    """Yield which of the pages beside the JSON are not those that it makes."""
    beside = [name for name in (HTML, MARKDOWN, FIGURES) if (folder / name).exists()]
    if beside and report.programs != programs():
        notes.append(f"{', '.join(beside)}: made by other versions of the programs, and not compared.")
        return
    made = {name: page for name, page in contents(report).items() if name != JSON} | {
        f"{FIGURES}/{name}": drawn for name, drawn in figures(report).items()
    }
    for name, content in made.items():
        if (folder / name).is_file() and (folder / name).read_bytes() != content:
            yield Difference(name, "another one", "what the JSON says")
