"""A folder that claims to be an artefact: read its manifest, and believe nothing that its digests do not prove."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from commentary_hub.errors import DigestMismatch, ManifestInvalid, ManifestMissing, TensorFileInvalid, UnsafeFile
from commentary_hub.manifest._digests import FileDigest
from commentary_hub.manifest._manifest import CARD_NAME, MANIFEST_NAME, Manifest

# What an artefact may hold. A list of what is allowed, never a scan for what is not: formats that can carry code
# (pickle and its disguises) have no place here.
ALLOWED_SUFFIXES = frozenset({".json", ".md", ".toml", ".safetensors", ".png", ".svg", ".csv", ".parquet", ".jsonl"})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; raises `ManifestMissing`, `ManifestInvalid` or `FormatTooNew`."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ManifestMissing(
            f"{folder} holds no {MANIFEST_NAME}: it is not a commentary (or the download was cut short)", folder=folder
        )
    return Manifest.from_json(path.read_bytes(), where=str(path))


def artefact_files(folder: Path) -> tuple[str, ...]:
    """The files of an artefact but its manifest, as sorted POSIX paths; `UnsafeFile` for what may not be there.

    Hidden files and folders (checkpoints, caches) are no part of an artefact and are passed over.
    """
    names = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(root, file)
            name = path.relative_to(folder).as_posix()
            if file.startswith(".") or name == MANIFEST_NAME:
                continue
            if path.suffix.lower() not in ALLOWED_SUFFIXES:
                raise UnsafeFile(
                    f"{path} is a {path.suffix or file} file: "
                    "an artefact holds safetensors, JSON, TOML, Markdown, tables and pictures only; remove it",
                    path=path,
                )
            names.append(name)
    return tuple(sorted(names))


def verify_folder(folder: Path) -> Manifest:
    """Check every file against the manifest's digests and return the manifest; reads each file once.

    The card may be edited by hand, so its digest may differ. Raises `DigestMismatch` for any other file that is
    missing or changed, `UnsafeFile` for one that must not be there, `TensorFileInvalid` for a manifest without tensors.
    """
    manifest = read_manifest(folder)
    present = artefact_files(folder)
    for name, expected in manifest.files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or name != str(pure):
            raise ManifestInvalid(f"{folder}: the manifest names a file outside the folder: {name!r}", name=name)
        if name == CARD_NAME:
            continue
        if name not in present:
            raise DigestMismatch(f"{folder / name} is missing: pull the commentary again", path=folder / name)
        size_bytes = (folder / name).stat().st_size
        if size_bytes != expected.size_bytes or FileDigest.of_file(folder / name) != expected:
            raise DigestMismatch(
                f"{folder / name} is not the file that the manifest describes ({size_bytes} bytes, expected "
                f"{expected.size_bytes}, sha256 {expected.sha256[:12]}…): pull or save the commentary again",
                path=folder / name,
            )
    if not manifest.tensor_files:
        raise TensorFileInvalid(f"{folder}: the manifest names no tensor file", folder=folder)
    return manifest
