"""Xet's index in the database and its xorbs in the object store."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, select

from commentary_hub_server.rules.xet._hashing import to_text
from commentary_hub_server.rules.xet._shard import Segment, ShardFile
from commentary_hub_server.rules.xet._xorb import Chunk, Xorb
from commentary_hub_server.rules.xet.tables import chunks, file_xorbs, files, holders, xorbs
from commentary_hub_server.store import Leases, Objects, Spool, upsert

FOREVER = 2**62
_CHUNK = struct.Struct("<32sIII")
_SEGMENT = struct.Struct("<32sQII")


Guard = Callable[[Connection, str], None]  # a transaction and a repository → nothing, or a refusal


def xorb_key(xorb: bytes) -> str:
    """Where a xorb's bytes lie in the object store."""
    name = to_text(xorb)
    return f"xorbs/{name[:2]}/{name[2:4]}/{name}"


class StoredXorbs:
    """Xorb bytes as objects: atomic, durable, never replaced."""

    def __init__(self, objects: Objects, leases: Leases) -> None:
        self._objects, self._leases = objects, leases

    def hold(self, xorbs: Iterable[bytes]) -> None:
        """Keep the collector away."""
        self._leases.hold(map(xorb_key, xorbs))

    def spool(self) -> Spool:
        """A place to write one to."""
        return self._objects.spool()

    def adopt(self, xorb: bytes, spool: Spool) -> bool:
        """Keep what was written as a xorb, unless there is one."""
        return self._objects.adopt(xorb_key(xorb), spool)

    def has(self, xorb: bytes) -> bool:
        """Whether its bytes are there."""
        return self._objects.size(xorb_key(xorb)) is not None

    def pieces(
        self, xorb: bytes, start: int, end: int | None = None, *, once: bool = False
    ) -> Iterator[bytes | memoryview]:
        """Bytes [start, end), or all to the end; see `Objects.stream`."""
        return self._objects.stream(xorb_key(xorb), start, None if end is None else end - start, once=once)


