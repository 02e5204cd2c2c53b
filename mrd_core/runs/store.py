"""The run store: what was submitted, where it stands, and the numbers it reports while it goes.

Every change of state is one conditional UPDATE, so that of two processes that want different things one wins
and the other is told. Statements are portable between SQLite and PostgreSQL. SQLite's WAL mode needs a local
disk: on a network file system use PostgreSQL.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from sqlalchemy import ColumnElement, Engine, Insert, Table, and_, delete, func, insert, or_, select, update

from mrd_core.errors import UserError
from mrd_core.runs import directory as run_directory
from mrd_core.runs import last_words
from mrd_core.runs.faults import StoreError, broken_page, name_of
from mrd_core.runs.files import LOG_FILE
from mrd_core.runs.kind import is_known, kind_named
from mrd_core.runs.launchers import watch
from mrd_core.runs.launchers.port import Job, JobState
from mrd_core.runs.liveness import STALE, ProcessIdentity, has_live_worker, is_gone, on_this_system
from mrd_core.runs.record import (
    ACTIVE,
    EDGES,
    RESUMABLE,
    TERMINAL,
    Run,
    RunError,
    RunState,
    require_legal,
    sources_of,
)
from mrd_core.runs.schema import (
    EVENTS,
    METRICS,
    RUNS,
    SAMPLE_UPDATES,
    empty_log,
    hold_runs,
    open_copy,
    open_engine,
)
from mrd_core.settings.command import shown
from mrd_core.settings.configuration import RunConfig
from mrd_core.settings.installation import STORE_FILE, Settings
from mrd_core.settings.places import home, working_directory

Level = Literal["info", "warning", "error"]


class Metric(NamedTuple):
    """A named value at a step."""

    step: int
    name: str
    value: float


class SampleUpdate(NamedTuple):
    """A sample that was drawn at a step.

    Attributes:
        accuracy: Its MA before the update; NaN where the step does not show it.
        trained: Whether the weights were moved for it.
        forgotten: Whether it was forgotten already.
    """

    step: int
    sample_id: str
    accuracy: float
    trained: bool
    forgotten: bool


# How long a deletion waits for readers of what it deletes [ms].
LOG_PATIENCE = 2000

# What is no longer true of a run that was called lost when it is not.
_FOUND: dict[str, Any] = {"error": None, "finished_at": None, "lost_in": None}

Runs = list[Run]
Conditions = list[ColumnElement[bool]]


# As `new_run_id` makes them, and as earlier versions did, with four digits at the end.
RUN_ID = re.compile(r"\d{8}-\d{6}-(?:[0-9a-f]{4}){1,2}")


def new_run_id() -> str:
    """Return an id that sorts by the second of submission [UTC]: `20261121-074655-ab12cd34`."""
    return f"{_now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


class RunStore:
    """Runs, their metrics and their events. Safe to use from several threads and processes.

    Args:
        engine: The database, with its tables.
        home: Data root of this installation, where the locks of the devices lie.

    Attributes:
        obstacle: Why this is a copy that can only be read; None where it is the store itself.
    """

    def __init__(self, engine: Engine, home: Path) -> None:
        self._engine = engine
        self.home = home
        self.obstacle: StoreError | None = None
        self._url = ""

    @classmethod
    def open(cls, settings: Settings | None = None) -> RunStore:
        """Open the store that `settings` (default: the environment) names, creating it at first use.

        Where the disk is full or the file cannot be written, a copy is opened that can only be read.

        Raises:
            StoreError: It cannot be opened.
        """
        settings = settings or Settings.from_environment()
        try:
            return cls(open_engine(settings.store_url, settings.home), settings.home)
        except StoreError as error:
            if error.matter not in ("full", "unwritable"):
                raise
            return cls.read_only(settings, error)

    @property
    def name(self) -> str:
        """What people call it: `the run store /home/me/.mrd-lens/store.db`."""
        return name_of(self._engine.url)

    @property
    def write_ahead_log(self) -> Path:
        """SQLite's, where what was deleted may still stand."""
        return Path(f"{self._engine.url.database}-wal")

    @classmethod
    def read_only(cls, settings: Settings, obstacle: StoreError) -> RunStore:
        """Open a copy of a store that can be read; whoever would write to it is told the obstacle.

        Raises:
            StoreError: There is no store, or no room for a copy.
        """
        # The folder of the copy is removed with the store that reads it.
        folder = None
        for place in (None, "/dev/shm"):
            with suppress(OSError):
                folder = folder or tempfile.TemporaryDirectory(prefix="mrd-store-", dir=place)
        if folder is None:
            raise obstacle
        store = cls(open_copy(settings.store_url, Path(folder.name), obstacle), settings.home)
        weakref.finalize(store, folder.cleanup)
        store.obstacle, store._url = obstacle, settings.store_url
        return store

    def create(
        self,
        kind: str,
        title: str,
        device: str,
        directory: Path,
        run_id: str | None = None,
        *,
        score_run: Path | str | None = None,
        **more: Any,
    ) -> Run:
        """Add a run at the end of its device's queue; its values are those of `Run`.

        Args:
            more: What it is about and, of a run that has ended already, its state, its summary, and its times
                where they are known.

        Raises:
            sqlalchemy.exc.IntegrityError: The id or the directory belongs to another run.
        """
        now = _now()
        values = {
            "id": run_id or new_run_id(),
            "kind": kind,
            "title": title,
            "state": RunState.QUEUED,
            "attempt": 1,
            "device": device,
            "directory": str(directory.resolve()),
            "created_at": now,
            "queued_at": now,
            "progress": {},
            "score_run": None if score_run is None else str(Path(score_run).resolve()),
        }
        with self._engine.begin() as connection:
            connection.execute(insert(RUNS).values(values | more))
        return self.get(str(values["id"]))

    def get(self, run_id: str) -> Run:
        """Return the run with this id, or the only one whose id begins so.

        Raises:
            UserError: No run, or more than one, fits, or the id is empty.
        """
        if not run_id.strip():
            raise UserError("The id of the run", "is empty.", "`mrd-lens runs list` shows the ids.")
        runs = self._select(RUNS.c.id.startswith(run_id, autoescape=True))
        runs = [run for run in runs if run.id == run_id] or runs
        if len(runs) == 1:
            return runs[0]
        if not runs:
            raise UserError(f"run {run_id}", "There is no such run.", "`mrd-lens runs list` shows them.")
        ids = ", ".join(run.id for run in runs[:5])
        raise UserError(f"run {run_id}", f"{len(runs)} runs begin so ({ids}).", "Give more of the id.")

    def find_by_directory(self, path: Path) -> Run | None:
        """Return the run that lives in the directory `path`, if there is one."""
        return next(iter(self._select(RUNS.c.directory == str(path.resolve()))), None)

    def list(
        self,
        limit: int | None = None,
        *,
        states: Iterable[RunState] | None = None,
        kinds: Iterable[str] | None = None,
        score_run: Run | None = None,
    ) -> Runs:
        """Return runs, newest first.

        Args:
            limit: Most runs.
            states: Only runs in one of these.
            kinds: Only runs of these kinds.
            score_run: Only runs that build on this one, those left out whose directory was removed by hand.
        """
        conditions: Conditions = [] if states is None else [RUNS.c.state.in_(set(states))]
        conditions += [] if kinds is None else [RUNS.c.kind.in_(set(kinds))]
        conditions += [] if score_run is None else [RUNS.c.score_run == str(score_run.directory)]
        runs = self._select(*conditions, limit=limit)
        return runs if score_run is None else [run for run in runs if run.directory.is_dir()]

    def transition(
        self, run_id: str, to: RunState, *, expected: Set[RunState] | RunState, attempt: int | None = None
    ) -> bool:
        """Move a run to `to` if it is in an `expected` state (and at this attempt); say whether it was.

        Raises:
            ValueError: There is no edge from one of the `expected` states to `to`.
        """
        sources = {expected} if isinstance(expected, RunState) else expected
        return self._move(run_id, to, sources, attempt)

    def finish(
        self,
        run_id: str,
        state: RunState,
        error: RunError | None = None,
        summary: Mapping[str, Any] | None = None,
        attempt: int | None = None,
    ) -> bool:
        """Move a run to a terminal state with its error or summary; False where it could not go there."""
        return self._move(
            run_id,
            state,
            sources_of(state),
            attempt,
            error=asdict(error) if error else None,
            summary=dict(summary) if summary is not None else None,
        )

    def claim(self, run: Run, process: ProcessIdentity) -> bool:
        """Make `process` the worker of a queued run; False when another was first or the run moved on."""
        holder = {
            "host": process.host,
            "system": process.system,
            "pid": process.pid,
            "pid_started": process.started,
            "heartbeat_at": _now(),
        }
        # One that found no worker in time may have one that was slow to begin.
        late = and_(RUNS.c.state == RunState.LOST, RUNS.c.lost_in == RunState.QUEUED)
        return self._update(
            run.id,
            holder | _FOUND | {"state": RunState.QUEUED},
            or_(RUNS.c.state == RunState.QUEUED, late),
            RUNS.c.attempt == run.attempt,
            RUNS.c.pid.is_(None),
        )

    def resume(self, run_id: str, *, anew: bool = False) -> Run:
        """Queue a run that ended early again, as its next attempt; its place in the order is kept.

        Args:
            run_id: Of the run.
            anew: Whether one that succeeded may go on as well: somebody removed its results.

        Raises:
            UserError: The run is in another state, or its config.json is gone.
        """
        run = self.get(run_id)
        _refuse_to_overtake(run)
        run_directory.read_config(run.directory, RunConfig)
        queued = _queued_again(run) | {"launcher": None, "job": None}
        states = RESUMABLE | {RunState.SUCCEEDED} if anew else RESUMABLE
        event = _event(run.id, "info", f"Resumed as attempt {run.attempt + 1}.")
        if not self._update(run.id, queued, RUNS.c.state.in_(states), RUNS.c.attempt == run.attempt, event=event):
            state = self.get(run.id).state
            ended = "Submit its config.json as a new run instead."
            raise _not_known(run) or UserError(
                f"run {run.id}",
                f"It is {state}, and only a run that ended early can be resumed.",
                f"Cancel it first: `mrd-lens runs cancel {run.id}`." if state in ACTIVE else ended,
            )
        return self.get(run.id)

    def put_back(self, run: Run, why: RunError) -> bool:
        """Take back the resume of a run whose worker could not be started; False where it has moved on since.

        Args:
            run: As it was before it was resumed.
            why: What kept its worker from starting.
        """
        names = (*_queued_again(run), "launcher", "job")
        before = {name: getattr(run, name) for name in names} | {"error": asdict(run.error) if run.error else None}
        return self._update(
            run.id,
            before,
            RUNS.c.state == RunState.QUEUED,
            RUNS.c.attempt == run.attempt + 1,
            RUNS.c.pid.is_(None),
            event=_event(run.id, "error", f"Attempt {run.attempt + 1} did not begin: {why.cause} {why.advice}"),
        )

    def request_cancel(self, run_id: str) -> RunState:
        """Ask a run to stop and return its state; a queued run without a worker is cancelled at once.

        A run that has ended stays as it is.
        """
        run = self.get(run_id)
        waits_alone = run.state is RunState.QUEUED and not has_live_worker(run)
        if waits_alone and self.transition(run.id, RunState.CANCELLED, expected=RunState.QUEUED):
            watch.cancel(run)
            return RunState.CANCELLED
        # A quick worker may have stopped by the time its state could be read again.
        if self.transition(run.id, RunState.CANCELLING, expected=sources_of(RunState.CANCELLING)):
            return RunState.CANCELLING
        return self.get(run.id).state

    def heartbeat(self, run_id: str, attempt: int | None = None) -> bool:
        """Note that the worker is alive; False when the run has ended or is at another attempt.

        A run that was called lost by mistake goes back to where it was: an attempt has one worker.
        """
        beat: dict[str, Any] = {"heartbeat_at": _now()}

        def alive() -> bool:
            return self._update(run_id, beat, RUNS.c.state.in_(ACTIVE), *_at_attempt(attempt))

        def taken_back() -> bool:
            return self._update(
                run_id,
                beat | _FOUND | {"state": RUNS.c.lost_in},
                RUNS.c.state == RunState.LOST,
                RUNS.c.lost_in.is_not(None),
                *_at_attempt(attempt),
                event=_event(run_id, "info", "It was called lost, but its worker is still at work."),
            )

        # Another thread of the worker may take it back between the two looks.
        return alive() or (attempt is not None and (taken_back() or alive()))

    def set_progress(self, run_id: str, progress: Mapping[str, Any], attempt: int | None = None) -> bool:
        """Replace the progress of an active run, a sign of life; False when it ended or is at another attempt."""
        values = {"progress": dict(progress), "heartbeat_at": _now()}
        return self._update(run_id, values, RUNS.c.state.in_(ACTIVE), *_at_attempt(attempt))

    def queue_place(self, run_id: str) -> int:
        """Return the run's place in the queue of its machine's device: 1 is next, 0 does not wait."""
        run = self.get(run_id)
        if run.state is not RunState.QUEUED:
            return 0
        ahead = (
            select(func.count())
            .select_from(RUNS)
            .where(RUNS.c.device == run.device, RUNS.c.state == RunState.QUEUED, RUNS.c.seq < run.seq)
            # Machines that share a store have devices of their own; whose an unclaimed run takes is not known yet.
            .where(or_(RUNS.c.host.is_(None), RUNS.c.host == run.host))
            # Those wait for what their scheduler gives them.
            .where(RUNS.c.launcher.is_(None))
        )
        with self._engine.connect() as connection:
            return 1 + int(connection.execute(ahead).scalar_one())

    def reap(self) -> Runs:
        """Mark as lost, and return, the active runs whose worker is gone.

        One whose worker could not tell the store how it ended has failed of what it wrote down instead, and one
        whose job its scheduler ended is told so, and waits once more where the job does. What kills left of
        submissions is removed, too.
        """
        run_directory.sweep(self.home / "runs")
        lost = []
        for run in filter(is_gone, self._select(RUNS.c.state.in_(ACTIVE))):
            job = watch.job_of(run)
            if job and job.is_alive and not (run.pid and job.state is JobState.WAITING):
                continue
            # A claim or a heartbeat that came in since the row was read saves the run.
            silent = RUNS.c.heartbeat_at.is_not_distinct_from(run.heartbeat_at)
            left = last_words.read(run.directory, run.attempt)
            to, error = (RunState.FAILED, left) if left else _loss(run, job)
            values = {"error": asdict(error), "lost_in": run.state if to is RunState.LOST else None}
            event = _event(run.id, "error", error.cause)
            if self._move(run.id, to, {run.state}, run.attempt, silent, event=event, **values):
                lost.append(self.get(run.id))
        self._reconcile()
        return lost

    def _reconcile(self) -> None:
        """Let runs that were interrupted wait with their jobs, or say how their scheduler ended them."""
        ended = RUNS.c.state.in_({RunState.INTERRUPTED, RunState.LOST})
        for run in self._select(ended, RUNS.c.job.is_not(None)):
            job = watch.job_of(run)
            same = (RUNS.c.state == run.state, RUNS.c.attempt == run.attempt)
            if job and job.state is JobState.WAITING:
                event = _event(run.id, "info", f"{job.name} waits in the queue again.")
                self._update(run.id, _queued_again(run), *same, event=event)
            elif job and not job.is_alive:
                # Said once: from now on the run has no job.
                values: dict[str, Any] = {"job": None}
                if run.error is None and job.state not in (JobState.COMPLETED, JobState.FAILED, JobState.GONE):
                    values["error"] = asdict(_end_of(run, job))
                self._update(run.id, values, *same)

    def assign(self, run_id: str, launcher: str, job: str) -> None:
        """Note that a scheduler was given a run, and its id of the job."""
        self._update(run_id, {"launcher": launcher, "job": job})

    def add_metrics(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Append one row for each named value at `step`."""
        self.add_steps(run_id, [Metric(step, name, value) for name, value in values.items()], [])

    def metrics(self, run_id: str, after: int = 0) -> pd.DataFrame:
        """Return the rows written after row id `after`: rowid, step, name, value, oldest first."""
        dtypes = {"rowid": "int64", "step": "int64", "name": "str", "value": "float64"}
        return self._log(METRICS, run_id, after, dtypes)

    def add_steps(self, run_id: str, metrics: Iterable[Metric], updates: Iterable[SampleUpdate]) -> None:
        """Append the rows of several steps at once."""
        values = [
            {"run_id": run_id, "step": row.step, "name": row.name, "value": _number(row.value)} for row in metrics
        ]
        drawn = [{"run_id": run_id} | row._asdict() | {"accuracy": _number(row.accuracy)} for row in updates]
        with self._engine.begin() as connection:
            for table, rows in ((METRICS, values), (SAMPLE_UPDATES, drawn)):
                if rows:
                    connection.execute(insert(table), rows)

    def sample_updates(self, run_id: str, after: int = 0) -> pd.DataFrame:
        """Return the draws written after row id `after`, oldest first.

        Columns: rowid, step, sample_id, accuracy (MA before the update; NaN where not shown), trained, forgotten.
        """
        dtypes = {
            "rowid": "int64",
            "step": "int64",
            "sample_id": "str",
            "accuracy": "float64",
            "trained": "bool",
            "forgotten": "bool",
        }
        return self._log(SAMPLE_UPDATES, run_id, after, dtypes)

    def forget_steps(self, run_id: str, after: int) -> None:
        """Remove what a run reported of steps after step `after`, which it will take once more."""
        with self._engine.begin() as connection:
            for table in (METRICS, SAMPLE_UPDATES):
                connection.execute(delete(table).where(table.c.run_id == run_id, table.c.step > after))

    def add_event(self, run_id: str, level: Level, message: str) -> None:
        """Append one event, at the present time."""
        with self._engine.begin() as connection:
            connection.execute(_event(run_id, level, message))

    def events(self, run_id: str, after: int = 0) -> pd.DataFrame:
        """Return the rows written after row id `after`: rowid, at [UTC], level, message, oldest first."""
        dtypes = {"rowid": "int64", "at": "datetime64[us, UTC]", "level": "str", "message": "str"}
        return self._log(EVENTS, run_id, after, dtypes)

    def annotate(self, run_id: str, **values: Any) -> Run:
        """Change what people wrote on a run (title, tags, note), and return it."""
        self._update(run_id, values)
        return self.get(run_id)

    def delete(self, *run_ids: str) -> None:
        """Remove runs that have ended: their directories with texts, checkpoints and log, then all their rows.

        Runs that build on one and lie in its directory (characteristics) go with it.

        Raises:
            UserError: Nothing is removed: there is no such run, or one of several has not ended. Or a run in a
                directory is active, or a directory is not one that may be removed; those before it are.
        """
        runs = [self.get(run_id) for run_id in run_ids]
        for run in runs:
            _refuse_at_work(run)
            if run.state in ACTIVE:
                raise _not_ended(run)
        for run in runs:
            # It may have gone with one that it lay in.
            if self._select(RUNS.c.id == run.id):
                self._delete(run)

    def _delete(self, run: Run) -> None:
        for inner in self._select(RUNS.c.score_run == str(run.directory)):
            if inner.directory.is_relative_to(run.directory):
                self.delete(inner.id)
        if self.obstacle:
            self._make_space(run)
        with self._engine.connect() as connection:
            # Files go first: on a full disk there is no room for the rows. No resume can come in between.
            hold_runs(connection)
            if connection.scalar(select(RUNS.c.state).where(RUNS.c.id == run.id)) not in TERMINAL:
                raise _not_known(run) or _not_ended(run)
            self._remove_files(run)
            for table in (METRICS, SAMPLE_UPDATES, EVENTS):
                connection.execute(delete(table).where(table.c.run_id == run.id))
            connection.execute(delete(RUNS).where(RUNS.c.id == run.id))
            connection.commit()
        self.empty_log(LOG_PATIENCE)

    def empty_log(self, patience: int = 0) -> bool:
        """Overwrite what was deleted where it may still stand, in SQLite's log; False while somebody reads it.

        Args:
            patience: How long to wait for readers [ms].
        """
        return self.obstacle is not None or empty_log(self._engine, patience)

    def damage(self) -> str:
        """Return what is broken in the store's file, as SQLite says it; "" where nothing is."""
        return broken_page(self._engine.url)

    def score_run_of(self, run: Run) -> Run:
        """Return the score run that another run builds on; the run itself where it builds on none.

        Raises:
            UserError: The store does not know it.
        """
        if run.score_run is None:
            return run
        scored = self.find_by_directory(run.score_run)
        if scored is None:
            raise UserError(
                f"The score run in {run.score_run}",
                "is not in this store.",
                "Register it with `mrd-lens run` on its directory.",
            )
        return scored

    def _make_space(self, run: Run) -> None:
        """Remove the files of a run that has ended from a full disk, so that the store can be opened."""
        obstacle = self.obstacle
        if obstacle and obstacle.matter != "full":
            raise obstacle
        if run.state not in TERMINAL:
            raise _not_ended(run)
        self._remove_files(run)
        self._engine, self.obstacle = open_engine(self._url, self.home), None

    def _remove_files(self, run: Run) -> None:
        self._refuse_in_another_home(run)
        self._refuse_to_remove_more(run)
        own = run.directory.is_relative_to(self.home / "runs")
        names = [] if own else [artifact.path for artifact in kind_named(run.kind).artifacts.values()]
        run_directory.remove(run.directory, only=None if own else names)

    def _refuse_in_another_home(self, run: Run) -> None:
        # Rows hold absolute paths, so the store of a copied home knows the runs of the original.
        own = {self.home.resolve() / STORE_FILE, Path(self._engine.url.database or "").resolve()}
        around = [folder.parent for folder in run.directory.resolve().parents if folder.name == "runs"]
        stores = [folder / STORE_FILE for folder in around]
        nearest = next((store for store in stores if store in own or store.exists()), None)
        if nearest and nearest not in own and run.directory.exists():
            there = f"MRD_HOME={shlex.quote(str(nearest.parent))} {shown('runs', 'delete', run.id)}"
            raise UserError(
                str(run.directory),
                f"It lies among the runs of another home, {nearest.parent}, which has a store of its own.",
                f"Delete it there: `{there}`. A copied home takes up its own runs once its {STORE_FILE} is moved "
                f"away: `{shown('runs', 'adopt', self.home / 'runs')}`.",
            )

    def _refuse_to_remove_more(self, run: Run) -> None:
        others = {other.directory for other in self._select() if other.id != run.id}
        kept = [*others, home(), working_directory(), self.home]
        endangered = [path for path in kept if path and path.is_relative_to(run.directory)]
        if endangered:
            raise UserError(
                str(run.directory),
                f"More than this run lies there ({endangered[0]}).",
                "Move what you want to keep elsewhere, or remove the run's own files by hand.",
            )

    def _move(
        self,
        run_id: str,
        to: RunState,
        sources: Set[RunState],
        attempt: int | None,
        *conditions: ColumnElement[bool],
        event: Insert | None = None,
        **values: Any,
    ) -> bool:
        require_legal(to, sources)
        values["state"] = to
        if to is RunState.STARTING:
            values["started_at"] = _now()
        if to in TERMINAL:
            values["finished_at"] = _now()
        return self._update(
            run_id, values, RUNS.c.state.in_(sources), *_at_attempt(attempt), *conditions, event=event
        )

    def _update(
        self, run_id: str, values: Mapping[str, Any], *conditions: ColumnElement[bool], event: Insert | None = None
    ) -> bool:
        """Change a run's row where the conditions hold; its event is seen with the change or not at all."""
        with self._engine.begin() as connection:
            changed = connection.execute(update(RUNS).where(RUNS.c.id == run_id, *conditions).values(dict(values)))
            if changed.rowcount == 1 and event is not None:
                connection.execute(event)
            return changed.rowcount == 1

    def _select(self, *conditions: ColumnElement[bool], limit: int | None = None) -> Runs:
        query = select(RUNS).where(*conditions).order_by(RUNS.c.seq.desc()).limit(limit)
        with self._engine.connect() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        return [_run_of(values) for values in rows]

    def _log(self, table: Table, run_id: str, after: int, dtypes: Mapping[str, str]) -> pd.DataFrame:
        """Return some columns of what a run wrote after row id `after`, oldest first."""
        query = select(*(table.c[name] for name in dtypes)).order_by(table.c.rowid)
        query = query.where(table.c.run_id == run_id, table.c.rowid > after)
        with self._engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(query)]
        return pd.DataFrame(rows, columns=pd.Index(dtypes)).astype(dict(dtypes))


