"""Digests of files: what is checked before a file is used, and what a verdict belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class FileDigest(BaseModel):
    """SHA-256 (hex) and size of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]

    @classmethod
    def of_file(cls, path: Path) -> FileDigest:
        """Digest a file of any size in constant memory."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return cls(sha256=digest.hexdigest(), size_bytes=path.stat().st_size)


def tensor_digest(files: Mapping[str, FileDigest]) -> str:
    """One SHA-256 over the tensor files of an artefact (name and digest of each, sorted by name).

    A verdict belongs to this digest: change one weight and it is another commentary.

    >>> one = FileDigest(sha256="0" * 64, size_bytes=8)
    >>> tensor_digest({"commentary.safetensors": one, "README.md": one})[:16]
    '2c863cb7f459122c'
    """
    lines = [f"{name} {files[name].sha256}\n" for name in sorted(files) if name.endswith(".safetensors")]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
