"""Xorbs: containers of compressed chunks, read as a stranger's bytes.

A chunk is an 8-byte header (version, 3-byte stored length, scheme, 3-byte unpacked length) and its stored bytes.
A footer, where a client sends one, is derived data: it is cut off and never believed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import lz4.frame

from ._hashing import chunk_hash, to_text, xorb_hash

MAX_XORB_BYTES = 64 * 2**20
MAX_CHUNKS = 8192
MAX_CHUNK_BYTES = 128 * 2**10
HEADER_BYTES = 8
# A serialised xorb may exceed its content by one header a chunk and by a footer.
MAX_SERIALISED_BYTES = MAX_XORB_BYTES + 2**20
_FOOTER = b"XETBLOB"
_NONE, _LZ4, _GROUPED_LZ4 = 0, 1, 2


class XetRefused(ValueError):
    """What was sent is not what it claims to be, or is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a stored xorb: hash, unpacked length, and where its header and bytes lie in the xorb."""

    hash: bytes
    length: int
    offset: int
    stored: int


@dataclass(frozen=True, slots=True)
class Xorb:
    """A verified xorb's table of chunks; ``size_bytes`` counts the stored bytes, without a footer."""

    hash: bytes
    chunks: tuple[Chunk, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the stored xorb."""
        return self.chunks[-1].offset + self.chunks[-1].stored

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Byte range [first, last) of the stored xorb that holds chunks [start, end)."""
        final = self.chunks[end - 1]
        return self.chunks[start].offset, final.offset + final.stored


def verify_xorb(data: bytes | memoryview, expected: bytes) -> Xorb:
    """Read a serialised xorb, check every chunk and the Merkle root, and return its table.

    Raises:
        XetRefused: malformed, over a limit, or not the xorb that ``expected`` names.
    """
    if len(data) > MAX_SERIALISED_BYTES:
        raise XetRefused(f"a xorb has at most {MAX_SERIALISED_BYTES} serialised bytes, got {len(data)}")
    view, total = memoryview(data), 0
    chunks: list[Chunk] = []
    for offset, stored, scheme, length in _headers(view):
        total += length
        if len(chunks) >= MAX_CHUNKS or total > MAX_XORB_BYTES:
            raise XetRefused(f"a xorb has at most {MAX_CHUNKS} chunks and {MAX_XORB_BYTES} unpacked bytes")
        content = _unpack(view[offset + HEADER_BYTES : offset + HEADER_BYTES + stored], scheme, length)
        chunks.append(Chunk(chunk_hash(content), length, offset, HEADER_BYTES + stored))
    if not chunks:
        raise XetRefused("a xorb needs at least one chunk")
    found = xorb_hash((chunk.hash, chunk.length) for chunk in chunks)
    if found != expected:
        raise XetRefused(f"the xorb's content hashes to {to_text(found)}, not to {to_text(expected)}")
    return Xorb(found, tuple(chunks))


def unpack_chunks(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Yield the unpacked chunks of a run of stored chunks."""
    view = memoryview(data)
    for offset, stored, scheme, length in _headers(view):
        yield _unpack(view[offset + HEADER_BYTES : offset + HEADER_BYTES + stored], scheme, length)


def _headers(view: memoryview) -> Iterator[tuple[int, int, int, int]]:
    at, end = 0, len(view)
    while at < end and view[at : at + len(_FOOTER)] != _FOOTER:
        if end - at < HEADER_BYTES:
            raise XetRefused(f"the chunk header at byte {at} is cut short")
        version, scheme = view[at], view[at + 4]
        stored = int.from_bytes(view[at + 1 : at + 4], "little")
        length = int.from_bytes(view[at + 5 : at + 8], "little")
        if version != 0 or scheme not in (_NONE, _LZ4, _GROUPED_LZ4):
            raise XetRefused(f"the chunk at byte {at} has version {version} and scheme {scheme}: not known here")
        if not 0 < length <= MAX_CHUNK_BYTES or not 0 < stored <= end - at - HEADER_BYTES:
            raise XetRefused(f"the chunk at byte {at} claims {stored} stored and {length} unpacked bytes")
        yield at, stored, scheme, length
        at += HEADER_BYTES + stored


def _unpack(packed: memoryview, scheme: int, length: int) -> bytes | memoryview:
    if scheme == _NONE:
        if len(packed) != length:
            raise XetRefused(f"an uncompressed chunk of {length} bytes stores {len(packed)}")
        return packed
    reader = lz4.frame.LZ4FrameDecompressor()
    try:
        # One byte more than claimed is enough to catch a lie; a bomb is never inflated beyond that.
        content: bytes = reader.decompress(packed, max_length=length + 1)
    except (RuntimeError, EOFError) as error:
        raise XetRefused("a chunk is not a whole LZ4 frame") from error
    if len(content) != length or not reader.eof or reader.unused_data:
        raise XetRefused(f"a chunk's LZ4 frame does not hold exactly {length} bytes")
    return content if scheme == _LZ4 else _ungroup(content)


def _ungroup(content: bytes) -> bytes:
    """Undo byte grouping: all bytes at position 0 mod 4 come first, then 1 mod 4, 2, 3."""
    out, at = bytearray(len(content)), 0
    for lane in range(4):
        size = (len(content) - lane + 3) // 4
        out[lane::4] = content[at : at + size]
        at += size
    return bytes(out)
