"""What the rules tell about repositories, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from commentary_hub_server.rules.repositories._paths import SHORT
from commentary_hub_server.rules.repositories._trees import File


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository; ``key`` is ``kind/owner/name`` in lower case, times are seconds since the epoch."""

    id: int
    key: str
    kind: str
    name: str
    private: bool
    created_at: float
    updated_at: float
    size_bytes: int
    epoch: int
    tags: tuple[str, ...]
    card: dict[str, Any]
    problem: str | None

    @classmethod
    def of_row(cls, row: Row[Any]) -> Repository:
        """The repository in a row of the table."""
        return cls(
            id=row.id, key=row.key, kind=row.kind, name=row.name, private=row.private, created_at=row.created_at,
            updated_at=row.updated_at, size_bytes=row.size_bytes, epoch=row.epoch, tags=tuple(json.loads(row.tags)),
            card=json.loads(row.card), problem=row.problem,
        )  # fmt: skip

    @property
    def owner(self) -> str:
        """The namespace, as written."""
        return self.name.partition("/")[0]

    @property
    def public_id(self) -> str:
        """The id that clients see: without the owner where it has one segment."""
        return self.name.removeprefix(f"{SHORT}/")


@dataclass(frozen=True, slots=True)
class Commit:
    """One revision: immutable."""

    id: str
    parent: str | None
    tree: str
    title: str
    message: str
    author: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Change:
    """One operation of a commit: put ``data`` (bytes) or ``sha256`` (uploaded before), or delete."""

    path: str
    data: bytes | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    delete_file: bool = False
    delete_folder: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of repositories and where the next begins."""

    repositories: tuple[Repository, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A file at a revision, ready to be read; ``xet`` is its Xet hash where it has one."""

    commit: str
    path: str
    file: File
    xet: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which repositories to list."""

    kind: str
    tags: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    author: str | None = None
    sort: str = "lastModified"
    ascending: bool = False
    limit: int = 100
    cursor: str | None = None
    reads: frozenset[str] = field(default_factory=frozenset)
    is_admin: bool = False
