"""The database: SQLite with a write-ahead log by default, PostgreSQL by its address; one set of tables for both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from commentary_hub.errors import HubConflict

_START = 7243117  # the number of our advisory locks
metadata = MetaData()  # every room's tables register here


def connect(url: str) -> Engine:
    """An engine for ``sqlite:///path`` or ``postgresql://…``.

    SQLite: write-ahead log with full synchronisation (a commit that returned is on disk), foreign keys, and
    transactions that take the write lock when they begin, so that two writers wait for each other instead of failing.
    Its ``lower()`` is Python's: no index may be made of it, which other programs could not read.
    """
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
    if url.startswith("sqlite:///") and not url.endswith((":memory:", "/")):
        private_file(Path(url.removeprefix("sqlite:///")))
    # What was to be stored, private texts and hashes of secrets, is in no error and so in no log.
    engine = create_engine(url, pool_pre_ping=True, pool_size=16, max_overflow=32, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def private_file(path: Path) -> None:
    """Make a file that only its owner reads, where there is none: it will hold accounts, private cards and logs."""
    if path.parent.is_dir():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the tables to this version's form (or an older one's); safe to call from several processes at start."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with one_at_a_time(engine), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@contextmanager
def one_at_a_time(engine: Engine) -> Iterator[None]:
    """Several processes that start at once make tables one after the other (SQLite's write lock does it by itself)."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_START})")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_START})")


def in_turn(connection: Connection, name: str) -> None:
    """Let transactions that ask for the same name wait for each other, until they end.

    What they read afterwards is what the one before them left (SQLite's write lock does it by itself).
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:ours, hashtext(:name))"), {"ours": _START, "name": name})


def upsert(connection: Connection | Engine, table: Table) -> Any:
    """An ``INSERT`` that can say what happens ``on_conflict_do_nothing`` or ``…_do_update``, in either database."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


@contextmanager
def taken(message: str, **facts: Any) -> Iterator[None]:
    """What the database refuses as taken (two requests ran at once) is the `HubConflict` that one alone would get."""
    try:
        yield
    except IntegrityError as error:
        raise HubConflict(message, **facts) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event starts transactions, not the driver
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: Any) -> Any:
    """SQLite's own knows A to Z alone: what begins with É would be found under no spelling."""
    return value.lower() if isinstance(value, str) else value


def _begin_sqlite(connection: Any) -> None:
    readonly = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")
