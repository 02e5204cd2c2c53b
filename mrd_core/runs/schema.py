"""Tables of the run store and the engine that reaches them: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic_core
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Engine,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from mrd_core.errors import UserError
from mrd_core.runs.record import RunState

# In this order: the busy timeout must already hold when the switch to WAL meets another process.
# secure_delete overwrites what is deleted, since tracebacks and progress may quote a sample.
SQLITE_PRAGMAS = ("busy_timeout = 30000", "journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON")


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


METADATA = MetaData()
STATE = Enum(RunState, native_enum=False, length=16, values_callable=lambda states: [s.value for s in states])

RUNS = Table(
    "runs",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("state", STATE, nullable=False, index=True),
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
    # A deleted run's place is never given out again.
    sqlite_autoincrement=True,
)

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


def open_engine(url: str) -> Engine:
    """Connect to the store at `url`, creating the SQLite file and the tables where they do not exist.

    Raises:
        UserError: The URL is malformed, its driver is not installed, or the database cannot be opened.
    """
    try:
        engine = create_engine(url, json_serializer=_to_json)
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        _create_tables(engine)
    except (ArgumentError, DBAPIError, ModuleNotFoundError, OSError) as error:
        raise UserError(
            f"the run store {_without_password(url)}",
            f"It cannot be opened ({_first_line(error)}).",
            "Set MRD_HOME to a folder you can write to, or MRD_STORE_URL to a database that is reachable.",
        ) from error
    return engine


def _to_json(value: Any) -> str:
    # PostgreSQL refuses NaN and Infinity in JSON.
    return pydantic_core.to_json(value, inf_nan_mode="null").decode()


def _prepare_sqlite(engine: Engine) -> None:
    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, record: Any) -> None:  # noqa: ARG001
        cursor = connection.cursor()
        for pragma in SQLITE_PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _create_tables(engine: Engine) -> None:
    # IF NOT EXISTS rather than a look first: several workers may open a fresh store at the same moment.
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "named by MRD_STORE_URL"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
