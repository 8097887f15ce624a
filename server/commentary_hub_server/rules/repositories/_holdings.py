"""What a repository holds: the objects it uploaded or committed. A hash alone gives nobody another's bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, select, update

from commentary_hub.errors import HubConflict
from commentary_hub_server.rules.repositories import _revisions
from commentary_hub_server.rules.repositories._records import Repository
from commentary_hub_server.rules.repositories._trees import File, Folder, read_folder
from commentary_hub_server.rules.repositories.tables import blobs, commits, holdings, refs, repositories
from commentary_hub_server.store import upsert

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class LargeFile:
    """A large object of a repository and the newest path that named it; ``ref`` is a branch that holds it now."""

    sha256: str
    path: str
    size_bytes: int
    pushed_at: float
    ref: str | None


class Held(NamedTuple):
    """An object of a repository; ``xet`` is its Xet hash where its bytes lie in xorbs."""

    size_bytes: int
    xet: str | None


def hold(connection: Connection, repository: Repository, uploaded: Iterable[tuple[str, int, str | None]]) -> int:
    """Note (sha256, size, Xet hash) as uploaded and return how many bytes were new; what is held stays as it is.

    The caller has locked the repository.
    """
    rows = {row[0]: row for row in uploaded}
    for chunk in _batches(sorted(rows)):
        mine = (holdings.c.repository_id == repository.id) & holdings.c.removed.is_(False)
        known = select(holdings.c.sha256).where(mine, holdings.c.sha256.in_(chunk))
        for sha256 in connection.execute(known).scalars():
            del rows[sha256]
    if not rows:
        return 0
    row = upsert(connection, holdings)
    back = row.on_conflict_do_update(
        index_elements=["repository_id", "sha256"],
        set_={"xet": row.excluded.xet, "removed": False, "created_at": row.excluded.created_at},
    )
    common: dict[str, object] = {"repository_id": repository.id, "created_at": time.time(), "removed": False}
    connection.execute(
        back, [common | {"sha256": sha256, "size_bytes": size, "xet": xet} for sha256, size, xet in rows.values()]
    )
    more_bytes = sum(size for _, size, _ in rows.values())
    _weigh(connection, repository, more_bytes)
    return more_bytes


def holding(connection: Connection, repository_id: int, sha256: str) -> Held | None:
    """How an object that the repository holds is stored."""
    row = connection.execute(
        select(holdings.c.size_bytes, holdings.c.xet).where(
            holdings.c.repository_id == repository_id, holdings.c.sha256 == sha256, holdings.c.removed.is_(False)
        )
    ).first()
    return None if row is None else Held(row.size_bytes, row.xet)


def xet_hashes(connection: Connection, repository_id: int, sha256s: Sequence[str]) -> dict[str, str]:
    """SHA-256 → Xet hash, of those objects that lie in xorbs."""
    found: dict[str, str] = {}
    for chunk in _batches(sha256s):
        mine = (holdings.c.repository_id == repository_id) & holdings.c.sha256.in_(chunk) & holdings.c.xet.is_not(None)
        rows = connection.execute(select(holdings.c.sha256, holdings.c.xet).where(mine))
        found |= {row.sha256: row.xet for row in rows}
    return found


def keep_blobs(connection: Connection, contents: dict[str, bytes]) -> None:
    """Store small contents in this transaction; the newer date keeps the collector from those that are there."""
    if contents:
        row = upsert(connection, blobs)
        row = row.on_conflict_do_update(index_elements=["sha256"], set_={"created_at": row.excluded.created_at})
        now = time.time()
        rows = [{"sha256": name, "content": data, "created_at": now} for name, data in sorted(contents.items())]
        connection.execute(row, rows)


def blob(connection: Connection, sha256: str) -> bytes | None:
    """A small content."""
    return connection.execute(select(blobs.c.content).where(blobs.c.sha256 == sha256)).scalar()


def large_files(connection: Connection, repository: Repository) -> list[LargeFile]:
    """Every large object that some revision names, newest first; unchanged folders are read once."""
    mine = select(holdings).where(holdings.c.repository_id == repository.id, holdings.c.removed.is_(False))
    held = {row.sha256: row for row in connection.execute(mine)}
    found: dict[str, LargeFile] = {}
    seen: set[str] = set()
    heads = _heads(connection, repository)
    older = connection.execute(
        select(commits.c.tree).where(commits.c.repository_id == repository.id).order_by(commits.c.created_at.desc())
    ).scalars()
    for tree, ref in [*heads, *((tree, None) for tree in older)]:
        for path, node in _unseen(connection, tree, seen):
            if node.is_large and node.sha256 in held and node.sha256 not in found:
                row = held[node.sha256]
                found[node.sha256] = LargeFile(node.sha256, path, row.size_bytes, row.created_at, ref)
    return sorted(found.values(), key=lambda one: (-one.pushed_at, one.path))


def remove(connection: Connection, repository: Repository, sha256s: Sequence[str]) -> list[str]:
    """Delete large objects for good and return the Xet hashes among them.

    Revisions stay as they are, so an object that a branch or tag shows now is refused (`HubConflict`): delete the file
    in a commit first. Older revisions that name it answer that the entry is gone.
    """
    _revisions.lock(connection, repository.id)
    asked, still = set(sha256s), set[str]()
    seen: set[str] = set()
    for tree, _ in _heads(connection, repository):  # inline files too: they are held by the same rows
        still |= {node.sha256 for _, node in _unseen(connection, tree, seen) if node.sha256 in asked}
    if still:
        raise HubConflict(f"{min(still)} is shown by a branch or a tag: delete the file in a commit first")
    where = (holdings.c.repository_id == repository.id) & holdings.c.sha256.in_(sha256s)
    gone = connection.execute(
        select(holdings.c.xet, holdings.c.size_bytes).where(where, holdings.c.removed.is_(False))
    ).all()
    connection.execute(update(holdings).where(where).values(removed=True, xet=None))
    _weigh(connection, repository, -sum(row.size_bytes for row in gone))
    return [row.xet for row in gone if row.xet is not None]


def _weigh(connection: Connection, repository: Repository, more_bytes: int) -> None:
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository.id)
        .values(size_bytes=repositories.c.size_bytes + more_bytes)
    )


def _heads(connection: Connection, repository: Repository) -> list[tuple[str, str | None]]:
    """(tree, short name) of every branch and tag, main first."""
    rows = connection.execute(
        select(refs.c.name, commits.c.tree)
        .join(commits, (commits.c.id == refs.c.commit_id) & (commits.c.repository_id == refs.c.repository_id))
        .where(refs.c.repository_id == repository.id)
    ).all()
    ordered = sorted(rows, key=lambda row: (row.name != "refs/heads/main", row.name))
    return [(row.tree, row.name.split("/", 2)[2]) for row in ordered]


def _unseen(connection: Connection, oid: str, seen: set[str], prefix: str = "") -> Iterable[tuple[str, File]]:
    """(path, file) below folders that were not read before."""
    if oid in seen:
        return
    seen.add(oid)
    for name, node in read_folder(connection, oid).items():
        if isinstance(node, Folder):
            yield from _unseen(connection, node.oid, seen, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", node


def _batches(names: Sequence[str]) -> Iterable[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
