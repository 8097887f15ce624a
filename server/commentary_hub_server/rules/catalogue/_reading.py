"""One commentary, read from its files: manifest, evidence, card, tensor headers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from commentary_hub.errors import ArtefactError, EvidenceError
from commentary_hub.manifest import (
    CARD_NAME,
    EVIDENCE_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Evidence,
    Manifest,
    tensor_digest,
)
from commentary_hub_server.rules.catalogue._safetensors import Header, Read, read_header
from commentary_hub_server.rules.catalogue._shelf import Shelf, StoredFile


@dataclass(frozen=True, slots=True)
class Commentary:
    """A commentary at one commit; ``evidence`` is ``None`` where there is none about these tensors."""

    repo_id: str
    revision: str
    manifest: Manifest
    evidence: Evidence | None
    card: str
    files: tuple[StoredFile, ...]


def read_commentary(shelf: Shelf, repo_id: str, revision: str, *, folder: str = "") -> Commentary:
    """Read the small files; raises `ArtefactError` or `FileNotFoundError` where there is no sound manifest."""
    prefix = f"{folder}/" if folder else ""
    files = tuple(shelf.files(repo_id, revision))
    names = {file.path for file in files}

    def text(name: str, limit: int = MAX_MANIFEST_BYTES + 1) -> bytes:
        return shelf.read(repo_id, revision, prefix + name, 0, limit)

    manifest = Manifest.from_json(text(MANIFEST_NAME))
    evidence = None
    if prefix + EVIDENCE_NAME in names:
        try:
            evidence = Evidence.from_json(text(EVIDENCE_NAME))
        except (EvidenceError, ArtefactError):
            evidence = None
        if evidence is not None and evidence.tensor_digest != tensor_digest(manifest.files):
            evidence = None
    card = text(CARD_NAME).decode(errors="replace") if prefix + CARD_NAME in names else ""
    return Commentary(repo_id, revision, manifest, evidence, card, files)


def tensor_file(shelf: Shelf, commentary: Commentary, path: str | None = None) -> tuple[Read, Header]:
    """A reader and the header of a tensor file (the first by name); raises `FileNotFoundError`, `TensorFileInvalid`."""
    candidates = [file for file in commentary.files if file.path.endswith(".safetensors")]
    found = next((file for file in candidates if path is None or file.path == path), None)
    if found is None:
        raise FileNotFoundError(path or "*.safetensors")
    read = partial(shelf.read, commentary.repo_id, commentary.revision, found.path)
    return read, read_header(read, found.size_bytes)
