"""Upkeep of a data folder: proof that it is whole, collection of what nobody needs, backup."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select

from commentary_hub.errors import CommentaryHubError
from commentary_hub_server.app import World
from commentary_hub_server.rules.repositories import object_key
from commentary_hub_server.rules.repositories.tables import commits, holdings, refs, repositories
from commentary_hub_server.rules.xet import from_text, verify_xorb, xorb_key
from commentary_hub_server.rules.xet.tables import chunks, file_xorbs, holders, xorbs
from commentary_hub_server.settings import Settings

_PIECE = 1 << 20


@dataclass
class Report:
    """What `check` found."""

    files: int = 0
    objects: int = 0
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def check(world: World) -> Report:
    """Read every object that a repository holds and compare its hash; every ref must name a stored commit."""
    report, seen = Report(), set[str]()
    with world.engine.execution_options(read_only=True).connect() as connection:
        held = connection.execute(
            select(holdings.c.sha256, holdings.c.size_bytes, holdings.c.xet, repositories.c.id, repositories.c.name)
            .join(repositories, repositories.c.id == holdings.c.repository_id)
        ).all()  # fmt: skip
        lost = connection.execute(
            select(refs.c.name, repositories.c.name)
            .join(repositories, repositories.c.id == refs.c.repository_id)
            .outerjoin(commits, (commits.c.repository_id == refs.c.repository_id) & (commits.c.id == refs.c.commit_id))
            .where(commits.c.id.is_(None))
        ).all()
        known_xorbs = connection.execute(select(xorbs.c.hash)).scalars().all()
    report.problems += [f"{name}: {ref} names a commit that is not stored" for ref, name in lost]
    for sha256, size, xet, number, name in held:
        report.files += 1
        if xet is None and sha256 in seen:
            continue
        seen.add(sha256)
        try:
            pieces = (
                world.objects.stream(object_key(sha256), 0, size)
                if xet is None
                else world.xet.read_file(str(number), xet, 0, size)
            )
            digest = hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
            report.objects += 1
            if digest.hexdigest() != sha256:
                report.problems.append(f"{name}: object {sha256} is damaged")
        except (OSError, LookupError) as error:
            report.problems.append(f"{name}: object {sha256} is missing ({error})")
    for xorb in known_xorbs:
        try:
            verify_xorb(world.objects.read(xorb_key(xorb)), xorb)
            report.objects += 1
        except (OSError, ValueError) as error:
            report.problems.append(f"xorb {xorb.hex()}: {error}")
    return report


def collect(world: World, *, older_than_s: float) -> tuple[int, int]:
    """Delete objects and xorbs that no repository holds and that are older than ``older_than_s``; (count, bytes).

    An upload is younger than its commit is long, and a xorb in use has a lease, so nothing that is on its way is lost.
    A xorb is forgotten by the index in one transaction before its bytes go.
    """
    count = size = 0
    before = time.time() - older_than_s
    for key, modified in list(world.objects.keys("objects")):
        if modified < before and not _is_held(world, key.rpartition("/")[2]):
            size += world.objects.size(key) or 0
            world.objects.delete(key)
            count += 1
    for key, modified in list(world.objects.keys("parts")):
        if modified < before:
            size += world.objects.size(key) or 0
            world.objects.delete(key)
            count += 1
    for key, modified in list(world.objects.keys("xorbs")):
        if modified < before and _forget_xorb(world, from_text(key.rpartition("/")[2]), before):
            size += world.objects.size(key) or 0
            world.objects.delete(key)
            count += 1
    return count, size


def _is_held(world: World, sha256: str) -> bool:
    with world.engine.execution_options(read_only=True).connect() as connection:
        found = connection.execute(select(holdings.c.sha256).where(holdings.c.sha256 == sha256).limit(1)).first()
    return found is not None


def _forget_xorb(world: World, xorb: bytes, before: float) -> bool:
    with world.engine.begin() as connection:
        alive = select(repositories.c.id)
        for repository, until in connection.execute(
            select(holders.c.repository, holders.c.until).where(holders.c.xorb == xorb)
        ).all():
            exists = connection.execute(alive.where(repositories.c.id == int(repository))).first() is not None
            if until > before and exists:
                return False
        connection.execute(delete(holders).where(holders.c.xorb == xorb))
        connection.execute(delete(file_xorbs).where(file_xorbs.c.xorb == xorb))
        connection.execute(delete(chunks).where(chunks.c.xorb == xorb))
        connection.execute(delete(xorbs).where(xorbs.c.hash == xorb))
    return True


def back_up(settings: Settings, folder: Path) -> None:
    """Copy the database by SQLite's own backup, then the objects, which are never changed: whole while the hub runs.

    The database comes first: every object that it names is already stored. Raises `CommentaryHubError` where the
    database or the objects lie elsewhere: use their own tools there.
    """
    if settings.database_url or settings.objects_url:
        raise CommentaryHubError("back up PostgreSQL and S3 with their own tools, the database first")
    if folder.exists():
        raise CommentaryHubError(f"{folder} exists: name a new folder", path=folder)
    if not (settings.data_dir / "hub.sqlite3").is_file():
        raise CommentaryHubError(f"{settings.data_dir} holds no hub: name its --data-dir", path=settings.data_dir)
    folder.mkdir(parents=True)
    source, target = sqlite3.connect(settings.data_dir / "hub.sqlite3"), sqlite3.connect(folder / "hub.sqlite3")
    with target:
        source.backup(target)
    source.close()
    target.close()
    shutil.copy2(settings.data_dir / "secret", folder / "secret")
    if (settings.data_dir / "objects").is_dir():
        shutil.copytree(settings.data_dir / "objects", folder / "objects", ignore=shutil.ignore_patterns(".writing-*"))
