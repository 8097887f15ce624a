"""The bytes of files: by SHA-256 in the object store, or as Xet files made of shared chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from sqlalchemy import Connection

from commentary_hub.errors import DigestMismatch
from commentary_hub_server.rules.repositories._trees import File
from commentary_hub_server.store import Objects

BLOB_BYTES = 64 << 10


class XetFiles(Protocol):
    """Files that are stored as chunks."""

    def read(self, repository: str, xet: str, start: int, length: int) -> Iterator[bytes | memoryview]:
        """Bytes of the file ``xet`` that ``repository`` holds."""

    def has(self, connection: Connection, repository: str, xet: str) -> bool:
        """Whether ``repository``, which the transaction has locked, still has the file ``xet``."""

    def forget(self, connection: Connection, repository: str, xet: str) -> None:
        """Forget the file ``xet`` of ``repository``, which the transaction has locked."""


def object_key(sha256: str) -> str:
    """Where the bytes lie in the object store."""
    return f"objects/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def git_blob_id(data: bytes) -> str:
    r"""The id that git gives a file of these bytes; clients compare it to leave out what did not change.

    >>> git_blob_id(b"hello\n")
    'ce013625030ba8dba906f756967f9e9ca394464a'
    """
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def lfs_pointer_id(sha256: str, size_bytes: int) -> str:
    """The git blob id of the pointer that stands for a large file."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n"
    return git_blob_id(text.encode())


def is_blob(file: File) -> bool:
    """Whether a file is small enough to lie in the database, which it does where it was sent inside its commit."""
    return file.size_bytes <= BLOB_BYTES


def store_stream(objects: Objects, pieces: Iterable[bytes | memoryview], sha256: str, size_bytes: int) -> None:
    """Store what must have this digest and size; raises `DigestMismatch`, and then nothing is visible."""
    digest, size = hashlib.sha256(), 0

    def checked() -> Iterator[bytes | memoryview]:
        nonlocal size
        for piece in pieces:
            size += len(piece)
            if size > size_bytes:
                raise DigestMismatch(f"the upload is longer than the {size_bytes} bytes announced")
            digest.update(piece)
            yield piece
        if size != size_bytes or digest.hexdigest() != sha256:
            raise DigestMismatch(
                f"the upload has {size} bytes and sha256 {digest.hexdigest()}, announced were {size_bytes} and {sha256}"
            )

    objects.put(object_key(sha256), checked())
