"""Commits, refs and files: revisions are immutable, refs move forward one commit at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from commentary_hub.errors import HubConflict, HubNotFound, InputError
from commentary_hub_server.rules.repositories._contents import (
    XetFiles,
    git_blob_id,
    lfs_pointer_id,
    object_key,
    store_bytes,
)
from commentary_hub_server.rules.repositories._paths import check_path, check_ref
from commentary_hub_server.rules.repositories._records import Change, Commit, Opened, Repository
from commentary_hub_server.rules.repositories._repositories import MAIN
from commentary_hub_server.rules.repositories._trees import Draft, File, Node, find, walk
from commentary_hub_server.rules.repositories.tables import commits, holdings, refs, repositories
from commentary_hub_server.store import Objects

HEADS, TAGS = "refs/heads/", "refs/tags/"
Hook = Callable[[Connection, Repository, Commit], None]


@dataclass(frozen=True, slots=True)
class Author:
    """Who commits."""

    name: str


class History:
    """The revisions of repositories: read at a commit, or extended by one.

    ``indexed`` is called inside the transaction of every commit to main, so that what the catalogue says and what the
    ref names never differ.
    """

    def __init__(self, engine: Engine, objects: Objects, *, indexed: Hook, xet: XetFiles | None = None) -> None:
        self._engine, self._objects, self._indexed, self._xet = engine, objects, indexed, xet
        self._reads = engine.execution_options(read_only=True)

    def resolve(self, repository: Repository, revision: str) -> Commit | None:
        """The commit that a branch, a tag, a full ref or a commit id names."""
        with self._reads.connect() as connection:
            return self._resolve(connection, repository.id, revision)

    def files(self, commit: Commit, folder: str = "", *, recursive: bool = True) -> Iterator[tuple[str, Node]]:
        """(path, node) below ``folder``; raises `FileNotFoundError` where there is no such folder."""
        with self._reads.connect() as connection:
            node = find(connection, commit.tree, folder)
            if node is None or isinstance(node, File):
                raise FileNotFoundError(folder)
            yield from walk(connection, node.oid, f"{folder}/" if folder else "", recursive=recursive)

    def large_files(self, commit: Commit) -> list[tuple[str, File]]:
        """Files that came by LFS or Xet."""
        return [(path, node) for path, node in self.files(commit) if isinstance(node, File) and node.is_large]

    def node(self, commit: Commit, path: str) -> Node | None:
        """What lies at ``path``."""
        with self._reads.connect() as connection:
            return find(connection, commit.tree, path)

    def open(self, repository: Repository, commit: Commit, path: str) -> Opened | None:
        """A file at a commit, with how it is stored."""
        with self._reads.connect() as connection:
            node = find(connection, commit.tree, path)
            if not isinstance(node, File):
                return None
            opened = self.open_in(connection, repository, node)
        return Opened(commit.id, path, node, opened.xet)

    def open_in(self, connection: Connection, repository: Repository, file: File) -> Opened:
        """A file of a tree with how it is stored, inside a transaction."""
        xet = connection.execute(
            select(holdings.c.xet).where(holdings.c.repository_id == repository.id, holdings.c.sha256 == file.sha256)
        ).scalar()
        return Opened("", "", file, xet)

    def stream(self, repository: Repository, opened: Opened, start: int, length: int) -> Iterator[bytes | memoryview]:
        """Bytes of an opened file."""
        if opened.xet is not None and self._xet is not None:
            return self._xet.read(str(repository.id), opened.xet, start, length)
        return self._objects.stream(object_key(opened.file.sha256), start, length)

    def read(self, repository: Repository, opened: Opened, start: int, length: int) -> bytes:
        """A bounded range at once."""
        return b"".join(self.stream(repository, opened, start, max(0, min(length, opened.file.size_bytes - start))))

    def log(self, repository: Repository, start: Commit, limit: int) -> list[Commit]:
        """Commits from ``start`` back, newest first."""
        found: list[Commit] = []
        with self._reads.connect() as connection:
            at: str | None = start.id
            while at is not None and len(found) < limit:
                row = connection.execute(
                    select(commits).where(commits.c.repository_id == repository.id, commits.c.id == at)
                ).one()
                found.append(_commit(row))
                at = row.parent
        return found

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
        stored = [self._stored(change) for change in changes]
        ref = full_branch(branch)
        with self._engine.begin() as connection:
            # Parallel commits to one repository wait for each other here.
            connection.execute(
                select(repositories.c.id).where(repositories.c.id == repository.id).with_for_update()
            ).one()
            head = self._head(connection, repository.id, ref)
            base = head
            if parent is not None and parent != head.id:
                if head.parent != parent:
                    raise HubConflict(
                        "A commit has happened since. Please refresh and try again.", parent=head.id, status=412
                    )
                base = self._resolve(connection, repository.id, parent) or head
            draft = Draft(connection, base.tree)
            for change, file in zip(changes, stored, strict=True):
                self._apply(connection, repository, draft, change, file)
            tree = draft.write()
            if tree == head.tree:
                return head
            if base is not head:
                raise HubConflict(
                    "A commit has happened since. Please refresh and try again.", parent=head.id, status=412
                )
            return self._record(connection, repository, ref, head, tree, title=title, message=message, author=author)

    def create_ref(self, repository: Repository, name: str, revision: str, *, tag: bool) -> None:
        """A new branch or tag at a revision; raises `HubConflict` where the name is taken."""
        full = (TAGS if tag else HEADS) + check_ref(name)
        with self._engine.begin() as connection:
            target = self._resolve(connection, repository.id, revision)
            if target is None:
                raise HubNotFound(f"Invalid rev id: {revision}", revision=revision)
            where = (refs.c.repository_id == repository.id) & (refs.c.name == full)
            if connection.execute(select(refs.c.name).where(where)).first() is not None:
                raise HubConflict(f"Reference already exists: {full}", name=name)
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
        """Replace a branch's history by one commit of the same content."""
        ref = full_branch(branch)
        with self._engine.begin() as connection:
            head = self._head(connection, repository.id, ref)
            return self._record(
                connection, repository, ref, head, head.tree, title=title, message=message, author=author, root=True
            )

    def index_again(self, repository: Repository) -> None:
        """List what main holds, after a move."""
        with self._engine.begin() as connection:
            self._indexed(connection, repository, self._head(connection, repository.id, MAIN))

    def hold(
        self, connection: Connection, repository: Repository, sha256: str, size_bytes: int, xet: str | None = None
    ) -> None:
        """Note that the repository has uploaded this object."""
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(holdings).values(
            repository_id=repository.id, sha256=sha256, size_bytes=size_bytes, xet=xet, created_at=time.time()
        )
        added = connection.execute(statement.on_conflict_do_nothing(index_elements=["repository_id", "sha256"]))
        if added.rowcount:
            connection.execute(
                update(repositories)
                .where(repositories.c.id == repository.id)
                .values(size_bytes=repositories.c.size_bytes + size_bytes)
            )

    def holds(self, repository: Repository, sha256: str) -> int | None:
        """The size of an object that the repository has uploaded."""
        with self._reads.connect() as connection:
            return self._holds(connection, repository, sha256)

    def note_upload(self, repository: Repository, sha256: str, size_bytes: int, xet: str | None = None) -> None:
        """`hold` in a transaction of its own."""
        with self._engine.begin() as connection:
            self.hold(connection, repository, sha256, size_bytes, xet)

    def _holds(self, connection: Connection, repository: Repository, sha256: str) -> int | None:
        return connection.execute(
            select(holdings.c.size_bytes).where(holdings.c.repository_id == repository.id, holdings.c.sha256 == sha256)
        ).scalar()

    def _stored(self, change: Change) -> File | None:
        """Bytes of small files go to the object store before the transaction that makes them visible."""
        if change.data is None:
            return None
        return File(git_blob_id(change.data), len(change.data), store_bytes(self._objects, change.data))

    def _apply(
        self, connection: Connection, repository: Repository, draft: Draft, change: Change, file: File | None
    ) -> None:
        if change.delete_file or change.delete_folder:
            if not draft.remove(change.path.rstrip("/"), folder=change.delete_folder):
                raise HubNotFound(f"{change.path!r} cannot be deleted: there is no such file", path=change.path)
            return
        if file is None:
            assert change.sha256 is not None
            size = self._holds(connection, repository, change.sha256)
            if size is None or (change.size_bytes is not None and change.size_bytes != size):
                raise HubNotFound(
                    f"{change.path!r} names an object that was not uploaded to this repository: upload it first",
                    path=change.path,
                )
            file = File(lfs_pointer_id(change.sha256, size), size, change.sha256, is_large=True)
        else:
            self.hold(connection, repository, file.sha256, file.size_bytes)
        draft.put(change.path, file)

    def _record(
        self,
        connection: Connection,
        repository: Repository,
        ref: str,
        head: Commit,
        tree: str,
        *,
        title: str,
        message: str,
        author: str,
        root: bool = False,
    ) -> Commit:
        now = time.time()
        parent = None if root else head.id
        text = f"{repository.id}\n{parent}\n{tree}\n{title}\n{message}\n{author}\n{now!r}"
        made = Commit(
            hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), parent, tree, title, message, author, now
        )
        connection.execute(
            insert(commits).values(
                repository_id=repository.id,
                id=made.id,
                parent=parent,
                tree=tree,
                title=title,
                message=message,
                author=author,
                created_at=now,
            )
        )
        connection.execute(
            update(refs).where(refs.c.repository_id == repository.id, refs.c.name == ref).values(commit_id=made.id)
        )
        connection.execute(update(repositories).where(repositories.c.id == repository.id).values(updated_at=now))
        if ref == MAIN:
            self._indexed(connection, repository, made)
        return made

    def _head(self, connection: Connection, repository_id: int, ref: str) -> Commit:
        found = self._resolve(connection, repository_id, ref)
        if found is None:
            raise HubNotFound(f"Invalid rev id: {ref.removeprefix(HEADS)}", revision=ref)
        return found

    def _resolve(self, connection: Connection, repository_id: int, revision: str) -> Commit | None:
        names = [revision] if revision.startswith("refs/") else [HEADS + revision, TAGS + revision]
        commit_id = connection.execute(
            select(func.min(refs.c.commit_id)).where(refs.c.repository_id == repository_id, refs.c.name == names[0])
        ).scalar()
        if commit_id is None and len(names) > 1:
            commit_id = connection.execute(
                select(refs.c.commit_id).where(refs.c.repository_id == repository_id, refs.c.name == names[1])
            ).scalar()
        row = connection.execute(
            select(commits).where(commits.c.repository_id == repository_id, commits.c.id == (commit_id or revision))
        ).first()
        return None if row is None else _commit(row)


def full_branch(branch: str) -> str:
    """``main`` → ``refs/heads/main``; full names stay."""
    return branch if branch.startswith("refs/") else HEADS + branch


def _commit(row: Row[tuple[object, ...]]) -> Commit:
    return Commit(row.id, row.parent, row.tree, row.title, row.message, row.author, row.created_at)
