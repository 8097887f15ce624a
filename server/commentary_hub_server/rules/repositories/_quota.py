"""How much an owner's repositories may hold: the one place that says no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from sqlalchemy import Connection, Engine, func, select

from commentary_hub.errors import HubConflict
from commentary_hub_server.rules.repositories.tables import holdings, repositories
from commentary_hub_server.store import in_turn


class Quota:
    """Counts what an owner's repositories hold, and what is on its way to them.

    Who is about to store asks `demand` first, to be told early. Who notes bytes asks again in the transaction that
    notes them, and there the owner's transactions wait for each other: so their sum never passes the limit, however
    many workers note at once, and nothing is left behind by who gives up.

    ``limit``: owner → bytes allowed, ``None`` for no limit. ``xorbs`` and ``parts``: numbers of repositories → stored
    bytes of what they uploaded by Xet, and of uploads in parts that are not complete.
    """

    def __init__(
        self,
        engine: Engine,
        limit: Callable[[str], int | None],
        xorbs: Callable[[Connection, Sequence[int]], int],
        parts: Callable[[Sequence[int]], int],
    ) -> None:
        self._reads = engine.execution_options(read_only=True)
        self._limit, self._xorbs, self._parts = limit, xorbs, parts

    def demand(
        self,
        owner: str,
        more_bytes: int = 0,
        *,
        arriving: bool = False,
        parts: bool = False,
        connection: Connection | None = None,
    ) -> None:
        """Refuse (`HubConflict` with status 403) what the owner has no room for.

        With ``arriving`` what was uploaded and is not yet a file counts too. With the ``connection`` of a transaction
        that has noted the bytes, this is the last word; parts, which no database knows, count there only where
        ``parts`` says so: those of the object that has just been noted are still there.
        """
        limit = self._limit(owner)
        if limit is None:
            return
        with self._reads.connect() if connection is None else nullcontext(connection) as reads:
            if connection is not None:
                in_turn(connection, f"quota of {owner.lower()}")
            sizes = reads.execute(
                select(repositories.c.id, repositories.c.size_bytes).where(repositories.c.owner == owner.lower())
            ).all()
            numbers = [row.id for row in sizes]
            mine = holdings.c.repository_id.in_(numbers) & holdings.c.xet.is_not(None) & holdings.c.removed.is_(False)
            used = sum(row.size_bytes for row in sizes)
            if arriving:  # a xorb that a noted file uses is counted with that file
                noted = reads.execute(
                    select(func.coalesce(func.sum(holdings.c.size_bytes), 0)).where(mine)
                ).scalar_one()
                used += max(0, self._xorbs(reads, numbers) - int(noted))
        if parts or (arriving and connection is None):
            used += self._parts(numbers)
        if used + more_bytes > limit:
            raise HubConflict(
                f"{owner} would have more than the {limit:,} bytes allowed: delete something first", status=403
            )
