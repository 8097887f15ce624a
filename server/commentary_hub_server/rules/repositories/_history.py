"""Revisions of repositories: immutable, read at a commit or extended by one; refs move forward one commit at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from sqlalchemy import Connection, Engine, delete, insert, select, update

from commentary_hub.errors import HubConflict, HubNotFound, InputError
from commentary_hub_server.rules.repositories import _holdings, _revisions
from commentary_hub_server.rules.repositories._contents import (
    XetFiles,
    git_blob_id,
    is_blob,
    lfs_pointer_id,
    object_key,
)
from commentary_hub_server.rules.repositories._holdings import LargeFile
from commentary_hub_server.rules.repositories._paths import check_path, check_ref, folders_of
from commentary_hub_server.rules.repositories._quota import Quota
from commentary_hub_server.rules.repositories._records import Change, Commit, Opened, Repository
from commentary_hub_server.rules.repositories._revisions import HEADS, MAIN, TAGS, full_branch
from commentary_hub_server.rules.repositories._trees import Draft, File, Node, compare, find, find_all, walk
from commentary_hub_server.rules.repositories.tables import refs, repositories
from commentary_hub_server.store import Leases, Objects, taken

Hook = Callable[[Connection, Repository, Commit], None]
_MOVED = "A commit has happened since. Please refresh and try again."
MAX_FOLDERS = 10_000  # of one commit: each is a row, written while every other writer waits
_LAST_COMMITS = 1000  # how far back the last change of a path is looked for


class History:
    """The revisions of repositories.

    ``indexed`` is called inside the transaction of every commit to main, so that what the catalogue says and what the
    ref names never differ.
    """

    def __init__(
        self,
        engine: Engine,
        objects: Objects,
        leases: Leases,
        *,
        indexed: Hook,
        quota: Quota,
        xet: XetFiles | None = None,
    ) -> None:
        self._engine, self._objects, self._leases, self._indexed, self._xet = engine, objects, leases, indexed, xet
        self._quota = quota
        self._reads = engine.execution_options(read_only=True)

    def resolve(self, repository: Repository, revision: str) -> Commit | None:
        """The commit that a branch, a tag, a full ref or a commit id names."""
        with self._reads.connect() as connection:
            return _revisions.resolve(connection, repository.id, revision)

    def files(
        self, commit: Commit, folder: str = "", *, recursive: bool = True, after: str = ""
    ) -> Iterator[tuple[str, Node]]:
        """(path, node) below ``folder``, behind the path ``after``; `FileNotFoundError` where there is no folder."""
        with self._reads.connect() as connection:
            node = find(connection, commit.tree, folder)
            if node is None or isinstance(node, File):
                raise FileNotFoundError(folder)
            prefix = f"{folder}/" if folder else ""
            behind = tuple(after.removeprefix(prefix).split("/")) if after else ()
            yield from walk(connection, node.oid, prefix, recursive=recursive, after=behind)

    def large_files(self, repository: Repository) -> list[LargeFile]:
        """Objects that came by LFS or Xet, of all revisions."""
        with self._reads.connect() as connection:
            return _holdings.large_files(connection, repository)

    def node(self, commit: Commit, path: str) -> Node | None:
        """What lies at ``path``."""
        with self._reads.connect() as connection:
            return find(connection, commit.tree, path)

    def nodes(self, commit: Commit, paths: Sequence[str]) -> list[Node | None]:
        """What lies at each of ``paths``."""
        with self._reads.connect() as connection:
            found = find_all(connection, commit.tree, paths)
        return [found[path] for path in paths]

    def changes(self, before: Commit, after: Commit, limit: int) -> list[tuple[str, File | None, File | None]]:
        """(path, file before, file after) of at most ``limit`` files that differ, see `_trees.compare`."""
        with self._reads.connect() as connection:
            return list(islice(compare(connection, before.tree, after.tree), limit))

    def open(self, repository: Repository, commit: Commit, path: str) -> Opened | None:
        """A file at a commit, with how it is stored; ``None`` where there is none, or its object was deleted."""
        with self._reads.connect() as connection:
            node = find(connection, commit.tree, path)
            if not isinstance(node, File):
                return None
            held = _holdings.holding(connection, repository.id, node.sha256)
        return None if held is None else Opened(commit.id, path, node, held.xet)

    def xet_hashes(self, repository: Repository, sha256s: Sequence[str]) -> dict[str, str]:
        """SHA-256 → Xet hash, of those objects that lie in xorbs."""
        with self._reads.connect() as connection:
            return _holdings.xet_hashes(connection, repository.id, sha256s)

    def stream(self, repository: Repository, opened: Opened, start: int, length: int) -> Iterator[bytes | memoryview]:
        """Bytes of an opened file."""
        if opened.xet is not None and self._xet is not None:
            return self._xet.read(str(repository.id), opened.xet, start, length)
        if is_blob(opened.file):
            with self._reads.connect() as connection:
                content = _holdings.blob(connection, opened.file.sha256)
            if content is not None:
                return iter([content[start : start + length]])
        return self._objects.stream(object_key(opened.file.sha256), start, length)

    def read(self, repository: Repository, opened: Opened, start: int, length: int) -> bytes:
        """A bounded range at once."""
        return b"".join(self.stream(repository, opened, start, max(0, min(length, opened.file.size_bytes - start))))

    def read_in(self, connection: Connection, repository: Repository, file: File, limit: int) -> bytes:
        """The beginning of a file inside the transaction that commits it."""
        if is_blob(file):
            content = _holdings.blob(connection, file.sha256)
            if content is not None:
                return content[:limit]
        held = _holdings.holding(connection, repository.id, file.sha256)
        return self.read(repository, Opened("", "", file, None if held is None else held.xet), 0, limit)

    def log(self, repository: Repository, start: Commit, limit: int, skip: int = 0) -> list[Commit]:
        """Commits from ``start`` back, newest first."""
        with self._reads.connect() as connection:
            return _revisions.log(connection, repository.id, start.id, limit, skip)

    def last_commits(self, repository: Repository, commit: Commit, paths: list[str]) -> dict[str, Commit]:
        """The commit that last changed each path, looking 1,000 commits back."""
        with self._reads.connect() as connection:
            return _revisions.last_commits(connection, repository.id, commit, paths, limit=_LAST_COMMITS)

    def refs(self, repository: Repository) -> list[tuple[str, str]]:
        """(full name, commit id), by name."""
        with self._reads.connect() as connection:
            found = connection.execute(
                select(refs.c.name, refs.c.commit_id).where(refs.c.repository_id == repository.id).order_by(refs.c.name)
            )
            return [(row.name, row.commit_id) for row in found]

    def commit(
        self,
        repository: Repository,
        branch: str,
        changes: Sequence[Change],
        *,
        title: str,
        message: str = "",
        author: str,
        parent: str | None = None,
    ) -> Commit:
        """Extend ``branch`` by one commit: all changes or none, durable on return.

        With ``parent`` the branch must stand there (`HubConflict` where it has moved). A repeated request, with the
        same parent and the same result, gets the same commit. Raises `InputError` for paths, `HubNotFound` for a
        missing branch or an object that this repository never uploaded.
        """
        for change in changes:
            check_path(change.path)
        if len({folder for change in changes for folder in folders_of(change.path)}) > MAX_FOLDERS:
            raise InputError(f"a commit changes at most {MAX_FOLDERS:,} folders: make several")
        stored = [_described(change) for change in changes]
        self._store_large_text(repository, changes, stored)
        ref = full_branch(branch)
        with self._engine.begin() as connection:
            repository = _revisions.lock(connection, repository.id)  # parallel commits to it wait for each other here
            head = _revisions.head(connection, repository.id, ref)
            self._take_text(connection, repository, changes, stored)
            if parent is not None and parent != head.id:
                if parent == head.parent and _repeats(connection, repository, head, changes, stored):
                    return head
                raise HubConflict(_MOVED, parent=head.id, status=412)
            try:
                tree = _changed(connection, repository, head.tree, changes, stored)
            except HubNotFound:
                if parent is None and _repeats(connection, repository, head, changes, stored):
                    return head
                raise
            if tree == head.tree:
                return head
            made = _revisions.record(
                connection, repository, ref, head.id, tree, title=title, message=message, author=author
            )
            if ref == MAIN:
                self._indexed(connection, repository, made)
            return made

    def create_ref(self, repository: Repository, name: str, revision: str, *, tag: bool) -> None:
        """A new branch or tag at a revision; raises `HubConflict` where the name is taken."""
        full = (TAGS if tag else HEADS) + check_ref(name)
        said = f"Reference already exists: {full}"
        with taken(said, name=name), self._engine.begin() as connection:
            target = _revisions.head(connection, repository.id, revision)
            where = (refs.c.repository_id == repository.id) & (refs.c.name == full)
            if connection.execute(select(refs.c.name).where(where)).first() is not None:
                raise HubConflict(said, name=name)
            connection.execute(insert(refs).values(repository_id=repository.id, name=full, commit_id=target.id))

    def delete_ref(self, repository: Repository, name: str, *, tag: bool) -> None:
        """Remove a branch (but not main) or a tag; its commits stay readable by id."""
        full = (TAGS if tag else HEADS) + name
        if full == MAIN:
            raise InputError("the default branch cannot be deleted")
        with self._engine.begin() as connection:
            gone = connection.execute(delete(refs).where(refs.c.repository_id == repository.id, refs.c.name == full))
            if not gone.rowcount:
                raise HubNotFound(f"Invalid rev id: {name}", revision=name)

    def squash(self, repository: Repository, branch: str, *, title: str, message: str, author: str) -> Commit:
        """Replace a branch's history by one commit of the same content; the old commits stay readable by id."""
        ref = full_branch(branch)
        with self._engine.begin() as connection:
            repository = _revisions.lock(connection, repository.id)
            head = _revisions.head(connection, repository.id, ref)
            made = _revisions.record(
                connection, repository, ref, None, head.tree, title=title, message=message, author=author
            )
            if ref == MAIN:
                self._indexed(connection, repository, made)
            return made

    def holds(self, repository: Repository, sha256: str) -> int | None:
        """The size of an object that the repository has uploaded."""
        with self._reads.connect() as connection:
            held = _holdings.holding(connection, repository.id, sha256)
            return None if held is None else held.size_bytes

    def note_upload(self, repository: Repository, sha256: str, size_bytes: int, xet: str | None = None) -> None:
        """Note an object as uploaded to the repository; raises `HubConflict` where its owner has no room for it.

        Raises `HubNotFound` where its Xet file was forgotten since the caller found it.
        """
        with self._engine.begin() as connection:
            repository = _revisions.lock(connection, repository.id)
            if xet is not None and self._xet is not None and not self._xet.has(connection, str(repository.id), xet):
                raise HubNotFound(f"object {sha256} was deleted meanwhile: upload it again")
            if _holdings.hold(connection, repository, [(sha256, size_bytes, xet)]):
                self._quota.demand(repository.owner, arriving=xet is None, connection=connection)

    def remove(self, repository: Repository, sha256s: Sequence[str]) -> None:
        """Delete large objects for good (see `_holdings.remove`), with their Xet files: all or nothing."""
        with self._engine.begin() as connection:
            gone = _holdings.remove(connection, repository, sha256s)
            if not gone or self._xet is None:
                return
            for xet in gone:
                self._xet.forget(connection, str(repository.id), xet)
            # Clients forget what they know of this repository's xorbs: some have been forgotten here.
            mine = repositories.c.id == repository.id
            connection.execute(update(repositories).where(mine).values(epoch=repositories.c.epoch + 1))

    def _store_large_text(
        self, repository: Repository, changes: Sequence[Change], stored: Sequence[File | None]
    ) -> None:
        """Text too large for the database becomes objects before the transaction that makes it visible."""
        large = {
            object_key(file.sha256): change.data
            for change, file in zip(changes, stored, strict=True)
            if file is not None and change.data is not None and not is_blob(file)
        }
        self._leases.hold(large)
        fresh = {key: data for key, data in large.items() if self._objects.size(key) is None}
        if fresh:
            self._quota.demand(repository.owner, sum(map(len, fresh.values())), arriving=True)
        for key, data in fresh.items():
            self._objects.put(key, [data])

    def _take_text(
        self, connection: Connection, repository: Repository, changes: Sequence[Change], stored: Sequence[File | None]
    ) -> None:
        """Files that came inside the commit are held by the repository."""
        sent = [(change.data, file) for change, file in zip(changes, stored, strict=True) if file is not None]
        small = {file.sha256: data for data, file in sent if data is not None and is_blob(file)}
        _holdings.keep_blobs(connection, small)
        if _holdings.hold(connection, repository, [(file.sha256, file.size_bytes, None) for _, file in sent]):
            self._quota.demand(repository.owner, arriving=True, connection=connection)


