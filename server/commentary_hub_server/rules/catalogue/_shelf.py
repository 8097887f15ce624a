"""What the catalogue and the pages ask of the hub: files at a revision, history, accounts. Two small doors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from commentary_hub_server.rules.catalogue._search import Viewer


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file at a revision; ``digest`` is equal exactly where the bytes are."""

    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Place:
    """A repository, whether it holds a commentary or not; ``problem`` says why what it holds is not listed."""

    repo_id: str
    private: bool
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit: ``id`` is 40 hex digits, ``created_at`` seconds since the epoch."""

    id: str
    title: str
    author: str
    created_at: float


class Shelf(Protocol):
    """Read access to repositories that the caller has already been allowed to see."""

    def place(self, repo_id: str) -> Place | None:
        """The repository of a name in any case; whether it may be seen is the caller's to check."""

    def resolve(self, repo_id: str, revision: str) -> str | None:
        """The commit id that a branch, tag or commit id names, or ``None``."""

    def files(self, repo_id: str, revision: str, *, limit: int, folder: str = "", after: str = "") -> list[StoredFile]:
        """At most ``limit`` files below ``folder``, behind the path ``after``, sorted by the parts of their paths."""

    def some(self, repo_id: str, revision: str, paths: Sequence[str]) -> list[StoredFile]:
        """Those of ``paths`` that are files."""

    def changes(
        self, repo_id: str, before: str, after: str, *, limit: int
    ) -> list[tuple[StoredFile | None, StoredFile | None]]:
        """At most ``limit`` files that are not the same in two revisions: as each was, and as it is."""

    def read(self, repo_id: str, revision: str, path: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from ``start``; fewer at the end. Raises `FileNotFoundError`."""

    def history(self, repo_id: str, revision: str, limit: int) -> list[Revision]:
        """Commits, newest first."""


@dataclass(frozen=True, slots=True)
class TokenLine:
    """A token as its owner sees it: never the secret. Times are seconds since the epoch."""

    id: str
    name: str
    role: str
    created_at: float
    expires_at: float | None = None


class Accounts(Protocol):
    """What the pages do with accounts and repositories; every method checks the right to do it."""

    def check_password(self, name: str, password: str) -> str | None:
        """The user's name as stored, where the password is theirs (argon2), else ``None``, in equal time."""

    def viewer(self, name: str | None) -> Viewer:
        """Who this is now: a removed user is a stranger."""

    def session_epoch(self, name: str) -> int | None:
        """The number that every live session of a user carries; ``None`` where there is no such user."""

    def end_sessions(self, name: str) -> None:
        """Let all sessions of a user end, wherever they were begun."""

    def tokens(self, name: str) -> list[TokenLine]:
        """The user's tokens."""

    def create_token(self, name: str, label: str, role: str) -> str:
        """A new token's secret, shown once."""

    def revoke_token(self, name: str, token_id: str) -> None:
        """Forget one of the user's tokens."""

    def may_administer(self, viewer: Viewer, repo_id: str) -> bool:
        """Whether settings and deletion are the viewer's."""

    def set_private(self, viewer: Viewer, repo_id: str, *, private: bool) -> None:
        """Hide or show a repository."""

    def delete(self, viewer: Viewer, repo_id: str) -> None:
        """Delete a repository with all its revisions."""
