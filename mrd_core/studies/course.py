"""Carrying out a study: what is there is left, what ended early goes on, the rest is made, in order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from mrd_core.errors import UserError
from mrd_core.runs import ACTIVE, Run, RunState, RunStore, submit
from mrd_core.runs.failure import describe
from mrd_core.runs.kind import Kind, kind_named
from mrd_core.runs.launchers.port import Launcher
from mrd_core.runs.liveness import was_killed
from mrd_core.runs.submission import resume
from mrd_core.samples import read
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.settings.installation import Settings
from mrd_core.studies.catalogue import Catalogue, Match, is_whole
from mrd_core.studies.cost import Cost, Costs, total
from mrd_core.studies.inputs import inputs
from mrd_core.studies.rows import Row

# Between two looks at runs that others carry out [s].
PAUSE = 1.0
# Runs that give a pace.
MOST_PAST = 200
SECONDS_PER_HOUR = 3600.0
# Its process ends with the run, and the study with it.
STOPPED = frozenset({RunState.CANCELLED, RunState.INTERRUPTED})


class Standing(StrEnum):
    """Where a run of a study stands."""

    EXISTS = "exists"
    UNDER_WAY = "under way"
    RESUMES = "resumes"
    TO_DO = "to do"
    FAILED = "failed"
    BLOCKED = "blocked"


# What still takes time.
LEFT = frozenset({Standing.UNDER_WAY, Standing.RESUMES, Standing.TO_DO})


@dataclass(frozen=True)
class Line:
    """A row of a study as it stands.

    Attributes:
        row: Of the study.
        standing: Where it stands.
        run: What the store has of it.
        cost: What is left to pay for it; nothing where it exists.
        reason: Why it failed or cannot be begun; "" where nothing is in its way.
    """

    row: Row
    standing: Standing
    run: Run | None
    cost: Cost
    reason: str = ""


@dataclass(frozen=True)
class Ending:
    """How carrying out a study ended.

    Attributes:
        lines: Its rows as they stand.
        stopped: State of the run that was stopped, and the study with it; None where none was.
        over_budget: The row that the budget had no room for; None where it had.
    """

    lines: list[Line]
    stopped: RunState | None = None
    over_budget: Row | None = None


class Course:
    """A study on its way.

    Args:
        name: What its runs carry as their study.
        rows: Its runs, each behind those that it builds on.
        store: Where runs are looked for and made.
        settings: Of the installation.
        pace: Operations per second for the estimates, in the place of that of earlier runs.
    """

    def __init__(
        self, name: str, rows: Sequence[Row], store: RunStore, settings: Settings, pace: float | None = None
    ) -> None:
        self._name, self._rows, self._store, self._settings = name, rows, store, settings
        self._catalogue = Catalogue(store)
        self._costs = Costs((), pace)
        # Of this course: why rows failed, and which runs it began.
        self._reasons: dict[Row, str] = {}
        self._begun: dict[Row, str] = {}

    def lines(self) -> list[Line]:
        """Return the rows as they stand."""
        self._catalogue.refresh()
        self._costs.learn(self._store.list(limit=MOST_PAST, states=[RunState.SUCCEEDED]))
        standings: dict[Row, Standing] = {}
        lines = []
        for row in self._rows:
            match = self._catalogue.find(row)
            standings[row] = self._standing(row, match, [standings[parent] for parent in row.parents])
            is_left = standings[row] in LEFT
            cost = self._cost(row) if is_left else Cost(0.0, "")
            run = match.run if match is not None else None
            lines.append(Line(row, standings[row], run, cost, self._reasons.get(row, "")))
        return lines

    def carry_out(
        self,
        launcher: Callable[[Kind], Launcher] | None,
        carry_out: Callable[[Path], object],
        say: Callable[[str], None],
        budget: float | None = None,
    ) -> Ending:
        """Make what is not there, row by row, and return how that ended.

        Args:
            launcher: Returns what starts the workers of a kind, of all rows that can begin at the same time; None
                carries them out here, one after the other.
            carry_out: Called with the directory of a run that is to be carried out here.
            say: Called with what is begun, for people.
            budget: Hours that runs may take in all; the first that would not fit any more ends it, and one of
                unknown cost is begun and said to be such. None: no end.
        """
        self._look_ahead(say)
        while True:
            self._store.reap()
            lines = self.lines()
            self._adopt(lines)
            ready = [line for line in lines if self._is_ready(line)]
            for line in ready if launcher else ready[:1]:
                if budget is not None and self._spent(lines, line) > budget * SECONDS_PER_HOUR:
                    return Ending(lines, over_budget=line.row)
                number = self._rows.index(line.row) + 1
                say(f"[{number}/{len(self._rows)}] {line.row.name}")
                if budget is not None and line.cost.seconds is None:
                    say(f"The budget may not hold: what this run takes is unknown ({line.cost.basis}).")
                run = self._begun_run(line, launcher)
                if run is not None and launcher is None and self._carried_out(line.row, run, carry_out) in STOPPED:
                    return Ending(self.lines(), stopped=self._store.get(run.id).state)
            if not ready:
                if not any(line.standing in LEFT for line in lines):
                    return Ending(lines)
                time.sleep(PAUSE)

    def _look_ahead(self, say: Callable[[str], None]) -> None:
        """Find the runs whose data cannot be read, before hours are spent on those that come before them."""
        why: dict[str, str] = {}
        for row in (line.row for line in self.lines() if line.standing is Standing.TO_DO):
            for key, read_input in inputs(row.config()):
                if key not in why:
                    why[key] = _refusal(read_input)
                if why[key]:
                    self._reasons[row] = why[key]
        for reason, count in Counter(self._reasons.values()).items():
            say(f"{count} of {len(self._rows)} runs cannot be begun, and are left out. {reason}")

    def _carried_out(self, row: Row, run: Run, carry_out: Callable[[Path], object]) -> RunState:
        """Carry a run out here, and return the state that it is in then."""
        try:
            carry_out(run.directory)
        except UserError as error:
            # Somebody else may have taken it up first.
            if self._store.get(run.id).state not in ACTIVE:
                self._reasons[row] = f"{error.cause} {error.fix}"
        return self._store.get(run.id).state

    def _standing(self, row: Row, match: Match | None, parents: Sequence[Standing]) -> Standing:
        if match is not None and is_whole(match.run):
            return Standing.EXISTS
        if row in self._reasons:
            return Standing.FAILED
        if {Standing.FAILED, Standing.BLOCKED} & set(parents):
            return Standing.BLOCKED
        if match is None:
            return Standing.TO_DO
        if match.run.state in ACTIVE and not was_killed(match.run):
            return Standing.UNDER_WAY
        if self._begun.get(row) == match.run.id and match.run.state not in ACTIVE:
            # It is not tried over and over again.
            error = match.run.error
            self._reasons[row] = f"{error.cause} {error.advice}" if error else f"It is {match.run.state}."
            return Standing.FAILED
        return Standing.RESUMES

    def _is_ready(self, line: Line) -> bool:
        """Tell whether a row can begin now: not before all that it builds on is there, nor while it is reaped."""
        if line.standing is Standing.TO_DO:
            return not line.row.parents or self._catalogue.links(line.row) is not None
        return line.standing is Standing.RESUMES and line.run is not None and line.run.state not in ACTIVE

    def _begun_run(self, line: Line, launcher: Callable[[Kind], Launcher] | None) -> Run | None:
        """Submit a row or resume its run; None, and its reason kept, where that is refused."""
        row = line.row
        start = launcher(kind_named(row.kind)) if launcher else None
        # Of two that carry out the same study one begins a run, and the other sees it.
        with FileLock(self._settings.home / "locks" / "studies.lock", fallback_to_soft=False):
            self._catalogue.refresh()
            match = self._catalogue.find(row)
            try:
                if match is None:
                    run = self._submitted(row, start)
                elif match.run.state in ACTIVE or is_whole(match.run):
                    return None
                else:
                    run = resume(match.run.id, store=self._store, launcher=start)
            except (UserError, OSError) as error:
                self._reasons[row] = _reason(error)
                return None
        self._begun[row] = run.id
        return self._store.annotate(run.id, study=self._name) if run.study is None else run

    def _submitted(self, row: Row, launcher: Launcher | None) -> Run:
        config = row.config(self._catalogue.links(row), self._name)
        more: dict[str, Any] = {}
        if isinstance(config, ScoreConfig):
            # The samples as they are now, and no others.
            forget_set = read(config.forget_set)
            config = config.model_copy(update={"forget_set_digest": forget_set.digest})
            more["prepare"] = lambda draft: forget_set.save(ScoreFiles(draft).samples)
        return submit(config, store=self._store, settings=self._settings, launcher=launcher, **more)

    def _adopt(self, lines: Sequence[Line]) -> None:
        """Give runs that stood for themselves the name of the study that they are a part of now."""
        for line in lines:
            if line.run is not None and line.run.study is None:
                self._store.annotate(line.run.id, study=self._name)

    def _cost(self, row: Row) -> Cost:
        links, parent = self._catalogue.links(row), row.score
        scored = self._catalogue.find(parent) if parent else None
        return self._costs.of(row, row.config(links), scored.run if scored else None)

    def _spent(self, lines: Sequence[Line], coming: Line) -> float:
        """Return the time that the runs of this course took or will take, and that of the next one [s]."""
        seconds = coming.cost.seconds or 0.0
        for line in lines:
            if line.row in self._begun:
                run, taken = self._store.get(self._begun[line.row]), 0.0
                if run.started_at is not None:
                    taken = ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds()
                # What is there already costs nothing more.
                seconds += max(taken, line.cost.seconds or 0.0)
        return seconds


def _refusal(read_input: Callable[[], object]) -> str:
    """Return why something cannot be read; "" where it can."""
    try:
        read_input()
    except (UserError, OSError) as error:
        return _reason(error)
    return ""


def _reason(error: BaseException) -> str:
    why = describe(error)
    return f"{why.cause} {why.advice}"


def left(lines: Sequence[Line]) -> Cost:
    """Return what the rows that are not there yet will cost."""
    return total([line.cost for line in lines if line.standing in LEFT])