def _number(value: float) -> float | None:
    # SQLite has no NaN.
    return None if math.isnan(value) else value


def _event(run_id: str, level: Level, message: str) -> Insert:
    return insert(EVENTS).values(run_id=run_id, at=_now(), level=level, message=message)


def _now() -> datetime:
    return datetime.now(UTC)


def _at_attempt(attempt: int | None) -> tuple[ColumnElement[bool], ...]:
    return () if attempt is None else (RUNS.c.attempt == attempt,)


def _refuse_at_work(run: Run) -> None:
    if run.state is RunState.LOST and has_live_worker(run):
        raise UserError(
            f"run {run.id}",
            f"It was called lost, but its worker (process {run.pid} on {run.host}) is still at work.",
            f"Wait until it takes the run up again, or cancel it then: `mrd-lens runs cancel {run.id}`.",
        )


def _run_of(values: dict[str, Any]) -> Run:
    """Return a row as a run; one that this version cannot read has the state `unknown`, and says why."""
    unknown = {"state": values["state"] not in set(RunState), "kind": not is_known(values["kind"])}
    strange = [f"the {name} '{values[name]}'" for name in unknown if unknown[name]]
    if strange:
        cause = f"This version of the program does not know {' and '.join(strange)}."
        values |= {"state": RunState.UNKNOWN, "error": asdict(RunError("Unknown", cause, "Update the program."))}
    error, lost_in = values["error"], values["lost_in"]
    links = {name: Path(values[name]) if values[name] else None for name in ("directory", "score_run")}
    return Run(
        **values
        | links
        | {
            "state": RunState(values["state"]),
            "lost_in": RunState(lost_in) if lost_in in set(RunState) else None,
            "progress": values["progress"] or {},
            "error": RunError(**error) if error else None,
        }
    )