class DatabaseIndex:
    """The tables; every method is one transaction, and repeating a write changes nothing.

    ``lock`` begins each transaction that changes what a repository holds: they wait for each other and for its commits.
    ``room`` is asked in the transaction that notes another xorb of a repository, and raises where its owner has none.
    """

    def __init__(self, engine: Engine, lock: Guard, room: Guard) -> None:
        self._engine, self._lock, self._room = engine, lock, room
        self._reads = engine.execution_options(read_only=True)

    def add_xorb(self, xorb: Xorb) -> None:
        """Index a xorb and its chunks; the table of bytes that were lost gives way to that of the new ones."""
        table = b"".join(_CHUNK.pack(c.hash, c.length, c.offset, c.stored) for c in xorb.chunks)
        with self._engine.begin() as connection:
            row = {"hash": xorb.hash, "chunks": table, "created_at": time.time(), "size_bytes": xorb.size_bytes}
            new = upsert(connection, xorbs)
            changes = {"chunks": new.excluded.chunks, "size_bytes": new.excluded.size_bytes}
            connection.execute(new.on_conflict_do_update(index_elements=["hash"], set_=changes), row)
            _insert_new(connection, chunks, [{"hash": h, "xorb": xorb.hash} for h in {c.hash for c in xorb.chunks}])

    def xorb(self, xorb: bytes) -> Xorb | None:
        """A xorb's table."""
        with self._reads.connect() as connection:
            table = connection.execute(select(xorbs.c.chunks).where(xorbs.c.hash == xorb)).scalar()
        return None if table is None else Xorb(xorb, tuple(Chunk(*fields) for fields in _CHUNK.iter_unpack(table)))

    def take(self, xorb: bytes, repo: str, until: int) -> None:
        """Hold a xorb for a repository for a while; what it holds already needs no room."""
        with self._engine.begin() as connection:
            self._lock(connection, repo)
            mine = (holders.c.xorb == xorb) & (holders.c.repository == repo) & (holders.c.until > int(time.time()))
            known = connection.execute(select(holders.c.xorb).where(mine)).first() is not None
            _hold(connection, [xorb], repo, until)
            if not known:
                self._room(connection, repo)

    def held_bytes(self, connection: Connection, repositories: Sequence[int]) -> int:
        """The stored bytes of all xorbs that these repositories hold now, by an upload or by a file."""
        mine = holders.c.repository.in_([str(number) for number in repositories]) & (holders.c.until > int(time.time()))
        held = select(holders.c.xorb).where(mine).distinct()
        total = select(func.coalesce(func.sum(xorbs.c.size_bytes), 0)).where(xorbs.c.hash.in_(held))
        return int(connection.execute(total).scalar_one())

    def holders(self, xorb: bytes) -> set[str]:
        """The repositories that hold a xorb now."""
        with self._reads.connect() as connection:
            found = connection.execute(
                select(holders.c.repository).where(holders.c.xorb == xorb, holders.c.until > int(time.time()))
            )
            return set(found.scalars())

    def xorbs_with(self, chunk: bytes, limit: int) -> Sequence[bytes]:
        """Xorbs that contain a chunk."""
        with self._reads.connect() as connection:
            return connection.execute(select(chunks.c.xorb).where(chunks.c.hash == chunk).limit(limit)).scalars().all()

    def neighbours(self, xorb: bytes, repo: str, limit: int) -> Sequence[bytes]:
        """Xorbs of the repository's files that use this one."""
        using = select(file_xorbs.c.file).where(file_xorbs.c.repository == repo, file_xorbs.c.xorb == xorb)
        near = select(file_xorbs.c.xorb).where(file_xorbs.c.repository == repo, file_xorbs.c.file.in_(using))
        with self._reads.connect() as connection:
            return connection.execute(near.distinct().limit(limit)).scalars().all()

    def spans(self, xorb: bytes, repos: Sequence[str], limit: int) -> Sequence[tuple[int, int]]:
        """[start, end) of the chunks of a xorb that files of these repositories use; of at most ``limit`` files."""
        same = (files.c.repository == file_xorbs.c.repository) & (files.c.hash == file_xorbs.c.file)
        mine = file_xorbs.c.repository.in_(repos) & (file_xorbs.c.xorb == xorb)
        using = select(files.c.segments).join(file_xorbs, same).where(mine).limit(limit)
        with self._reads.connect() as connection:
            found = connection.execute(using).scalars().all()
        return [(s.start, s.end) for segments in found for s in _segments(segments) if s.xorb == xorb]

    def add_file(self, repo: str, file: ShardFile) -> bool:
        """Register a file for a repository, and hold its xorbs for as long as it is there."""
        assert file.sha256 is not None
        segments = b"".join(_SEGMENT.pack(s.xorb, s.length, s.start, s.end) for s in file.segments)
        used = sorted({segment.xorb for segment in file.segments})
        row = {"repository": repo, "hash": file.hash, "sha256": file.sha256, "segments": segments}
        with self._engine.begin() as connection:
            self._lock(connection, repo)
            known = has_file(connection, repo, file.hash)
            again = upsert(connection, files).on_conflict_do_update(
                index_elements=["repository", "hash"], set_={"created_at": time.time()}
            )
            connection.execute(again, row | {"created_at": time.time()})
            if not known:
                _insert_new(connection, file_xorbs, [{"repository": repo, "file": file.hash, "xorb": x} for x in used])
                _hold(connection, used, repo, FOREVER)
        return not known

    def file(self, repo: str, digest: bytes) -> ShardFile | None:
        """A file of a repository."""
        return self._file(repo, files.c.hash == digest)

    def by_sha256(self, repo: str, sha256: bytes) -> ShardFile | None:
        """A file of a repository by its SHA-256."""
        return self._file(repo, files.c.sha256 == sha256)

    def _file(self, repo: str, condition: Any) -> ShardFile | None:
        with self._reads.connect() as connection:
            row = connection.execute(select(files).where(files.c.repository == repo, condition).limit(1)).first()
        if row is None:
            return None
        return ShardFile(row.hash, _segments(row.segments), row.sha256)


def _segments(stored: bytes) -> tuple[Segment, ...]:
    return tuple(Segment(*fields) for fields in _SEGMENT.iter_unpack(stored))


def has_file(connection: Connection, repo: str, digest: bytes) -> bool:
    """Whether a repository has a file."""
    mine = (files.c.repository == repo) & (files.c.hash == digest)
    return connection.execute(select(files.c.hash).where(mine)).first() is not None


def forget_file(connection: Connection, repo: str, digest: bytes) -> None:
    """Forget a file of a repository, and hold no longer what only it used. The caller has locked the repository."""
    mine = (file_xorbs.c.repository == repo) & (file_xorbs.c.file == digest)
    used = set(connection.execute(select(file_xorbs.c.xorb).where(mine)).scalars())
    connection.execute(delete(file_xorbs).where(mine))
    connection.execute(delete(files).where(files.c.repository == repo, files.c.hash == digest))
    for xorb in used:
        others = select(file_xorbs.c.file).where(file_xorbs.c.repository == repo, file_xorbs.c.xorb == xorb)
        if connection.execute(others.limit(1)).first() is None:
            connection.execute(delete(holders).where(holders.c.repository == repo, holders.c.xorb == xorb))


def _insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(upsert(connection, table).on_conflict_do_nothing(), rows)


def _hold(connection: Connection, held: Iterable[bytes], repo: str, until: int) -> None:
    rows = [{"xorb": xorb, "repository": repo, "until": until} for xorb in sorted(set(held))]
    if rows:
        row = upsert(connection, holders)
        longer = row.on_conflict_do_update(
            index_elements=["xorb", "repository"],
            set_={"until": row.excluded.until},
            where=holders.c.until < row.excluded.until,
        )
        connection.execute(longer, rows)
