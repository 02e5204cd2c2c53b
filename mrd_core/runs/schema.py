"""Tables of the run store and the engine that reaches them: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic_core
from sqlalchemy import (
    JSON,
    URL,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from mrd_core.runs.failure import DISK_FULL_ERRNOS
from mrd_core.runs.faults import Matter, StoreError, explained
from mrd_core.runs.files import PRIVATE_FILE, PRIVATE_FOLDER
from mrd_core.runs.subject import subject_in
from mrd_core.settings.command import ROOT
from mrd_core.settings.installation import without_password

# In this order: the busy timeout must already hold when the switch to WAL meets another process.
# secure_delete overwrites what is deleted, since tracebacks and progress may quote a sample.
SQLITE_PRAGMAS = ("busy_timeout = 30000", "journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON")

# Number of the lock that PostgreSQL's tables are made under.
FIRST_TABLES = 7246
POSTGRES = ROOT / "requirements-postgres.txt"


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite has no time zones, so there it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert to UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return an aware datetime."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Word(TypeDecorator[str]):
    """A word of a closed list, kept as text: a word that this version does not know can be read, too."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return plain text; psycopg would store the name of an enumeration's member."""
        return None if value is None else str(value)


class Tags(TypeDecorator[tuple[str, ...]]):
    """Tags, kept as text with commas between them."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return one text; none for no tag."""
        return ",".join(value or ()) or None

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...]:  # noqa: ARG002
        """Return the tags."""
        return tuple(value.split(",")) if value else ()


METADATA = MetaData()
# Raised with every change of the tables; `_migrate` brings older stores there.
VERSION = 5

