"""Bytes on their way in: bounded, spooled to disk, verified before they are an object."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import IO

from commentary_hub.errors import DigestMismatch
from commentary_hub_server.rules.repositories import object_key, store_stream
from commentary_hub_server.store import Objects

_PIECE = 1 << 20
_IN_MEMORY = 8 << 20


class Uploads:
    """Keeps single uploads and joins parts; a repeated upload of the same object is harmless."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @asynccontextmanager
    async def receiving(self, stream: AsyncIterator[bytes], size_bytes: int) -> AsyncIterator[IO[bytes]]:
        """A spool holding the body, which must have exactly ``size_bytes``; raises `DigestMismatch`."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
            received = 0
            async for piece in stream:
                received += len(piece)
                if received > size_bytes:
                    raise DigestMismatch(f"the body is longer than the {size_bytes} bytes announced")
                spool.write(piece)
            if received != size_bytes:
                raise DigestMismatch(f"the body has {received} bytes, announced were {size_bytes}: send it again")
            spool.seek(0)
            yield spool

    def keep(self, spool: IO[bytes], sha256: str, size_bytes: int) -> None:
        """Store a whole object."""
        store_stream(self._objects, _pieces(spool), sha256, size_bytes)

    def keep_part(self, spool: IO[bytes], upload: str, number: int, size_bytes: int) -> str:
        """Store one part and return its SHA-256, the ETag."""
        digest = hashlib.sha256()
        for piece in _pieces(spool):
            digest.update(piece)
        spool.seek(0)
        self._objects.delete(_part(upload, number))  # a repeated part may have been cut short before
        self._objects.put(_part(upload, number), _pieces(spool))
        del size_bytes
        return digest.hexdigest()

    def join(self, upload: str, count: int, sha256: str, size_bytes: int) -> None:
        """Make the object from its parts, then forget them; raises `DigestMismatch` where one is missing or wrong."""
        if self._objects.size(object_key(sha256)) is None:
            store_stream(self._objects, self._parts(upload, count), sha256, size_bytes)
        for number in range(1, count + 1):
            self._objects.delete(_part(upload, number))

    def _parts(self, upload: str, count: int) -> Iterator[bytes]:
        for number in range(1, count + 1):
            size = self._objects.size(_part(upload, number))
            if size is None:
                raise DigestMismatch(f"part {number} of {count} has not arrived: send it, then complete again")
            yield from self._objects.stream(_part(upload, number), 0, size)


def _part(upload: str, number: int) -> str:
    return f"parts/{upload}/{number:05d}"


def _pieces(spool: IO[bytes]) -> Iterator[bytes]:
    while piece := spool.read(_PIECE):
        yield piece
