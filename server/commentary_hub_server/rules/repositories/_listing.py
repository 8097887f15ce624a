"""From a commit on main to what can be found: tags, card metadata, and the catalogue's entries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from sqlalchemy import Connection, delete, insert, update

from commentary_hub.errors import ArtefactError, EvidenceError, ManifestInvalid
from commentary_hub.manifest import (
    CARD_NAME,
    EVIDENCE_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    NAME,
    Evidence,
    Manifest,
    split_card,
)
from commentary_hub_server.rules.catalogue import Catalogue, Entry, describe
from commentary_hub_server.rules.repositories import _revisions
from commentary_hub_server.rules.repositories._records import Commit, Repository
from commentary_hub_server.rules.repositories._trees import File, Folder, find, read_folder
from commentary_hub_server.rules.repositories.tables import repositories, tags

INSIDE = "commentaries"  # where a dataset's own repository keeps its commentaries
MAX_INSIDE = 200
_MAX_CARD_BYTES = 1 << 20
_MAX_BLOCK_BYTES = 2 << 20  # of a card that describes a repository: of many configurations, most is its YAML block
_MAX_METADATA = 100_000  # characters of JSON: lists hold a thousand of them
_LOOKED_BACK = 200  # commits, for who committed evidence that names a verification
MAX_INDEXED_BYTES = 16 << 20  # of one repository: they are read while every other writer waits
# Card key → prefix of the tag, per type of repository.
_TAGS = {
    "dataset": [
        ("tags", ""), ("license", "license:"), ("library_name", "library:"),
        *((key, f"{key}:") for key in ("language", "task_categories", "task_ids", "size_categories", "multilinguality",
                                       "language_creators", "annotations_creators", "source_datasets")),
    ],
    "model": [
        ("tags", ""), ("library_name", ""), ("pipeline_tag", ""), ("language", ""), ("license", "license:"),
        ("datasets", "dataset:"), ("base_model", "base_model:"),
    ],
}  # fmt: skip
_UNSTORABLE = re.compile(r"[\0\ud800-\udfff]")  # as text, in some database
Read = Callable[[Connection, Repository, File, int], bytes]


class Indexer:
    """Follows commits to main; a manifest that cannot be read is kept, not listed, and the repository says why.

    Every call is part of a transaction that has locked the repository, so that the catalogue never shows what a
    setting, a move or a deletion beside it hides.
    """

    def __init__(self, catalogue: Catalogue, read: Read) -> None:
        self._catalogue, self._read = catalogue, read

    def __call__(self, connection: Connection, repository: Repository, commit: Commit) -> None:
        """Bring tags and entries to what ``commit`` holds, inside its transaction."""
        self._note_card(connection, repository, commit)
        if repository.kind != "dataset":
            return
        self._catalogue.remove(repository.name, connection)
        problems, left = [], MAX_INDEXED_BYTES
        entries: list[tuple[Entry, Evidence | None]] = []
        for folder in self._folders(connection, commit):
            nodes = _described(connection, commit, folder)
            left -= sum(min(node.size_bytes, MAX_MANIFEST_BYTES) for node in nodes.values())
            try:
                if left < 0:
                    raise ManifestInvalid(
                        f"what describes a repository's commentaries has over {MAX_INDEXED_BYTES:,} bytes"
                    )
                entries.append(self._read_entry(connection, repository, commit, folder, nodes))
            except (ArtefactError, EvidenceError) as error:
                problems.append(f"{folder}: {error}" if folder else str(error))
        for entry in _verified(connection, repository, commit, entries):
            self._catalogue.put(entry, connection)
        connection.execute(
            update(repositories)
            .where(repositories.c.id == repository.id)
            .values(problem=_UNSTORABLE.sub("?", "; ".join(problems))[:2000] or None)
        )

    def forget(self, connection: Connection, repository: Repository) -> None:
        """Take a repository's entries out of the catalogue."""
        if repository.kind == "dataset":
            self._catalogue.remove(repository.name, connection)

    def set_private(self, connection: Connection, repository: Repository, *, private: bool) -> None:
        """Follow a repository's setting."""
        if repository.kind == "dataset":
            self._catalogue.set_private(repository.name, private=private, connection=connection)

    def _folders(self, connection: Connection, commit: Commit) -> list[str]:
        """The folders with a manifest: the root, and those of a dataset's own repository that are called like one."""
        found = [""] if isinstance(find(connection, commit.tree, MANIFEST_NAME), File) else []
        inside = find(connection, commit.tree, INSIDE)
        if isinstance(inside, Folder):
            for name, node in sorted(read_folder(connection, inside.oid).items())[:MAX_INSIDE]:
                if not isinstance(node, Folder) or not re.fullmatch(NAME, name):
                    continue
                if isinstance(read_folder(connection, node.oid).get(MANIFEST_NAME), File):
                    found.append(f"{INSIDE}/{name}")
        return found

    def _read_entry(
        self, connection: Connection, repository: Repository, commit: Commit, folder: str, nodes: dict[str, File]
    ) -> tuple[Entry, Evidence | None]:
        def text(name: str, limit: int) -> bytes | None:
            return self._read(connection, repository, nodes[name], limit) if name in nodes else None

        manifest = Manifest.from_json(text(MANIFEST_NAME, MAX_MANIFEST_BYTES + 1) or b"")
        raw = text(EVIDENCE_NAME, MAX_MANIFEST_BYTES + 1)
        evidence = None if raw is None else Evidence.from_json(raw)
        card = (text(CARD_NAME, _MAX_CARD_BYTES) or b"").decode(errors="replace")
        entry = describe(
            repository.name, commit.id, manifest, private=repository.private, updated_at=commit.created_at,
            evidence=evidence, card=card, folder=folder,
        )  # fmt: skip
        return entry, evidence

    def _note_card(self, connection: Connection, repository: Repository, commit: Commit) -> None:
        node = find(connection, commit.tree, CARD_NAME)
        metadata: dict[str, object] = {}
        if isinstance(node, File):
            try:
                metadata, _ = split_card(
                    self._read(connection, repository, node, _MAX_BLOCK_BYTES).decode(errors="replace")
                )
            except ArtefactError:
                metadata = {}
        try:
            card = _written(metadata)
        except ValueError:  # a number with thousands of digits
            card, metadata = "{}", {}
        names = _tags(metadata, repository.kind)
        connection.execute(delete(tags).where(tags.c.repository_id == repository.id))
        if names:
            connection.execute(insert(tags), [{"repository_id": repository.id, "tag": name} for name in names])
        connection.execute(
            update(repositories).where(repositories.c.id == repository.id).values(card=card, tags=json.dumps(names))
        )