def _not_ended(run: Run) -> UserError:
    fix = f"Cancel it first: `mrd-lens runs cancel {run.id}`."
    return UserError(f"run {run.id}", "It has not ended, so its files are in use.", fix)


def _not_known(run: Run) -> UserError | None:
    if run.state is RunState.UNKNOWN and run.error:
        return UserError(f"run {run.id}", run.error.cause, run.error.advice)
    return None


def _queued_again(run: Run) -> dict[str, Any]:
    """Return what a run's row says when it waits for its next attempt."""
    worker = ("started_at", "finished_at", "host", "system", "pid", "pid_started", "heartbeat_at")
    fresh = dict.fromkeys((*worker, "error", "summary", "lost_in"))
    return fresh | {"state": RunState.QUEUED, "attempt": run.attempt + 1, "queued_at": _now(), "progress": {}}


def _refuse_to_overtake(run: Run) -> None:
    """Refuse a second worker for a run whose job takes it up again by itself."""
    job = watch.job_of(run) if run.state in RESUMABLE else None
    if job and job.state is JobState.WAITING:
        raise UserError(
            f"run {run.id}",
            f"{job.name} waits in the queue and takes it up again by itself.",
            f"Wait for it, or cancel it first: `mrd-lens runs cancel {run.id}`.",
        )


