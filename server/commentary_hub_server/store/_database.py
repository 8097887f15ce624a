"""The database: SQLite with a write-ahead log by default, PostgreSQL by its address; one set of tables for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, create_engine, event

metadata = MetaData()  # every room's tables register here


def connect(url: str) -> Engine:
    """An engine for ``sqlite:///path`` or ``postgresql://…``.

    SQLite: write-ahead log with full synchronisation (a commit that returned is on disk), foreign keys, and
    transactions that take the write lock when they begin, so that two writers wait for each other instead of failing.
    """
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def migrate(engine: Engine) -> None:
    """Bring the tables to this version's form; safe to call from several processes at start."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7243117)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event starts transactions, not the driver
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    readonly = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")
