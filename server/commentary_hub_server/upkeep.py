"""Upkeep of a data folder: proof that it is whole, collection of what nobody needs, backup."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, String, cast, delete, insert, select
from sqlalchemy.exc import IntegrityError

from commentary_hub.errors import CommentaryHubError, HubConflict, HubNotFound
from commentary_hub_server.app import World
from commentary_hub_server.rules.repositories import File, object_key, read_folder, tree_id
from commentary_hub_server.rules.repositories.tables import blobs, commits, holdings, refs, repositories
from commentary_hub_server.rules.xet import forget_file, from_text, to_text, verify_xorb, xorb_key
from commentary_hub_server.rules.xet.tables import chunks, file_xorbs, files, holders, xorbs
from commentary_hub_server.settings import Settings
from commentary_hub_server.store import connect, private_file
from commentary_hub_server.store.tables import leases

_PUSH_S = 24 * 3600  # from the shard of a push to its commit
_UPKEEP = "upkeep"  # the lease that keeps a backup and a collection apart


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
    """Prove that the hub is whole.

    Every ref names a stored commit; every folder of every revision is stored and hashes to its name; every file in
    them is held by its repository, unless it was deleted for good; every held object and every xorb is stored and
    hashes to its name.
    """
    report = Report()
    reads = world.engine.execution_options(read_only=True)
    with reads.connect() as connection:
        lost = connection.execute(
            select(refs.c.name.label("ref"), repositories.c.name)
            .join(repositories, repositories.c.id == refs.c.repository_id)
            .outerjoin(commits, (commits.c.repository_id == refs.c.repository_id) & (commits.c.id == refs.c.commit_id))
            .where(commits.c.id.is_(None))
        ).all()
        report.problems += [f"{row.name}: {row.ref} names a commit that is not stored" for row in lost]
        for number, name in [(row.id, row.name) for row in connection.execute(select(repositories))]:
            _check_trees(connection, number, name, report)
        held = connection.execute(
            select(holdings, repositories.c.name)
            .join(repositories, repositories.c.id == holdings.c.repository_id)
            .where(holdings.c.removed.is_(False))
            .order_by(holdings.c.sha256)
        ).all()
        known_xorbs = connection.execute(select(xorbs.c.hash)).scalars().all()
    seen: set[str] = set()
    for row in held:
        report.files += 1
        if row.xet is not None or row.sha256 not in seen:
            _check_object(world, row, report)
        if row.xet is None:
            seen.add(row.sha256)
    for xorb in known_xorbs:
        report.objects += 1
        try:
            verify_xorb(world.objects.stream(xorb_key(xorb), once=True), xorb)
        except (OSError, ValueError) as error:
            report.problems.append(f"xorb {xorb.hex()}: {error}")
    return report


def _check_trees(connection: Connection, number: int, name: str, report: Report) -> None:
    """Walk all folders of a repository once; what they name must be there."""
    noted = set(connection.execute(select(holdings.c.sha256).where(holdings.c.repository_id == number)).scalars())
    todo = set(connection.execute(select(commits.c.tree).where(commits.c.repository_id == number)).scalars())
    seen: set[str] = set()
    while todo:
        oid = todo.pop()
        seen.add(oid)
        try:
            entries = read_folder(connection, oid)
        except LookupError:
            report.problems.append(f"{name}: folder {oid} is not stored")
            continue
        if tree_id(entries) != oid:
            report.problems.append(f"{name}: folder {oid} is damaged")
        for entry, node in entries.items():
            if not isinstance(node, File):
                todo |= {node.oid} - seen
            elif node.sha256 not in noted:
                report.problems.append(f"{name}: {entry} names object {node.sha256}, which it does not hold")


def _check_object(world: World, row: Any, report: Report) -> None:
    """Read one object and compare its hash."""
    digest = hashlib.sha256()
    report.objects += 1
    try:
        with world.engine.execution_options(read_only=True).connect() as connection:
            small = connection.execute(select(blobs.c.content).where(blobs.c.sha256 == row.sha256)).scalar()
        if row.xet is not None:
            pieces: Iterator[Any] = world.xet.read_file(str(row.repository_id), row.xet, 0, row.size_bytes)
        elif small is not None:
            pieces = iter([small])
        else:
            pieces = world.objects.stream(object_key(row.sha256), once=True)
        for piece in pieces:
            digest.update(piece)
        if digest.hexdigest() != row.sha256:
            report.problems.append(f"{row.name}: object {row.sha256} is damaged")
    except (OSError, LookupError, ValueError) as error:
        report.problems.append(f"{row.name}: object {row.sha256} is missing ({error})")


def collect(world: World, *, older_than_s: float) -> tuple[int, int]:
    """Delete what no repository holds and is older than ``older_than_s``; (count, bytes). Safe beside traffic.

    Each key is condemned first (see `Leases`): an upload of the same object either holds it already, and then it is
    spared, or waits until it is gone and stores it again. Raises `HubConflict` while a backup is being made.
    """
    before, count, size = time.time() - older_than_s, 0, 0
    with _alone(world.engine):
        world.leases.forget_ended()
        _forget_repositories(world)
        _forget_uncommitted(world, time.time() - max(older_than_s, _PUSH_S))
        for prefix in ("objects", "parts", "xorbs"):
            for key, modified, length in list(world.objects.keys(prefix)):
                if modified < before and _take_away(world, prefix, key, before):
                    size += length
                    count += 1
        with world.engine.begin() as connection:
            unheld = blobs.c.sha256.not_in(select(holdings.c.sha256).where(holdings.c.removed.is_(False)))
            count += connection.execute(delete(blobs).where(blobs.c.created_at < before, unheld)).rowcount
        world.objects.sweep(max(older_than_s, 3600))
    return count, size


def _take_away(world: World, prefix: str, key: str, before: float) -> bool:
    """Delete an object that nobody needs; ``False`` where somebody does."""
    name = key.rpartition("/")[2]
    if prefix == "xorbs":
        # Forgotten for good before its bytes go: a kill in between leaves bytes without a row, which are collected
        # next time; a row without bytes would stand for a xorb that nobody can read.
        with world.leases.condemned(key) as connection:
            if connection is None or not _forget_xorb(connection, from_text(name), before):
                return False
    with world.leases.condemned(key) as connection:
        if connection is None or _is_needed(connection, prefix, name):
            return False
        world.objects.delete(key)
    return True


def _is_needed(connection: Connection, prefix: str, name: str) -> bool:
    """Whether a repository holds an object, or the index knows a xorb."""
    if prefix == "parts":
        return False
    if prefix == "objects":
        held = (holdings.c.sha256 == name) & holdings.c.removed.is_(False) & holdings.c.xet.is_(None)
        return connection.execute(select(holdings.c.sha256).where(held).limit(1)).first() is not None
    return connection.execute(select(xorbs.c.hash).where(xorbs.c.hash == from_text(name))).first() is not None


def _forget_xorb(connection: Connection, xorb: bytes, before: float) -> bool:
    """Take a xorb out of the index; ``False`` where somebody holds it, or a file is made of it."""
    live = select(holders.c.xorb).where(holders.c.xorb == xorb, holders.c.until > before)
    for needed in (live, select(file_xorbs.c.xorb).where(file_xorbs.c.xorb == xorb)):
        if connection.execute(needed.limit(1)).first() is not None:
            return False
    for table, column in ((holders, holders.c.xorb), (chunks, chunks.c.xorb), (xorbs, xorbs.c.hash)):
        connection.execute(delete(table).where(column == xorb))
    return True


def _forget_repositories(world: World) -> None:
    """Drop the Xet files of repositories that were deleted; numbers of repositories are never given twice."""
    alive = select(cast(repositories.c.id, String))
    with world.engine.begin() as connection:
        for table in (files, file_xorbs, holders):
            connection.execute(delete(table).where(table.c.repository.not_in(alive)))


def _forget_uncommitted(world: World, before: float) -> None:
    """Forget the Xet files of pushes that were given up, which would take their owner's room for good."""
    old = files.c.created_at < before
    with world.engine.execution_options(read_only=True).connect() as connection:
        found = connection.execute(select(files.c.repository).where(old).distinct()).scalars().all()
    for number in found:
        mine = (holdings.c.repository_id == int(number)) & holdings.c.xet.is_not(None) & holdings.c.removed.is_(False)
        with suppress(HubNotFound), world.engine.begin() as connection:
            world.repositories.lock(connection, int(number))  # a commit that names one has noted it, or comes later
            noted = set(connection.execute(select(holdings.c.xet).where(mine)).scalars())
            theirs = select(files.c.hash).where(old, files.c.repository == number)
            for digest in connection.execute(theirs).scalars().all():
                if to_text(digest) not in noted:
                    forget_file(connection, number, digest)


