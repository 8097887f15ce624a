"""Bytes on their way in: bounded, hashed while they arrive, and verified before they are an object."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from commentary_hub.errors import DigestMismatch
from commentary_hub_server.rules.repositories import object_key, store_stream
from commentary_hub_server.rules.uploads._flow import Pieces, hand_on
from commentary_hub_server.store import Leases, Objects, Spool


class Received:
    """A body that arrived whole: a spool with its SHA-256."""

    def __init__(self, spool: Spool) -> None:
        self.spool, self._digest = spool, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._digest.hexdigest()

    def hash(self, pieces: Pieces) -> None:
        """Digest the next bytes."""
        for piece in pieces:
            self._digest.update(piece)

    def write(self, pieces: Pieces) -> None:
        """Write the next bytes."""
        for piece in pieces:
            self.spool.write(piece)


class Uploads:
    """Keeps single uploads and joins parts; a repeated upload of the same object is harmless."""

    def __init__(self, objects: Objects, leases: Leases) -> None:
        self._objects, self._leases = objects, leases

    @asynccontextmanager
    async def receiving(self, stream: AsyncIterator[bytes], size_bytes: int) -> AsyncIterator[Received]:
        """The body, which must have exactly ``size_bytes``; raises `DigestMismatch`.

        While it arrives, one thread hashes and another one writes it, each at most a few batches behind.
        """
        with self._objects.spool() as spool:
            body, count = Received(spool), 0

            async def bounded() -> AsyncIterator[bytes]:
                nonlocal count
                async for piece in stream:
                    count += len(piece)
                    if count > size_bytes:
                        raise DigestMismatch(f"the body is longer than the {size_bytes} bytes announced")
                    yield piece

            await hand_on(bounded(), body.hash, body.write)
            if count != size_bytes:
                raise DigestMismatch(f"the body has {count} bytes, announced were {size_bytes}: send it again")
            yield body

    def keep(self, body: Received, sha256: str) -> None:
        """Make a body the object that it must be; raises `DigestMismatch`, and then nothing is visible."""
        if body.sha256 != sha256:
            raise DigestMismatch(f"the upload has sha256 {body.sha256}, announced was {sha256}")
        self._leases.hold([object_key(sha256)])
        self._objects.adopt(object_key(sha256), body.spool)

    def keep_part(self, body: Received, upload: str, number: int) -> str:
        """Store one part and return its SHA-256, the ETag."""
        self._objects.delete(_part(upload, number))  # a part that is sent again replaces what came before
        self._objects.adopt(_part(upload, number), body.spool)
        return body.sha256

    def join(self, upload: str, count: int, sha256: str, size_bytes: int) -> None:
        """Make the object from its parts; raises `DigestMismatch` where one is missing or wrong."""
        self._leases.hold([object_key(sha256)])
        # Even an object that is there already is not given for a hash alone: the parts must be its bytes.
        store_stream(self._objects, self._parts(upload, count), sha256, size_bytes)

    def part_bytes(self, upload: str, number: int) -> int:
        """What has arrived of a part."""
        return self._objects.size(_part(upload, number)) or 0

    def pending_bytes(self, repositories: Sequence[int]) -> int:
        """What has arrived of these repositories' uploads in parts that are not complete."""
        mine = tuple(f"parts/{number}-" for number in repositories)
        return sum(size for key, _, size in self._objects.keys("parts") if key.startswith(mine))

    def forget_parts(self, upload: str, count: int) -> None:
        """Delete the parts of an object that is noted."""
        for number in range(1, count + 1):
            self._objects.delete(_part(upload, number))

    def _parts(self, upload: str, count: int) -> Iterator[bytes | memoryview]:
        for number in range(1, count + 1):
            if self._objects.size(_part(upload, number)) is None:
                raise DigestMismatch(f"part {number} of {count} has not arrived: send it, then complete again")
            yield from self._objects.stream(_part(upload, number), once=True)


def _part(upload: str, number: int) -> str:
    return f"parts/{upload}/{number:05d}"
