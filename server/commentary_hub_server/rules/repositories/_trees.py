"""Merkle trees: folders that name what they hold by hash, so that a commit stores only the folders it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, select

from commentary_hub.errors import InputError
from commentary_hub_server.rules.repositories.tables import trees
from commentary_hub_server.store import upsert

MAX_FOLDER_BYTES = 16 << 20  # of one folder's own entries, some 100,000: whoever looks into it reads them all
MAX_CHANGED_BYTES = 128 << 20  # of the folders that one commit changes: they are in memory together
_FOLDERS, _ENTRIES = 64, 200_000  # remembered while many paths are looked up
MAX_COMPARED = 400_000  # entries of folders that differ: whoever asks what changed waits for them
EMPTY = hashlib.sha1(b"[]", usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class File:
    """A file in a tree: ``oid`` is its git blob id, ``sha256`` names its bytes, ``is_large``: by LFS or Xet."""

    oid: str
    size_bytes: int
    sha256: str
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder in a tree, by the hash of what it holds."""

    oid: str


Node = File | Folder


def read_folder(connection: Connection, oid: str) -> dict[str, Node]:
    """Name → node of one folder."""
    return _parsed(_stored(connection, oid))


def _stored(connection: Connection, oid: str) -> bytes:
    if oid == EMPTY:
        return b"[]"
    content: bytes | None = connection.execute(select(trees.c.content).where(trees.c.id == oid)).scalar()
    if content is None:
        raise LookupError(f"folder {oid} is not stored")
    return content


def _parsed(content: bytes) -> dict[str, Node]:
    return {line[0]: Folder(line[1]) if len(line) == 2 else File(line[1], line[2], line[3], bool(line[4]))
            for line in json.loads(content)}  # fmt: skip


def tree_id(entries: dict[str, Node]) -> str:
    """The id of a folder that holds these entries."""
    return hashlib.sha1(_written(entries), usedforsecurity=False).hexdigest()


def _written(entries: dict[str, Node]) -> bytes:
    lines: list[list[str | int]] = [
        [name, node.oid]
        if isinstance(node, Folder)
        else [name, node.oid, node.size_bytes, node.sha256, int(node.is_large)]
        for name, node in sorted(entries.items())
    ]
    return json.dumps(lines, separators=(",", ":"), ensure_ascii=False).encode()


def find(
    connection: Connection, root: str, path: str, read: Callable[[str], dict[str, Node]] | None = None
) -> Node | None:
    """The node at ``path`` (empty for the root); ``read`` may remember folders."""
    read = read or partial(read_folder, connection)
    node: Node = Folder(root)
    for part in path.split("/") if path else ():
        if not isinstance(node, Folder):
            return None
        below = read(node.oid).get(part)
        if below is None:
            return None
        node = below
    return node


def find_all(connection: Connection, root: str, paths: Iterable[str]) -> dict[str, Node | None]:
    """The nodes at many paths; by name, so that each folder is read once and few are remembered."""
    remembered: dict[str, dict[str, Node]] = {}  # the last used one is last

    def read(oid: str) -> dict[str, Node]:
        remembered[oid] = remembered.pop(oid, {}) or read_folder(connection, oid)
        while len(remembered) > _FOLDERS or (len(remembered) > 1 and sum(map(len, remembered.values())) > _ENTRIES):
            del remembered[next(iter(remembered))]
        return remembered[oid]

    return {path: find(connection, root, path, read) for path in sorted(set(paths))}


def walk(
    connection: Connection, root: str, prefix: str = "", *, recursive: bool = True, after: tuple[str, ...] = ()
) -> Iterator[tuple[str, Node]]:
    """(path, node) below ``root``, by name within each folder; folders come before what they hold.

    ``after`` holds the parts of a path below ``root``: the walk goes on behind it, without reading what lies before.
    """
    for name, node in sorted(read_folder(connection, root).items()):
        if after and name < after[0]:
            continue
        path, within = f"{prefix}{name}", bool(after) and name == after[0]
        if not within:
            yield path, node
        if recursive and isinstance(node, Folder):
            yield from walk(connection, node.oid, f"{path}/", after=after[1:] if within else ())