def _end_of(run: Run, job: Job) -> RunError:
    """Return what is to be said of a job that its scheduler ended."""
    words = f" ({said})" if (said := watch.last_words(run)) else ""
    advice = {
        JobState.TIMED_OUT: "Resume the run with more --minutes.",
        JobState.OUT_OF_MEMORY: "Resume the run with more --memory, or use a smaller batch.",
        JobState.NODE_LOST: "Resume the run; --sbatch exclude=NODE keeps it from that node.",
    }
    return RunError(job.engine, f"{job.name} was {job.state}{words}.", advice.get(job.state, "Resume the run."))


# A job that ended so stopped the run; it has not lost its worker for reasons unknown.
_STOPPED = {JobState.CANCELLED, JobState.TIMED_OUT, JobState.PREEMPTED, JobState.NODE_LOST}


def _loss(run: Run, job: Job | None) -> tuple[RunState, RunError]:
    """Return what becomes of a run whose worker is gone, and what is to be said of it."""
    if job is None or job.state in (JobState.GONE, JobState.COMPLETED, JobState.FAILED):
        return RunState.LOST, _silence(run, job)
    if job.state is JobState.WAITING:
        cause = f"{job.name} was taken from its node and waits in the queue again."
        return RunState.INTERRUPTED, RunError(job.engine, cause, "It goes on by itself.")
    if job.state is JobState.CANCELLED and run.state is RunState.QUEUED:
        return RunState.CANCELLED, _end_of(run, job)
    if job.state in _STOPPED and RunState.INTERRUPTED in EDGES[run.state]:
        return RunState.INTERRUPTED, _end_of(run, job)
    return RunState.FAILED, _end_of(run, job)


def _silence(run: Run, job: Job | None) -> RunError:
    if job and (words := watch.last_words(run) or job.detail):
        cause, advice = f"{job.name} {job.state}: {words}.", "See to the cause, then resume the run."
    elif run.pid is None:
        cause = "No worker took the run up."
        advice = f"Look into {run.directory / LOG_FILE}, then resume the run."
    elif on_this_system(run):
        cause = f"The worker (process {run.pid} on {run.host}) ended without a word."
        advice = (
            "It was killed, or the system ran out of memory: free some memory or use a smaller batch, "
            "then resume the run."
        )
    else:
        cause = f"No sign of life from {run.host} for more than {STALE.total_seconds():.0f} seconds."
        advice = "See whether that machine is up, then resume the run."
    return RunError("Lost", cause, advice)