def _described(change: Change) -> File | None:
    if change.data is None:
        return None
    return File(git_blob_id(change.data), len(change.data), hashlib.sha256(change.data).hexdigest())


def _repeats(
    connection: Connection,
    repository: Repository,
    head: Commit,
    changes: Sequence[Change],
    stored: Sequence[File | None],
) -> bool:
    """Whether the request that made ``head`` came again: the same changes to its parent make what it holds."""
    base = None if head.parent is None else _revisions.resolve(connection, repository.id, head.parent)
    try:
        return base is not None and _changed(connection, repository, base.tree, changes, stored) == head.tree
    except (HubNotFound, InputError):
        return False


def _changed(
    connection: Connection, repository: Repository, tree: str, changes: Sequence[Change], stored: Sequence[File | None]
) -> str:
    """The tree after the changes, stored."""
    draft = Draft(connection, tree)
    for change, file in zip(changes, stored, strict=True):
        if change.delete_file or change.delete_folder:
            if not draft.remove(change.path.rstrip("/"), folder=change.delete_folder):
                raise HubNotFound(
                    f"A file with this name doesn't exist: {change.path!r}", path=change.path, code="EntryNotFound"
                )
            continue
        draft.put(change.path, file or _uploaded(connection, repository, change))
    return draft.write()


def _uploaded(connection: Connection, repository: Repository, change: Change) -> File:
    assert change.sha256 is not None
    held = _holdings.holding(connection, repository.id, change.sha256)
    if held is None or (change.size_bytes is not None and change.size_bytes != held.size_bytes):
        raise HubNotFound(
            f"{change.path!r} names an object that was not uploaded to this repository: upload it first",
            path=change.path,
        )
    size = held.size_bytes
    return File(lfs_pointer_id(change.sha256, size), size, change.sha256, is_large=True)