def compare(connection: Connection, before: str, after: str) -> Iterator[tuple[str, File | None, File | None]]:
    """(path, file before, file after) where the bytes below two folders are not the same; those of a folder first.

    Folders with the same hash are not read; past `MAX_COMPARED` entries of others, no further ones are.
    """
    waiting, entries = [("", before, after)] if before != after else [], 0
    while waiting and entries < MAX_COMPARED:
        prefix, *both = waiting.pop()
        old, new = (read_folder(connection, oid) for oid in both)
        entries += len(old) + len(new)
        below = []
        for name in sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)):
            nodes = old.get(name), new.get(name)
            was, now = (node if isinstance(node, File) else None for node in nodes)
            if (was and was.sha256) != (now and now.sha256):
                yield f"{prefix}{name}", was, now
            first, second = (node.oid if isinstance(node, Folder) else EMPTY for node in nodes)
            if first != second:
                below.append((f"{prefix}{name}/", first, second))
        waiting += reversed(below)


class Draft:
    """A tree that is being changed; only folders on changed paths are read, only changed ones are written.

    ``top`` is the draft of the whole tree, where this is a folder in one.
    """

    def __init__(self, connection: Connection, root: str, top: Draft | None = None) -> None:
        content = _stored(connection, root)
        self._connection, self._bytes, self._read_bytes = connection, len(content), 0
        self._top = top or self
        self._top._read_bytes += len(content)
        if top is not None and top._read_bytes > MAX_CHANGED_BYTES:
            raise InputError(
                f"the folders that a commit changes have at most {MAX_CHANGED_BYTES:,} bytes of names and hashes: "
                "make several commits"
            )
        self._entries: dict[str, Draft | Node] = dict(_parsed(content))
        self._spellings = {name.lower(): name for name in self._entries}

    def put(self, path: str, file: File) -> None:
        """Add or replace a file; raises `InputError` where a file stands in for a folder, or the reverse."""
        folder, _, name = path.partition("/")
        if name:
            below = self._below(folder, create=True)
            if below is None:
                raise InputError(f"{path!r}: {folder!r} is a file, not a folder", path=path)
            below.put(name, file)
        elif isinstance(self._entries.get(path), Draft | Folder):
            raise InputError(f"{path!r} is a folder: delete it first", path=path)
        else:
            self._spell(path)
            self._entries[path] = file

    def remove(self, path: str, *, folder: bool) -> bool:
        """Remove a file or a folder; ``False`` where there is none."""
        first, _, rest = path.partition("/")
        if rest:
            below = self._below(first, create=False)
            return below is not None and below.remove(rest, folder=folder)
        found = self._entries.get(path)
        if found is None or isinstance(found, File) == folder:
            return False
        del self._entries[path]
        del self._spellings[path.lower()]
        return True

    def write(self) -> str:
        """Store what changed and return the root's id. Empty folders vanish.

        Raises `InputError` for a folder that grows past `MAX_FOLDER_BYTES`; one that is larger already may shrink.
        """
        entries = {name: Folder(node.write()) if isinstance(node, Draft) else node for name, node in
                   self._entries.items()}  # fmt: skip
        content = _written({name: node for name, node in entries.items() if node.oid != EMPTY})
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        if len(content) > MAX_FOLDER_BYTES and len(content) > self._bytes:
            raise InputError(
                f"a folder would have {len(content):,} bytes of names and hashes, of {MAX_FOLDER_BYTES:,} allowed: "
                "put its files into sub-folders"
            )
        if oid != EMPTY:
            row = upsert(self._connection, trees).values(id=oid, content=content)
            self._connection.execute(row.on_conflict_do_nothing(index_elements=["id"]))
        return oid

    def _below(self, name: str, *, create: bool) -> Draft | None:
        node = self._entries.get(name)
        if isinstance(node, Draft):
            return node
        if isinstance(node, Folder):
            node = Draft(self._connection, node.oid, self._top)
        elif node is None and create:
            self._spell(name)
            node = Draft(self._connection, EMPTY, self._top)
        else:
            return None
        self._entries[name] = node
        return node

    def _spell(self, name: str) -> None:
        """Note a name; two that differ only in case would be one file on some systems."""
        known = self._spellings.setdefault(name.lower(), name)
        if known != name:
            raise InputError(f"{name!r} differs from {known!r} only in case: choose another name", path=name)