RUNS = Table(
    "runs",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("state", Word, nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("device", String(64), nullable=False),
    Column("directory", Text, nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("queued_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("host", Text),
    Column("pid", Integer),
    Column("pid_started", Double),
    Column("heartbeat_at", UtcTime),
    Column("progress", JSON(none_as_null=True), nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("summary", JSON(none_as_null=True)),
    # Directory of the score run that the run builds on.
    Column("score_run", Text),
    # Comparison that the run is a part of.
    Column("study", Text),
    # Boot and PID namespace of the worker.
    Column("system", Text),
    # State in which it was called lost.
    Column("lost_in", Word),
    # Scheduler that was given the run, and its id of the job.
    Column("launcher", Text),
    Column("job", Text),
    # What it is about, for lists; see `subject`.
    Column("model", Text),
    Column("forget_set", Text),
    Column("method", Text),
    # What people wrote on it.
    Column("tags", Tags),
    Column("note", Text),
    # A deleted run's place is never given out again.
    sqlite_autoincrement=True,
)

# One row.
SCHEMA = Table("schema_version", METADATA, Column("version", Integer, primary_key=True))

METRICS = Table(
    "metrics",
    METADATA,
    Column("rowid", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("name", String(64), nullable=False),
    # Null is NaN, which SQLite cannot hold.
    Column("value", Double),
    Index("metrics_of_run", "run_id", "rowid"),
    sqlite_autoincrement=True,
)

SAMPLE_UPDATES = Table(
    "sample_updates",
    METADATA,
    Column("rowid", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("step", Integer, nullable=False),
    Column("sample_id", Text, nullable=False),
    # Before the update; null where the step does not show it.
    Column("accuracy", Double),
    Column("trained", Boolean, nullable=False),
    Column("forgotten", Boolean, nullable=False),
    Index("sample_updates_of_run", "run_id", "rowid"),
    sqlite_autoincrement=True,
)

EVENTS = Table(
    "events",
    METADATA,
    Column("rowid", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Index("events_of_run", "run_id", "rowid"),
    sqlite_autoincrement=True,
)


def open_engine(url: str, home: Path, obstacle: StoreError | None = None) -> Engine:
    """Connect to the store at `url`, creating the SQLite file and the tables where they do not exist.

    Args:
        url: Of the store.
        home: Data root of the installation.
        obstacle: What every error is said to be; by default what it is.

    Raises:
        UserError: The URL is malformed, its driver is not installed, or the database cannot be opened.
    """
    try:
        engine = create_engine(
            url,
            json_serializer=_to_json,
            json_deserializer=_from_json,
            # A server may have come back since a connection was made.
            pool_pre_ping=True,
        )
        _explain_errors(engine, home, obstacle)
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        # IF NOT EXISTS rather than a look first: several workers may open a fresh store at the same moment.
        with engine.begin() as connection:
            if engine.dialect.name != "sqlite":
                # IF NOT EXISTS does not save PostgreSQL from two that begin at the same moment.
                connection.execute(select(func.pg_advisory_xact_lock(FIRST_TABLES)))
            for table in METADATA.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
        version = _version(engine)
        if version < VERSION:
            _migrate(engine)
    except ModuleNotFoundError as error:
        raise StoreError(
            "refused",
            f"the run store {without_password(url)}",
            f"Its driver is not installed ({error}).",
            f"Install it: `{sys.executable} -m pip install -r {POSTGRES}`, or unset MRD_STORE_URL.",
        ) from error
    except (ArgumentError, ValueError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        # It quotes what stands in the place of the port, which may be the end of a password.
        reason = "its address is malformed" if isinstance(error, ValueError) else reason
        matter: Matter = "refused"
        if isinstance(error, OSError):
            matter = "full" if error.errno in DISK_FULL_ERRNOS else "unwritable"
        raise StoreError(
            matter,
            f"the run store {without_password(url)}",
            f"It cannot be opened ({reason}).",
            "Set MRD_HOME to a folder you can write to, or MRD_STORE_URL to a database that is reachable.",
        ) from error
    if version > VERSION:
        raise StoreError(
            "newer",
            f"the run store {without_password(url)}",
            f"It was written by a newer version of this program (schema {version}; this one knows {VERSION}).",
            "Update the program, or set MRD_HOME or MRD_STORE_URL to another store.",
        )
    return engine


def open_copy(url: str, folder: Path, obstacle: StoreError) -> Engine:
    """Connect to a copy of a SQLite store in `folder`, to read what cannot be opened where it lies.

    Args:
        url: Of the store.
        folder: An empty one.
        obstacle: Raised by every attempt to write.
    """
    database = Path(make_url(url).database or "")
    if not database.is_file():
        raise obstacle
    try:
        for name in (database.name, f"{database.name}-wal"):
            if database.with_name(name).exists():
                shutil.copyfile(database.with_name(name), folder / name)
    except OSError as error:
        raise obstacle from error
    copy = URL.create("sqlite", database=str(folder / database.name))
    engine = open_engine(copy.render_as_string(), folder, obstacle)
    engine.dispose()

    @event.listens_for(engine, "connect")
    def forbid_writing(connection: Any, record: Any) -> None:  # noqa: ARG001
        connection.execute("PRAGMA query_only = ON")

    return engine


def hold_runs(connection: Connection) -> None:
    """Begin a transaction that no other process can write to the runs beside."""
    if connection.engine.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("LOCK TABLE runs IN EXCLUSIVE MODE"))


def empty_log(engine: Engine, patience: int = 0) -> bool:
    """Move SQLite's write-ahead log into its file, where what was deleted is overwritten; False where it stays.

    A reader that looks at the old pages keeps it from going.

    Args:
        engine: Of the store.
        patience: How long to wait for such readers [ms].
    """
    if engine.dialect.name != "sqlite":
        return True
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience}")
        try:
            busy, _pages, _moved = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        finally:
            connection.exec_driver_sql(f"PRAGMA {SQLITE_PRAGMAS[0]}")
    return not busy


def _explain_errors(engine: Engine, home: Path, obstacle: StoreError | None) -> None:
    """Turn what the database refuses into errors that a user can read."""

    @event.listens_for(engine, "handle_error")
    def explain(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        # A connection that fails its test before use is made anew.
        if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError) and not context.is_pre_ping:
            fault = obstacle or explained(engine.url, home, context.original_exception)
            raise fault from context.original_exception


def _to_json(content: Any) -> str:
    """Return content as JSON; PostgreSQL refuses NaN and Infinity in it."""
    return pydantic_core.to_json(content, inf_nan_mode="null").decode()


def _from_json(content: str | None) -> Any:
    """Return what a JSON text holds; None for what is none, so that one broken row hides no other."""
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None


def _version(connectable: Engine | Connection) -> int:
    """Return the version of the tables; 1 where none is written down, as before there were versions."""
    if isinstance(connectable, Engine):
        with connectable.connect() as connection:
            return _version(connection)
    return int(connectable.execute(select(func.max(SCHEMA.c.version))).scalar() or 1)


def _migrate(engine: Engine) -> None:
    """Add what an older store lacks: columns, all of them texts, and what runs' configurations say for them.

    One process does it, others wait.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE"))
        if _version(connection) < VERSION:
            there = {column["name"] for column in inspect(connection).get_columns("runs")}
            added = [column for column in RUNS.columns if column.name not in there]
            for column in added:
                connection.execute(text(f"ALTER TABLE runs ADD COLUMN {column.name} TEXT"))
            for run_id, directory in connection.execute(select(RUNS.c.id, RUNS.c.directory)).all():
                about = {name: text for name, text in subject_in(Path(directory)).items() if RUNS.c[name] in added}
                if about:
                    connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(about))
            connection.execute(delete(SCHEMA))
            connection.execute(insert(SCHEMA).values(version=VERSION))
        connection.commit()


def _prepare_sqlite(engine: Engine) -> None:
    if engine.url.database:
        path = Path(engine.url.database)
        path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        # SQLite gives the files beside it the same permissions.
        if not path.exists():
            path.touch(mode=PRIVATE_FILE)

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, record: Any) -> None:  # noqa: ARG001
        cursor = connection.cursor()
        for pragma in SQLITE_PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
