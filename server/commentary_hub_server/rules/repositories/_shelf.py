"""The catalogue's view of repositories of one kind: files at a revision, and history. Datasets hold commentaries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from commentary_hub_server.rules.catalogue import Place, Revision, StoredFile
from commentary_hub_server.rules.repositories._history import History
from commentary_hub_server.rules.repositories._records import Commit, Repository
from commentary_hub_server.rules.repositories._repositories import Repositories
from commentary_hub_server.rules.repositories._trees import File


class RepositoryShelf:
    """Implements the catalogue's `Shelf`."""

    def __init__(self, repositories: Repositories, history: History, kind: str = "dataset") -> None:
        self._repositories, self._history, self._kind = repositories, history, kind

    def place(self, repo_id: str) -> Place | None:
        """The repository of a name, its old names included."""
        found = self._repositories.get(self._kind, repo_id)
        return None if found is None else Place(found.name, found.private, found.problem)

    def resolve(self, repo_id: str, revision: str) -> str | None:
        """The commit id that a revision names."""
        found = self._find(repo_id, revision)
        return None if found is None else found[1].id

    def files(self, repo_id: str, revision: str, *, limit: int, folder: str = "", after: str = "") -> list[StoredFile]:
        """At most ``limit`` files below ``folder``, behind the path ``after``: no more folders are read for them."""
        _, commit = self._demand(repo_id, revision)
        below = self._history.files(commit, folder, after=after)
        try:
            return list(islice((_file(path, node) for path, node in below if isinstance(node, File)), limit))
        except FileNotFoundError:
            return []

    def some(self, repo_id: str, revision: str, paths: Sequence[str]) -> list[StoredFile]:
        """Those of ``paths`` that are files."""
        _, commit = self._demand(repo_id, revision)
        found = zip(paths, self._history.nodes(commit, paths), strict=True)
        return [_file(path, node) for path, node in found if isinstance(node, File)]

    def changes(
        self, repo_id: str, before: str, after: str, *, limit: int
    ) -> list[tuple[StoredFile | None, StoredFile | None]]:
        """At most ``limit`` files that are not the same in two revisions: as each was, and as it is."""
        old, new = (self._demand(repo_id, revision)[1] for revision in (before, after))
        return [
            (None if was is None else _file(path, was), None if now is None else _file(path, now))
            for path, was, now in self._history.changes(old, new, limit)
        ]

    def read(self, repo_id: str, revision: str, path: str, start: int, length: int) -> bytes:
        """A range of a file; raises `FileNotFoundError`."""
        repository, commit = self._demand(repo_id, revision)
        opened = self._history.open(repository, commit, path)
        if opened is None:
            raise FileNotFoundError(path)
        return self._history.read(repository, opened, start, length)

    def history(self, repo_id: str, revision: str, limit: int) -> list[Revision]:
        """Commits, newest first."""
        repository, commit = self._demand(repo_id, revision)
        return [Revision(c.id, c.title, c.author, c.created_at) for c in self._history.log(repository, commit, limit)]

    def _find(self, repo_id: str, revision: str) -> tuple[Repository, Commit] | None:
        repository = self._repositories.get(self._kind, repo_id)
        commit = None if repository is None else self._history.resolve(repository, revision)
        return None if repository is None or commit is None else (repository, commit)

    def _demand(self, repo_id: str, revision: str) -> tuple[Repository, Commit]:
        found = self._find(repo_id, revision)
        if found is None:
            raise FileNotFoundError(f"{repo_id}@{revision}")
        return found


def _file(path: str, node: File) -> StoredFile:
    return StoredFile(path, node.size_bytes, node.sha256)
