"""Xorbs: containers of compressed chunks, read as a stranger's bytes.

A chunk is an 8-byte header (version, 3-byte stored length, scheme, 3-byte unpacked length) and its stored bytes.
A footer, where a client sends one, is derived data: it is cut off and never believed.
"""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import lz4.frame

from ._hashing import chunk_hash, to_text, xorb_hash

MAX_XORB_BYTES = 64 * 2**20
MAX_CHUNKS = 8192
MAX_CHUNK_BYTES = 128 * 2**10
HEADER_BYTES = 8
_MAX_STORED_BYTES = 2 * MAX_CHUNK_BYTES  # what does not compress is stored as it is, or little larger
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

    def veiled(self, shown: Iterable[tuple[int, int]]) -> "Xorb":
        """The same, but hash and length of chunks outside the ranges [start, end) that are shown say nothing."""
        seen = bytearray(len(self.chunks))
        for start, end in shown:
            seen[start:end] = b"\1" * (end - start)
        told = zip(self.chunks, seen, strict=True)
        return Xorb(self.hash, tuple(c if s else replace(c, hash=secrets.token_bytes(32), length=1) for c, s in told))


class XorbReader:
    """Checks a serialised xorb while it arrives, in pieces that are cut anywhere; memory is one chunk.

    Args:
        expected: the hash that it must have.
    """

    def __init__(self, expected: bytes) -> None:
        self._expected, self._cutter = expected, _Cutter()
        self._chunks: list[Chunk] = []
        self._sent = self._length = 0

    def feed(self, piece: bytes | memoryview) -> Iterator[memoryview]:
        """Yield every chunk that is whole by now, as it is stored, once it is checked.

        Raises:
            XetRefused: one is wrong, or one too many.
        """
        self._sent += len(piece)
        if self._sent > MAX_SERIALISED_BYTES:
            raise XetRefused(f"a xorb has at most {MAX_SERIALISED_BYTES} serialised bytes, got {self._sent}")
        for head, whole in self._cutter.cut(piece):
            self._length += head.length
            if len(self._chunks) >= MAX_CHUNKS or self._length > MAX_XORB_BYTES:
                raise XetRefused(f"a xorb has at most {MAX_CHUNKS} chunks and {MAX_XORB_BYTES} unpacked bytes")
            content = _unpack(whole[HEADER_BYTES:], head.scheme, head.length)
            self._chunks.append(Chunk(chunk_hash(content), head.length, head.at, len(whole)))
            yield whole

    def close(self) -> Xorb:
        """The table of its chunks; raises `XetRefused` where it is cut short, or not what ``expected`` names."""
        self._cutter.close()
        if not self._chunks:
            raise XetRefused("a xorb needs at least one chunk")
        found = xorb_hash((chunk.hash, chunk.length) for chunk in self._chunks)
        if found != self._expected:
            raise XetRefused(f"the xorb's content hashes to {to_text(found)}, not to {to_text(self._expected)}")
        return Xorb(found, tuple(self._chunks))


def verify_xorb(pieces: Iterable[bytes | memoryview], expected: bytes) -> Xorb:
    """Read a serialised xorb, check every chunk and the Merkle root, and return its table.

    Raises:
        XetRefused: malformed, over a limit, or not the xorb that ``expected`` names.
    """
    reader = XorbReader(expected)
    for piece in pieces:
        for _ in reader.feed(piece):
            pass
    return reader.close()


def unpack_chunks(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the unpacked chunks of a run of stored chunks, whose bytes come in pieces that are cut anywhere.

    A chunk may be a view of its piece, and good for as long as that is.
    """
    cutter = _Cutter()
    for piece in pieces:
        for head, whole in cutter.cut(piece):
            yield _unpack(whole[HEADER_BYTES:], head.scheme, head.length)
    cutter.close()


class _Head(NamedTuple):
    at: int  # where the chunk's header begins, in all bytes so far
    stored: int
    scheme: int
    length: int


class _Cutter:
    """Cuts pieces into chunks. Only a chunk that lies across two pieces is copied."""

    def __init__(self) -> None:
        self._at = 0  # where the next chunk begins
        self._rest = bytearray()  # what there is of it
        self._ended = False

    def cut(self, piece: bytes | memoryview) -> Iterator[tuple[_Head, memoryview]]:
        """The chunks that are whole now, each with its bytes, header and all."""
        view, start = memoryview(piece), 0
        while start < len(view) and not self._ended:
            if self._rest:  # complete the header first, then the chunk
                start += self._add(view[start:], HEADER_BYTES)
                head = self._head(self._rest[:HEADER_BYTES])
                if head is not None:
                    start += self._add(view[start:], HEADER_BYTES + head.stored)
                    if len(self._rest) == HEADER_BYTES + head.stored:
                        whole, self._rest = memoryview(self._rest), bytearray()
                        yield self._passed(head), whole
                continue
            head = self._head(view[start : start + HEADER_BYTES])
            end = len(view) + 1 if head is None else start + HEADER_BYTES + head.stored
            if head is None or end > len(view):
                self._rest += view[start:]
                return
            yield self._passed(head), view[start:end]
            start = end

    def close(self) -> None:
        """Refuse what is left of a chunk."""
        if self._ended or not self._rest or self._rest.startswith(_FOOTER):
            return
        if len(self._rest) < HEADER_BYTES:
            raise XetRefused(f"the chunk header at byte {self._at} is cut short")
        stored = int.from_bytes(self._rest[1:4], "little")
        raise XetRefused(
            f"the chunk at byte {self._at} claims {stored} stored bytes, of which {len(self._rest) - HEADER_BYTES} came"
        )

    def _add(self, view: memoryview, size: int) -> int:
        """Let the rest grow to ``size`` bytes, as far as ``view`` goes; how many it took."""
        taken = view[: max(0, size - len(self._rest))]
        self._rest += taken
        return len(taken)

    def _passed(self, head: _Head) -> _Head:
        self._at += HEADER_BYTES + head.stored
        return head

    def _head(self, view: memoryview | bytearray) -> _Head | None:
        """The header that ``view`` begins with; ``None`` where that is not all there, or is the footer."""
        if bytes(view[: len(_FOOTER)]) == _FOOTER:
            self._ended = True
        if self._ended or len(view) < HEADER_BYTES:
            return None
        version, scheme = view[0], view[4]
        stored, length = int.from_bytes(view[1:4], "little"), int.from_bytes(view[5:8], "little")
        if version != 0 or scheme not in (_NONE, _LZ4, _GROUPED_LZ4):
            raise XetRefused(f"the chunk at byte {self._at} has version {version} and scheme {scheme}: not known here")
        if not 0 < length <= MAX_CHUNK_BYTES or not 0 < stored <= _MAX_STORED_BYTES:
            raise XetRefused(f"the chunk at byte {self._at} claims {stored} stored and {length} unpacked bytes")
        return _Head(self._at, stored, scheme, length)


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
