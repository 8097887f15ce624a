"""One commentary, read from its files: manifest, evidence, card, tensor headers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

from commentary_hub.errors import ArtefactError, EvidenceError
from commentary_hub.manifest import (
    CARD_NAME,
    EVIDENCE_NAME,
    KEYS_TENSOR,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    TENSORS_INDEX_NAME,
    Evidence,
    Manifest,
)
from commentary_hub_server.rules.catalogue._safetensors import Header, Read, read_header
from commentary_hub_server.rules.catalogue._shelf import Shelf, StoredFile

MAX_INDEX_BYTES = 1 << 20
_PLOTS, _MAX_PLOTS = "plots", 100


@dataclass(frozen=True, slots=True)
class Commentary:
    """A commentary at one commit; ``evidence`` is ``None`` where there is none about these tensors.

    ``files`` are those that the manifest names and the first hundred below ``plots/``; ``folder`` is where in the
    repository the commentary lies (empty: at the root).
    """

    repo_id: str
    revision: str
    manifest: Manifest
    evidence: Evidence | None
    card: str
    files: tuple[StoredFile, ...]
    folder: str = ""

    @property
    def prefix(self) -> str:
        """What the paths of its own files begin with."""
        return f"{self.folder}/" if self.folder else ""


def read_commentary(shelf: Shelf, repo_id: str, revision: str, *, folder: str = "") -> Commentary:
    """Read the small files; raises `ArtefactError` or `FileNotFoundError` where there is no sound manifest."""
    prefix = f"{folder}/" if folder else ""

    def text(name: str, limit: int = MAX_MANIFEST_BYTES + 1) -> bytes:
        return shelf.read(repo_id, revision, prefix + name, 0, limit)

    manifest = Manifest.from_json(text(MANIFEST_NAME))
    wanted = (MANIFEST_NAME, EVIDENCE_NAME, CARD_NAME, TENSORS_INDEX_NAME, *manifest.tensor_files)
    files = shelf.some(repo_id, revision, [prefix + name for name in dict.fromkeys(wanted)])
    names = {file.path for file in files}
    files += shelf.files(repo_id, revision, folder=f"{prefix}{_PLOTS}", limit=_MAX_PLOTS)
    evidence = None
    if prefix + EVIDENCE_NAME in names:
        try:
            evidence = Evidence.from_json(text(EVIDENCE_NAME))
        except (EvidenceError, ArtefactError):
            evidence = None
        if evidence is not None and not evidence.describes(manifest):
            evidence = None
    card = text(CARD_NAME).decode(errors="replace") if prefix + CARD_NAME in names else ""
    return Commentary(repo_id, revision, manifest, evidence, card, tuple(files), folder)


def tensor_file(shelf: Shelf, commentary: Commentary, *, holding: str = KEYS_TENSOR) -> tuple[Read, Header]:
    """A reader and the header of the tensor file that has the tensor ``holding``.

    Of several files it is the one that their index names, or the first where it names none: one header is read.

    Raises `FileNotFoundError` without tensor files and `TensorFileInvalid` for a damaged one.
    """
    named = {commentary.prefix + name for name in commentary.manifest.tensor_files}
    shards = [file for file in commentary.files if file.path in named]
    if not shards:
        raise FileNotFoundError("*.safetensors")
    where = _shard_of(shelf, commentary, holding) if len(shards) > 1 else ""
    file = next((shard for shard in shards if shard.path == where), shards[0])
    read = partial(shelf.read, commentary.repo_id, commentary.revision, file.path)
    return read, read_header(read, file.size_bytes)


def _shard_of(shelf: Shelf, commentary: Commentary, tensor: str) -> str:
    """The path of the shard that the index names for a tensor; empty where it names none."""
    path = commentary.prefix + TENSORS_INDEX_NAME
    try:
        raw = shelf.read(commentary.repo_id, commentary.revision, path, 0, MAX_INDEX_BYTES)
        return f"{commentary.prefix}{json.loads(raw)['weight_map'][tensor]}"
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return ""