@contextmanager
def _alone(engine: Any) -> Iterator[None]:
    """One collection or backup at a time; a lease that a killed process left ends after a day."""
    try:
        with engine.begin() as connection:
            connection.execute(delete(leases).where(leases.c.key == _UPKEEP, leases.c.until < time.time()))
            connection.execute(insert(leases).values(key=_UPKEEP, until=time.time() + 24 * 3600))
    except IntegrityError as error:
        raise HubConflict("a collection or a backup is running: wait until it has ended") from error
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(delete(leases).where(leases.c.key == _UPKEEP))


def back_up(settings: Settings, folder: Path) -> None:
    """Copy the database by SQLite's own backup, then the objects, which are never changed: whole while the hub runs.

    The database comes first: every object that it names is already stored, and nothing is collected meanwhile. Raises
    `CommentaryHubError` where the database or the objects lie elsewhere: use their own tools there.
    """
    if settings.database_url or settings.objects_url:
        raise CommentaryHubError("back up PostgreSQL and S3 with their own tools, the database first")
    if folder.exists():
        raise CommentaryHubError(f"{folder} exists: name a new folder", path=folder)
    if not (settings.data_dir / "hub.sqlite3").is_file():
        raise CommentaryHubError(f"{settings.data_dir} holds no hub: name its --data-dir", path=settings.data_dir)
    engine = connect(settings.database)
    try:
        with _alone(engine), _whole(folder):
            _copy(settings.data_dir, folder)
    finally:
        engine.dispose()


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """A new folder that is filled, or gone again where that fails; raises `CommentaryHubError` in one line."""
    made = False
    try:
        folder.mkdir(parents=True)
        made = True
        yield
    except (OSError, sqlite3.Error) as error:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        # Of all that could not be copied, the first: (source, target, why).
        why = "{0}: {2}".format(*error.args[0][0]) if isinstance(error, shutil.Error) else str(error)
        raise CommentaryHubError(f"no backup in {folder}: {why}; mend that, then back up again", path=folder) from error


def _copy(data_dir: Path, folder: Path) -> None:
    private_file(folder / "hub.sqlite3")
    source, target = sqlite3.connect(data_dir / "hub.sqlite3"), sqlite3.connect(folder / "hub.sqlite3")
    try:
        with target:
            source.backup(target)
            target.execute("DELETE FROM object_leases WHERE key = ?", (_UPKEEP,))
    finally:
        source.close()
        target.close()
    if (data_dir / "secret").is_file():
        shutil.copy2(data_dir / "secret", folder / "secret")
    if (data_dir / "objects").is_dir():
        # What is still arriving comes and goes while it is copied, and nobody could complete it here.
        arriving = shutil.ignore_patterns(".writing-*", "parts")
        shutil.copytree(data_dir / "objects", folder / "objects", ignore=arriving)
