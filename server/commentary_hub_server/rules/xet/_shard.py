"""Shards: what files are made of. Parsed as a stranger's bytes; written for answers about known chunks."""

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ._hashing import HASH_BYTES, keyed
from ._xorb import MAX_CHUNKS, XetRefused, Xorb

MAX_SHARD_BYTES = 64 * 2**20
_TAG = b"HFRepoMetaData\0" + bytes((85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169))
_HEADER = struct.Struct("<32sQQ")
_ENTRY = struct.Struct("<32sIIII")
_FOOTER = struct.Struct("<9Q32sQQ48s4Q")
_BOOKEND = b"\xff" * HASH_BYTES
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30


@dataclass(frozen=True, slots=True)
class Segment:
    """Chunks [start, end) of one xorb, ``length`` unpacked bytes; ``proof`` is the verification hash."""

    xorb: bytes
    length: int
    start: int
    end: int
    proof: bytes | None = None


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file's claim: its hash, its segments in order and, where given, its SHA-256 (ordinary byte order)."""

    hash: bytes
    segments: tuple[Segment, ...]
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class ShardXorb:
    """A xorb's claim: its hash and (chunk hash, unpacked length) of its chunks."""

    hash: bytes
    chunks: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """What a shard claims; nothing of it is checked yet."""

    files: tuple[ShardFile, ...]
    xorbs: tuple[ShardXorb, ...]


def parse_shard(data: bytes) -> Shard:
    """Read header, file section and xorb section; lookup tables and footer are derived data and not read.

    Every count is compared with the bytes that are left before anything is built from it.
    """
    if len(data) > MAX_SHARD_BYTES:
        raise XetRefused(f"a shard has at most {MAX_SHARD_BYTES} bytes, got {len(data)}")
    if len(data) < _HEADER.size:
        raise XetRefused("the shard's header is cut short")
    tag, version, _ = _HEADER.unpack_from(data)
    if tag != _TAG or version != 2:
        raise XetRefused("this is not a shard of version 2")
    reader = _Reader(data, _HEADER.size)
    files = []
    while (head := reader.entry())[0] != _BOOKEND:
        files.append(_file(reader, head))
    xorbs = []
    while (head := reader.entry())[0] != _BOOKEND:
        count = reader.claim(head[2], 1)
        if not 0 < count <= MAX_CHUNKS:
            raise XetRefused(f"a xorb has 1 to {MAX_CHUNKS} chunks, the shard says {count}")
        rows = [reader.entry() for _ in range(count)]
        xorbs.append(ShardXorb(head[0], tuple((row[0], row[2]) for row in rows)))
    return Shard(tuple(files), tuple(xorbs))


def write_shard(xorbs: Sequence[Xorb], key: bytes, valid_s: int) -> bytes:
    """Describe xorbs to a client that knows one of their chunks.

    Chunk hashes are keyed (BLAKE3 under ``key``), so that a reader recognises the chunks it holds and learns no others.
    """
    parts = [_HEADER.pack(_TAG, 2, _FOOTER.size), _BOOKEND + bytes(16)]
    xorb_offset = _HEADER.size + _ENTRY.size
    unpacked = stored = 0
    for xorb in xorbs:
        position, rows = 0, []
        for chunk in xorb.chunks:
            rows.append(_ENTRY.pack(keyed(key, chunk.hash), position, chunk.length, 0, 0))
            position += chunk.length
        parts += [_ENTRY.pack(xorb.hash, 0, len(rows), position, xorb.size_bytes), *rows]
        unpacked, stored = unpacked + position, stored + xorb.size_bytes
    parts.append(_BOOKEND + bytes(16))
    end, now = sum(map(len, parts)), int(time.time())
    offsets = (1, _HEADER.size, xorb_offset, end, 0, end, 0, end, 0)
    parts.append(_FOOTER.pack(*offsets, key, now, now + valid_s, bytes(48), stored, 0, unpacked, end))
    return b"".join(parts)


class _Reader:
    """Walks over 48-byte entries and refuses to leave the data."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def entry(self) -> tuple[bytes, int, int, int, int]:
        if len(self._data) - self._at < _ENTRY.size:
            raise XetRefused(f"the shard is cut short at byte {self._at}")
        row: tuple[bytes, int, int, int, int] = _ENTRY.unpack_from(self._data, self._at)
        self._at += _ENTRY.size
        return row

    def claim(self, count: int, rows_each: int) -> int:
        if count * rows_each * _ENTRY.size > len(self._data) - self._at:
            raise XetRefused(f"the shard claims {count} entries at byte {self._at}, more than it holds")
        return count


def _file(reader: _Reader, head: tuple[bytes, int, int, int, int]) -> ShardFile:
    digest, flags, count = head[:3]
    proven = bool(flags & _HAS_VERIFICATION)
    reader.claim(count, 2 if proven else 1)
    rows = [reader.entry() for _ in range(count)]
    proofs = [reader.entry()[0] for _ in range(count)] if proven else [None] * count
    sha256 = _swap(reader.entry()[0]) if flags & _HAS_METADATA else None
    segments = tuple(
        Segment(xorb, length, start, end, proof)
        for (xorb, _, length, start, end), proof in zip(rows, proofs, strict=True)
    )
    return ShardFile(digest, segments, sha256)


def _swap(raw: bytes) -> bytes:
    """A SHA-256 travels as a Xet hash, so that its text form is the usual one: undo that."""
    return b"".join(raw[at : at + 8][::-1] for at in range(0, HASH_BYTES, 8))
