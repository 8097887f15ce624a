"""Commits and refs in the database: functions of a connection, so that callers choose the transaction."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import groupby

from sqlalchemy import Connection, Row, and_, insert, literal, select, update

from commentary_hub.errors import HubNotFound, InputError
from commentary_hub_server.rules.repositories._records import Commit, Repository
from commentary_hub_server.rules.repositories._trees import Folder, Node, find, read_folder
from commentary_hub_server.rules.repositories.tables import commits, refs, repositories

HEADS, TAGS = "refs/heads/", "refs/tags/"
MAIN = f"{HEADS}main"
MAX_TITLE, MAX_MESSAGE = 500, 10_000  # characters
MAX_ENTRIES = 200_000  # of folders that are read to find who changed something last
_FOLDERS = 64  # remembered meanwhile
_STEP = 100


def full_branch(branch: str) -> str:
    """``main`` → ``refs/heads/main``; full names of branches stay.

    Raises `InputError` for any other ref: a tag stays where it was made.
    """
    if branch.startswith("refs/") and not branch.startswith(HEADS):
        raise InputError(f"{branch!r} is not a branch, and only branches take commits: make one there first")
    return branch if branch.startswith(HEADS) else HEADS + branch


def lock(connection: Connection, number: int) -> Repository:
    """Wait for whoever else changes this repository, then say what it is now: perhaps hidden or moved meanwhile.

    Raises `HubNotFound` where it was deleted.
    """
    row = connection.execute(select(repositories).where(repositories.c.id == number).with_for_update()).first()
    if row is None:
        raise HubNotFound("Repository not found", code="RepoNotFound")
    return Repository.of_row(row)


def resolve(connection: Connection, repository_id: int, revision: str) -> Commit | None:
    """The commit that a branch, a tag (in this order), a full ref or a commit id names."""
    names = [revision] if revision.startswith("refs/") else [HEADS + revision, TAGS + revision]
    rows = connection.execute(
        select(refs.c.name, refs.c.commit_id).where(refs.c.repository_id == repository_id, refs.c.name.in_(names))
    )
    found = {row.name: row.commit_id for row in rows}
    commit_id = next((found[name] for name in names if name in found), revision)
    row = connection.execute(
        select(commits).where(commits.c.repository_id == repository_id, commits.c.id == commit_id)
    ).first()
    return None if row is None else _commit(row)


def head(connection: Connection, repository_id: int, ref: str) -> Commit:
    """The commit that a ref names; raises `HubNotFound`."""
    found = resolve(connection, repository_id, ref)
    if found is None:
        raise HubNotFound(f"Invalid rev id: {ref.removeprefix(HEADS)}", revision=ref)
    return found


def log(connection: Connection, repository_id: int, start: str, limit: int, skip: int = 0) -> list[Commit]:
    """``limit`` commits from ``start`` back, newest first, without the first ``skip``: one query."""
    mine = commits.c.repository_id == repository_id
    chain = select(commits.c.id, commits.c.parent, literal(0).label("depth")).where(mine, commits.c.id == start)
    line = chain.cte("line", recursive=True)
    line = line.union_all(
        select(commits.c.id, commits.c.parent, line.c.depth + 1)
        .join(line, and_(commits.c.id == line.c.parent, mine))
        .where(line.c.depth < skip + limit - 1)
    )
    rows = connection.execute(
        select(commits)
        .join(line, commits.c.id == line.c.id)
        .where(mine, line.c.depth >= skip)
        .order_by(line.c.depth)
        .limit(limit)
    )
    return [_commit(row) for row in rows]


def ancestry(connection: Connection, repository_id: int, start: str) -> Iterator[Commit]:
    """All commits from ``start`` back, read as far as they are asked for."""
    skip = 0
    while page := log(connection, repository_id, start, _STEP, skip):
        yield from page
        if page[-1].parent is None:
            return
        start, skip = page[-1].parent, 0


def last_commits(
    connection: Connection, repository_id: int, commit: Commit, paths: list[str], *, limit: int
) -> dict[str, Commit]:
    """The commit that brought each path to what it is at ``commit``.

    Past ``limit`` commits, or where the folders read have 200,000 entries, the oldest seen.
    """
    found: dict[str, Commit] = {}
    wanted, newer, entries = set(paths), commit, 0

    @lru_cache(maxsize=_FOLDERS)
    def read(oid: str) -> dict[str, Node]:
        nonlocal entries
        folder = read_folder(connection, oid)
        entries += len(folder)
        return folder

    for count, older in enumerate(ancestry(connection, repository_id, commit.id)):
        if older.tree != newer.tree:
            changed = set(_changed(read, newer.tree, older.tree, sorted(wanted)))
            found |= dict.fromkeys(changed, newer)
            wanted -= changed
        newer = older
        if not wanted or count >= limit or entries >= MAX_ENTRIES:
            break
    return found | dict.fromkeys(wanted, newer)


def _changed(
    read: Callable[[str], dict[str, Node]], newer: str, older: str, paths: Iterable[str], prefix: str = ""
) -> Iterator[str]:
    """Those of the sorted ``paths`` (below two folders) that are not the same in both; what is the same is not read."""
    now, before = read(newer), read(older)
    for name, group in groupby(paths, key=lambda path: path.partition("/")[0]):
        new, old, below = now.get(name), before.get(name), list(group)
        if new == old:
            continue
        if isinstance(new, Folder) and isinstance(old, Folder):
            inside = [path.partition("/")[2] for path in below if path != name]
            yield from (f"{prefix}{name}" for path in below if path == name)
            yield from _changed(read, new.oid, old.oid, inside, f"{prefix}{name}/")
        else:
            yield from (prefix + path for path in below)


def authors(
    connection: Connection, repository_id: int, commit: Commit, paths: list[str], *, limit: int
) -> dict[str, str]:
    """Who committed each path as it is at ``commit``; what changed more than ``limit`` commits ago is left out."""
    found = {}
    for path, brought in last_commits(connection, repository_id, commit, paths, limit=limit).items():
        before = None if brought.parent is None else resolve(connection, repository_id, brought.parent)
        if before is None or find(connection, before.tree, path) != find(connection, brought.tree, path):
            found[path] = brought.author
    return found


def record(
    connection: Connection,
    repository: Repository,
    ref: str,
    parent: str | None,
    tree: str,
    *,
    title: str,
    message: str,
    author: str,
) -> Commit:
    """A new commit, and the ref on it; of a title or a message that is too long, the beginning."""
    now, title, message = time.time(), title[:MAX_TITLE], message[:MAX_MESSAGE]
    text = f"{repository.id}\n{parent}\n{tree}\n{title}\n{message}\n{author}\n{now!r}"
    made = Commit(
        hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), parent, tree, title, message, author, now
    )
    values = {"id": made.id, "parent": parent, "tree": tree, "title": title, "message": message, "author": author}
    connection.execute(insert(commits).values(repository_id=repository.id, created_at=now, **values))
    connection.execute(
        update(refs).where(refs.c.repository_id == repository.id, refs.c.name == ref).values(commit_id=made.id)
    )
    connection.execute(update(repositories).where(repositories.c.id == repository.id).values(updated_at=now))
    return made


def _commit(row: Row[tuple[object, ...]]) -> Commit:
    return Commit(row.id, row.parent, row.tree, row.title, row.message, row.author, row.created_at)
