"""Repositories as such: create, find, list, move, settle, delete."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, and_, delete, func, insert, or_, select, update

from commentary_hub.errors import HubConflict, InputError
from commentary_hub_server.rules.repositories._listing import Indexer
from commentary_hub_server.rules.repositories._paths import check_repository_name
from commentary_hub_server.rules.repositories._quota import Quota
from commentary_hub_server.rules.repositories._records import Filters, Listing, Repository
from commentary_hub_server.rules.repositories._revisions import MAIN, head, lock
from commentary_hub_server.rules.repositories._trees import EMPTY
from commentary_hub_server.rules.repositories.tables import commits, moved, refs, repositories, tags
from commentary_hub_server.store import taken

KINDS = ("dataset", "model")
SORTS = {
    "lastModified": repositories.c.updated_at,
    "createdAt": repositories.c.created_at,
    # Nobody counts downloads and likes here: by age, so that the order is at least stable.
    "downloads": repositories.c.created_at,
    "likes": repositories.c.created_at,
    "trendingScore": repositories.c.updated_at,
}


def repository_key(kind: str, name: str) -> str:
    """The unique key of a repository: names differ by more than case."""
    return f"{kind}/{name}".lower()


class Repositories:
    """All repositories of one database. Permissions are asked by the caller, who knows the viewer.

    ``indexer`` follows every change in its own transaction: the catalogue never says more than the repository.
    """

    def __init__(self, engine: Engine, indexer: Indexer, quota: Quota) -> None:
        self._engine, self._indexer, self._quota = engine, indexer, quota
        self._reads = engine.execution_options(read_only=True)

    def get(self, kind: str, name: str, connection: Connection | None = None) -> Repository | None:
        """A repository by its present or a former name."""
        if connection is None:
            with self._reads.connect() as own:
                return self.get(kind, name, own)
        key = repository_key(kind, name)
        row = connection.execute(select(repositories).where(repositories.c.key == key)).first()
        if row is None:
            row = connection.execute(
                select(repositories).join(moved, moved.c.repository_id == repositories.c.id).where(moved.c.key == key)
            ).first()
        return None if row is None else Repository.of_row(row)

    def by_id(self, number: int) -> Repository | None:
        """A repository by its number."""
        with self._reads.connect() as connection:
            row = connection.execute(select(repositories).where(repositories.c.id == number)).first()
        return None if row is None else Repository.of_row(row)

    def lock(self, connection: Connection, number: int) -> Repository:
        """Wait for whoever else changes a repository, to the end of this transaction; raises `HubNotFound`."""
        return lock(connection, number)

    def create(self, kind: str, owner: str, name: str, *, private: bool) -> Repository:
        """A new repository with one empty first commit on main; raises `HubConflict` where the name is taken."""
        if kind not in KINDS:
            raise InputError(f"repositories of type {kind!r} are not hosted here: only datasets and models are")
        check_repository_name(name)
        now, full = time.time(), f"{owner}/{name}"
        said = f"You already created this {kind} repo: {full}"
        with taken(said, name=full), self._engine.begin() as connection:
            self._free(connection, repository_key(kind, full), said)
            key = connection.execute(
                insert(repositories).values(
                    key=repository_key(kind, full),
                    kind=kind,
                    name=full,
                    owner=owner.lower(),
                    private=private,
                    created_at=now,
                    updated_at=now,
                    size_bytes=0,
                    tags="[]",
                    card="{}",
                )
            ).inserted_primary_key
            assert key is not None
            first = first_commit_id(key[0], now)
            connection.execute(
                insert(commits).values(
                    repository_id=key[0],
                    id=first,
                    parent=None,
                    tree=EMPTY,
                    title="initial commit",
                    message="",
                    author=owner,
                    created_at=now,
                )
            )
            connection.execute(insert(refs).values(repository_id=key[0], name=MAIN, commit_id=first))
            made = self.get(kind, full, connection)
        assert made is not None
        return made

    def delete(self, repository: Repository) -> None:
        """Delete with all its revisions; its objects are collected later."""
        with self._engine.begin() as connection:
            self._indexer.forget(connection, lock(connection, repository.id))
            connection.execute(delete(repositories).where(repositories.c.id == repository.id))

    def set_private(self, repository: Repository, *, private: bool) -> None:
        """Hide or show."""
        with self._engine.begin() as connection:
            now = lock(connection, repository.id)
            connection.execute(update(repositories).where(repositories.c.id == now.id).values(private=private))
            self._indexer.set_private(connection, now, private=private)

    def move(self, repository: Repository, owner: str, name: str) -> Repository:
        """Give it another name; the old one leads to it until somebody takes it.

        Raises `HubConflict` where the name is taken, and where a new owner has no room for it.
        """
        check_repository_name(name)
        full = f"{owner}/{name}"
        key, said = repository_key(repository.kind, full), f"{full} exists already: choose another name"
        with taken(said, name=full), self._engine.begin() as connection:
            was = lock(connection, repository.id)
            if key != was.key:
                self._free(connection, key, said)
                connection.execute(delete(moved).where(moved.c.key == was.key))
                connection.execute(insert(moved).values(key=was.key, repository_id=was.id))
            connection.execute(
                update(repositories).where(repositories.c.id == was.id).values(key=key, name=full, owner=owner.lower())
            )
            if owner.lower() != was.owner.lower():  # it counts as theirs already, with all that is on its way to it
                self._quota.demand(owner, arriving=True, parts=True, connection=connection)
            self._indexer.forget(connection, was)
            renamed = lock(connection, was.id)
            self._indexer(connection, renamed, head(connection, was.id, MAIN))
        return renamed

    def list(self, filters: Filters) -> Listing:
        """One page of what the viewer may read, by an index, whatever the number of repositories."""
        column = SORTS[filters.sort]
        where = [repositories.c.kind == filters.kind]
        if not filters.is_admin:
            where.append(or_(repositories.c.private.is_(False), repositories.c.owner.in_(sorted(filters.reads))))
        if filters.author:
            where.append(repositories.c.owner == filters.author.lower())
        where += [repositories.c.key.contains(word.lower(), autoescape=True) for word in filters.search]
        where += [repositories.c.id.in_(select(tags.c.repository_id).where(tags.c.tag == tag)) for tag in filters.tags]
        if filters.cursor:
            value, last = _read_cursor(filters.cursor)
            before = column > value if filters.ascending else column < value
            same = repositories.c.id > last if filters.ascending else repositories.c.id < last
            where.append(or_(before, and_(column == value, same)))
        order = (column, repositories.c.id) if filters.ascending else (column.desc(), repositories.c.id.desc())
        query: Select[Any] = select(repositories).where(*where).order_by(*order).limit(filters.limit + 1)
        with self._reads.connect() as connection:
            rows = connection.execute(query).all()
        page = tuple(Repository.of_row(row) for row in rows[: filters.limit])
        cursor = None
        if len(rows) > filters.limit:
            last_row = rows[filters.limit - 1]
            cursor = _write_cursor(last_row._mapping[column.name], last_row.id)
        return Listing(page, cursor)

    def held_bytes(self, owner: str) -> int:
        """How much the files of an owner's repositories take."""
        query = select(func.coalesce(func.sum(repositories.c.size_bytes), 0))
        with self._reads.connect() as connection:
            return int(connection.execute(query.where(repositories.c.owner == owner.lower())).scalar_one())

    def _free(self, connection: Connection, key: str, said: str) -> None:
        """Make sure that nothing has this name; a former name of another repository is given up for it."""
        if connection.execute(select(repositories.c.id).where(repositories.c.key == key)).first() is not None:
            raise HubConflict(said)
        connection.execute(delete(moved).where(moved.c.key == key))

    def heads(self, numbers: Sequence[int]) -> dict[int, str]:
        """The commit that main names in each of these repositories."""
        query = select(refs.c.repository_id, refs.c.commit_id).where(
            refs.c.name == MAIN, refs.c.repository_id.in_(numbers)
        )
        with self._reads.connect() as connection:
            return {row.repository_id: row.commit_id for row in connection.execute(query)}


def first_commit_id(repository_id: int, created_at: float) -> str:
    """Unlike any other repository's."""
    return hashlib.sha1(f"first {repository_id} {created_at!r}".encode(), usedforsecurity=False).hexdigest()


def _write_cursor(value: float, last: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([value, last]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[float, int]:
    try:
        value, last = json.loads(base64.urlsafe_b64decode(cursor[:200] + "=" * (-len(cursor) % 4)))
        if not math.isfinite(value) or abs(last) >= 1 << 62:
            raise ValueError(last)
        return float(value), int(last)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError("the cursor is not one that this hub gave out") from error
