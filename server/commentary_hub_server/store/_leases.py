"""Leases: whoever is about to name an object keeps the collector away from it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Column, Connection, Engine, Float, String, Table, delete

from commentary_hub_server.store._database import metadata, upsert

LEASE_S = 24 * 3600

leases = Table(
    "object_leases",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("until", Float, nullable=False),  # seconds since the epoch
)


class Leases:
    """Who stores an object holds its key first; who collects one condemns its key. The database orders the two.

    After `hold` returned, an object that is found in the store stays there until the lease ends. While a key is
    condemned, `hold` of that key waits, and then finds the object gone.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def hold(self, keys: Iterable[str], seconds: float = LEASE_S) -> None:
        """Keep the objects of ``keys`` for a while; committed on return."""
        rows = [{"key": key, "until": time.time() + seconds} for key in sorted(set(keys))]
        if not rows:
            return
        statement = upsert(self._engine, leases)
        statement = statement.on_conflict_do_update(index_elements=["key"], set_={"until": statement.excluded.until})
        with self._engine.begin() as connection:
            connection.execute(statement, rows)

    @contextmanager
    def condemned(self, key: str) -> Iterator[Connection | None]:
        """A transaction in which nobody begins to hold ``key``; ``None`` where somebody does already."""
        with self._engine.begin() as connection:
            # One statement inserts or locks the row and reads it: between two, another process could delete it.
            row = upsert(connection, leases).values(key=key, until=0.0)
            row = row.on_conflict_do_update(index_elements=["key"], set_={"until": leases.c.until})
            until = connection.execute(row.returning(leases.c.until)).scalar_one()
            yield connection if until <= time.time() else None
            connection.execute(delete(leases).where(leases.c.key == key, leases.c.until <= time.time()))

    def forget_ended(self) -> None:
        """Delete the rows of leases that have ended."""
        with self._engine.begin() as connection:
            connection.execute(delete(leases).where(leases.c.until <= time.time()))