def _described(connection: Connection, commit: Commit, folder: str) -> dict[str, File]:
    """The files that describe a commentary."""
    prefix = f"{folder}/" if folder else ""
    found = {name: find(connection, commit.tree, prefix + name) for name in (MANIFEST_NAME, EVIDENCE_NAME, CARD_NAME)}
    return {name: node for name, node in found.items() if isinstance(node, File)}


def _verified(
    connection: Connection, repository: Repository, commit: Commit, entries: list[tuple[Entry, Evidence | None]]
) -> Iterator[Entry]:
    """The entries; one is verified where the account that a verification names is the one that committed it.

    Neither the owner nor who committed the manifest verifies their own; who they are the commits say, not the files.
    """
    paths = [
        _path(entry.folder, name) for entry, _ in entries if entry.verified for name in (EVIDENCE_NAME, MANIFEST_NAME)
    ]
    authors = _revisions.authors(connection, repository.id, commit, paths, limit=_LOOKED_BACK) if paths else {}
    for entry, evidence in entries:
        by = authors.get(_path(entry.folder, EVIDENCE_NAME))
        maker = authors.get(_path(entry.folder, MANIFEST_NAME))
        others = by is not None and maker is not None and by != maker
        confirmed = others and evidence is not None and evidence.is_verified(repository.owner, by)
        yield replace(entry, verified=entry.verified and confirmed)


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _written(metadata: dict[str, object]) -> str:
    """The metadata as JSON, without the largest values where all of them are too long."""
    said = {str(name): json.dumps(_as_json(value), allow_nan=False) for name, value in metadata.items()}
    parts = {name: f"{json.dumps(name)}: {value}" for name, value in said.items()}
    left = _MAX_METADATA
    for name in sorted(parts, key=lambda name: len(parts[name])):
        left -= len(parts[name]) + len(", ")
        if left < 0:
            del parts[name]
    return f"{{{', '.join(parts.values())}}}"


def _as_json(value: object) -> object:
    """What YAML knows and JSON does not, as text: dates, bytes, sets, names that are no strings; no number: none."""
    if isinstance(value, dict):
        return {str(name): _as_json(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(below) for below in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _tags(metadata: dict[str, object], kind: str) -> list[str]:
    """The tags that a hub derives from a card's metadata, as the clients filter by them."""
    found: list[str] = []
    for key, prefix in _TAGS[kind]:
        value = metadata.get(key)
        values = value if isinstance(value, list) else [value]
        found += [
            prefix + one for one in values if isinstance(one, str) and len(one) <= 150 and not _UNSTORABLE.search(one)
        ]
    return list(dict.fromkeys(found))[:100]
