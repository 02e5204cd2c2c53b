"""Which runs a report rests on: a score run, its reading, and what was done with its scores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.experiments.files import ExperimentFiles
from mrd_core.runs import Run, RunState, RunStore
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.runs.kind import kind_named, kinds
from mrd_core.runs.subject import subject
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.configuration import RunConfig

SCORE, READING, UNLEARNING, EVALUATION = "score", "characteristics", "unlearn", "evaluate"
# Of these all that there are; of the others, readings and each kind of experiment, the newest.
_ALL = frozenset({UNLEARNING, EVALUATION})
# They say nothing of a set.
_PASSED_OVER = "token-parts"


@dataclass(frozen=True)
class Member:
    """A run of a report.

    Attributes:
        name: What the report calls it: its id, or the name of its directory.
        kind: As in its config.json.
        directory: Where it lies.
        when: When it ended [UTC]; "" where that is not known.
    """

    name: str
    kind: str
    directory: Path
    when: str = ""


@dataclass(frozen=True)
class Members:
    """The runs of a report, the score run first, then by kind, the oldest of each first."""

    runs: tuple[Member, ...]

    @property
    def score(self) -> Path:
        """The directory of the score run."""
        return self.runs[0].directory

    @property
    def reading(self) -> Path | None:
        """The directory of the reading of its texts; None where they were not read."""
        return next((member.directory for member in self.of(READING)), None)

    @property
    def experiments(self) -> list[Member]:
        """The experiments."""
        apart = {SCORE, READING, UNLEARNING, EVALUATION}
        return [member for member in self.runs if member.kind not in apart]

    def of(self, kind: str) -> list[Member]:
        """Return the runs of a kind."""
        return [member for member in self.runs if member.kind == kind]


def members(directories: Sequence[Path], store: RunStore) -> Members:
    """Return the runs that a report on these rests on.

    A score run stands for all that was done with its scores and succeeded: its newest reading, the newest
    experiment of each kind, every unlearning run and evaluation. Any other run stands for itself and the score run
    that it rests on, with its reading.

    Raises:
        UserError: One of them is no run, has not ended well or rests on no scores, or they rest on several.
    """
    score = _score_run_of_all(directories)
    named = {directory.resolve() for directory in directories}
    chosen = list(_chosen(_resting(score, store), named, is_whole=score in named))
    unlisted = named - {run.directory for run in chosen} - {score}
    found = [*map(_of_run, chosen), *(_member(directory, store) for directory in unlisted)]
    if not any(member.kind == READING for member in found):
        found += _readings_within(score)[-1:]
    return ordered([_member(score, store), *found])


def candidates(directories: Sequence[Path], store: RunStore) -> list[Member]:
    """Return all runs that a report may be on: these, their score runs, and all that rests on those."""
    found = {directory.resolve(): _member(directory, store) for directory in directories}
    # Of a copy the score run may lie elsewhere; then it is named by itself.
    for score in {place for directory in directories if (place := _stated(directory)).exists()}:
        rest = [_member(score, store), *map(_of_run, _resting(score, store)), *_readings_within(score)]
        # What was named comes first: of a copy, it and not the original is held against the report.
        found |= {member.directory: member for member in rest if member.directory not in found}
    return list(found.values())


def ordered(runs: Iterable[Member]) -> Members:
    """Return runs in the order of a report; each must have ended well.

    Raises:
        UserError: One has not.
    """
    places = {kind: at for at, kind in enumerate(kinds())}
    listed = sorted(runs, key=lambda member: (places[member.kind], member.name))
    for member in listed:
        kind_named(member.kind).files.finished(member.directory)
    return Members(tuple(listed))


def _score_run_of_all(directories: Sequence[Path]) -> Path:
    """Return the score run that all of these are or rest on."""
    scores = [directory for directory in directories if _stated(directory) == directory.resolve()]
    score = _stated((scores or directories)[0])
    if not (score / CONFIG_FILE).exists():
        raise UserError(
            f"The run in {directories[0]}",
            f"rests on the scores in {score}, and no score run is there.",
            "Name the score run as well, where it lies now.",
        )
    for other in directories:
        if not _is_alike(_stated(other), score) or (other in scores and other.resolve() != score):
            raise UserError(
                f"The run in {other}",
                f"rests on other scores than those in {score}, and a report is on one score run.",
                "Make a report on each.",
            )
    return score


def _stated(directory: Path) -> Path:
    """Return where the score run lies that a run is or rests on, as it says."""
    config = read_config(directory, RunConfig)
    if config.kind == SCORE:
        return directory.resolve()
    # An experiment may have scored for itself.
    return Path(
        subject(config.model_dump(mode="json"))["score_run"] or ExperimentFiles(directory).scoring
    ).resolve()


def _is_alike(stated: Path, score: Path) -> bool:
    """Tell whether a score run is the stated one or a copy: of the same name, or with the same settings."""
    configs = [place / CONFIG_FILE for place in (stated, score)]
    if stated == score or stated.name == score.name:
        return True
    return configs[0].exists() and configs[0].read_bytes() == configs[1].read_bytes()


def _resting(score: Path, store: RunStore) -> list[Run]:
    """Return the runs that build on a score run and succeeded, oldest first."""
    run = store.find_by_directory(score)
    if run is None:
        return []
    resting = store.list(states=[RunState.SUCCEEDED], score_run=run)
    return [each for each in reversed(resting) if each.kind != _PASSED_OVER]


def _chosen(resting: Sequence[Run], named: Collection[Path], *, is_whole: bool) -> Iterator[Run]:
    """Yield those of the runs on a score run that its report is made of.

    Args:
        resting: The runs, oldest first.
        named: Directories that were asked for.
        is_whole: Whether the score run was, so that the others come with it.
    """
    kinds_named = {run.kind for run in resting if run.directory in named} - _ALL
    newest = {run.kind: run for run in resting}
    for run in resting:
        wanted = is_whole or run.kind == READING
        if run.directory in named or (
            wanted and run.kind not in kinds_named and (run.kind in _ALL or newest[run.kind] is run)
        ):
            yield run


def _readings_within(score: Path) -> list[Member]:
    """Return the readings in the directory of a score run, oldest first, whether a store knows them or not."""
    files = kind_named(READING).files
    readings = [path.resolve() for path in ScoreFiles(score).readings.glob("*") if files(path).is_finished]
    readings.sort(key=lambda path: path.stat().st_mtime)
    return [Member(path.name, READING, path) for path in readings]


def _member(directory: Path, store: RunStore) -> Member:
    run = store.find_by_directory(directory)
    kind = read_config(directory, RunConfig).kind
    return _of_run(run) if run else Member(directory.resolve().name, kind, directory.resolve())


def _of_run(run: Run) -> Member:
    when = f"{run.finished_at:%Y-%m-%d %H:%M}" if run.finished_at else ""
    return Member(run.id, run.kind, run.directory, when)
