"""What a stranger may send to the Xet store, and what must not follow from it."""

import hashlib
import os
import random
import struct
import time
from dataclasses import replace

import blake3
import lz4.frame
import pytest

from commentary_hub_server.rules.xet import (
    GrantRefused,
    MemoryIndex,
    MemoryXorbs,
    Scope,
    Signer,
    Unknown,
    XetRefused,
    XetService,
    chunk_hash,
    file_hash,
    parse_shard,
    range_hash,
    unpack_chunks,
    verify_xorb,
    xorb_hash,
)

TAG = b"HFRepoMetaData\0" + bytes((85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169))
END = b"\xff" * 32 + bytes(16)
A = Scope("ann", "ann/a", "write", 2**40)
B = Scope("bob", "bob/b", "write", 2**40)
CHANCE = random.Random(0)  # the same in every worker that collects these tests
PARTS = [CHANCE.randbytes(1000), b"\x01\x02\x03\x04" * 501 + b"xyz", CHANCE.randbytes(77)]


def chunk(content: bytes, scheme: int = 0, packed: bytes | None = None, length: int | None = None) -> bytes:
    packed = content if packed is None else packed
    size = len(content) if length is None else length
    return b"\0" + len(packed).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + packed


def grouped(content: bytes) -> bytes:
    return lz4.frame.compress(b"".join(content[lane::4] for lane in range(4)))


XORB = chunk(PARTS[0]) + chunk(PARTS[1], 2, grouped(PARTS[1])) + chunk(PARTS[2], 1, lz4.frame.compress(PARTS[2]))
LEAVES = [(chunk_hash(part), len(part)) for part in PARTS]
NAME = xorb_hash(LEAVES)


def shard(
    xorb: bytes = NAME, *, proof: bytes | None = None, sha: bytes | None = None, n: int = 1, size: int | None = None
) -> bytes:
    sha = hashlib.sha256(b"".join(PARTS)).digest() if sha is None else sha
    swapped = b"".join(sha[at : at + 8][::-1] for at in range(0, 32, 8))
    total = sum(map(len, PARTS)) if size is None else size
    body = struct.pack("<32sIIQ", file_hash(LEAVES), 3 << 30, n, 0) + struct.pack("<32sIIII", xorb, 0, total, 0, 3)
    body += (range_hash(h for h, _ in LEAVES) if proof is None else proof) + bytes(16) + swapped + bytes(16)
    return struct.pack("<32sQQ", TAG, 2, 0) + body + END + END


def part_shard(xorb: bytes, leaves: list[tuple[bytes, int]], start: int) -> bytes:
    """A shard of one file: the chunks ``leaves`` of a xorb, which begin at number ``start``."""
    size = sum(length for _, length in leaves)
    body = struct.pack("<32sIIQ", file_hash(leaves), 1 << 31, 1, 0)
    body += struct.pack("<32sIIII", xorb, 0, size, start, start + len(leaves))
    return struct.pack("<32sQQ", TAG, 2, 0) + body + range_hash(h for h, _ in leaves) + bytes(16) + END + END


def lone_shard(content: bytes) -> bytes:
    """A shard of one file: a xorb of one chunk."""
    leaves = [(chunk_hash(content), len(content))]
    return part_shard(xorb_hash(leaves), leaves, 0)


def accept_xorb(service: XetService, scope: Scope, digest: bytes, data: bytes) -> bool:
    """Send a xorb in one piece."""
    with service.receiving_xorb(digest) as upload:
        upload.take([data])
        return service.keep_xorb(scope, upload)


@pytest.fixture
def service() -> XetService:
    return XetService(MemoryXorbs(), MemoryIndex(), Signer(b"k" * 32), lambda scope, repo: repo.startswith(scope.user))


def test_upload_read_and_retry(service: XetService) -> None:
    assert accept_xorb(service, A, NAME, XORB) is True
    assert accept_xorb(service, A, NAME, XORB) is False
    assert service.accept_shard(A, shard()) is True
    assert service.accept_shard(A, shard()) is False
    assert b"".join(service.read(A, file_hash(LEAVES))) == b"".join(PARTS)
    assert b"".join(service.read(A, file_hash(LEAVES), 990, 3100)) == b"".join(PARTS)[990:3100]


def test_first_packing_stays_whole(service: XetService) -> None:
    accept_xorb(service, A, NAME, XORB)
    accept_xorb(service, B, NAME, b"".join(chunk(part) for part in PARTS))
    service.accept_shard(B, shard())
    assert b"".join(service.read(B, file_hash(LEAVES))) == b"".join(PARTS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        XORB[:-1],
        XORB[: len(XORB) // 2],
        XORB.replace(PARTS[0][:8], b"\0" * 8),
        chunk(PARTS[0]) * 8193,
        chunk(b"x", length=0),
        chunk(b"x", length=2**24 - 1),
        b"\0\xff\xff\xff\0\xff\xff\xff",
        b"\1" + XORB[1:],
        chunk(b"a" * 10, 3),
        chunk(b"", 1, lz4.frame.compress(bytes(2**27)), 1000),
        chunk(PARTS[0], 1, lz4.frame.compress(PARTS[0])[:-9]),
        chunk(PARTS[0], 1, lz4.frame.compress(PARTS[0]) + b"more"),
        chunk(PARTS[0], 1, b"not a frame"),
    ],
)
def test_false_xorbs(service: XetService, data: bytes) -> None:
    with pytest.raises(XetRefused):
        accept_xorb(service, A, NAME, data)
    with pytest.raises(XetRefused):
        service.accept_shard(A, shard())


@pytest.mark.parametrize(
    "data",
    [
        shard(b"\7" * 32),
        shard(proof=bytes(32)),
        shard(sha=bytes(32)),
        shard(size=1),
        shard(n=2**32 - 1),
        shard(n=2),
        shard(n=0),
        *(shard()[:cut] for cut in range(0, len(shard()), 24)),
    ],
)
def test_false_shards(service: XetService, data: bytes) -> None:
    accept_xorb(service, A, NAME, XORB)
    with pytest.raises(XetRefused):
        service.accept_shard(A, data)
    with pytest.raises(Unknown):
        service.plan(A, file_hash(LEAVES))


def repeated(times: int, length: int | None = None) -> bytes:
    """A shard of one file: the xorb's content again and again, one segment each."""
    whole = sum(map(len, PARTS)) if length is None else length
    head = struct.pack("<32sIIQ", file_hash(LEAVES * min(times, 1000)), 1 << 31, times, 0)
    rows = struct.pack("<32sIIII", NAME, 0, whole, 0, 3) * times
    proofs = (range_hash(h for h, _ in LEAVES) + bytes(16)) * times
    return struct.pack("<32sQQ", TAG, 2, 0) + head + rows + proofs + END + END


@pytest.mark.parametrize("data", [repeated(65_537), repeated(17, 2**32 - 1)])
def test_what_a_small_shard_makes_the_hub_read_is_bounded_before_it_reads(
    service: XetService, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_xorb(service, A, NAME, XORB)
    for thing in (MemoryIndex, MemoryXorbs):
        for name in ("xorb", "holders", "take", "file", "pieces", "get_range", "hold"):
            if hasattr(thing, name):
                monkeypatch.setattr(thing, name, lambda *_: pytest.fail("asked before the bounds"))
    with pytest.raises(XetRefused, match="a shard may have"):
        service.accept_shard(A, data)


def test_a_shard_asks_for_each_xorb_once_and_for_room(service: XetService, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_xorb(service, A, NAME, XORB)
    asked: list[bytes] = []
    table = MemoryIndex.xorb
    monkeypatch.setattr(MemoryIndex, "xorb", lambda self, xorb: asked.append(xorb) or table(self, xorb))
    room: list[int] = []
    assert service.accept_shard(A, repeated(1000), room.append) is True
    assert room == [1000 * sum(map(len, PARTS))]
    assert len(asked) < 5
    assert b"".join(service.read(A, file_hash(LEAVES * 1000))) == b"".join(PARTS) * 1000
    service.accept_shard(A, repeated(1000), room.append)
    assert room[1] == 0

    def full(_size: int) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        service.accept_shard(A, repeated(999), full)
    with pytest.raises(Unknown):
        service.plan(A, file_hash(LEAVES * 999))


def test_other_repositories_are_invisible(service: XetService) -> None:
    accept_xorb(service, A, NAME, XORB)
    service.accept_shard(A, shard())
    with pytest.raises(XetRefused) as missing:
        service.accept_shard(B, shard(b"\7" * 32))
    with pytest.raises(XetRefused) as private:
        service.accept_shard(B, shard())
    assert str(missing.value).split(" is ")[1] == str(private.value).split(" is ")[1]
    for known in (LEAVES[0][0], bytes(32)):
        with pytest.raises(Unknown):
            service.known_chunk(B, known)
    with pytest.raises(Unknown):
        service.plan(B, file_hash(LEAVES))
    assert accept_xorb(service, B, NAME, XORB) is True


def test_answers_hide_chunk_hashes(service: XetService) -> None:
    accept_xorb(service, A, NAME, XORB)
    service.accept_shard(A, shard())
    answer = service.known_chunk(A, LEAVES[0][0])
    assert not any(digest in answer for digest, _ in LEAVES)
    assert parse_shard(answer).xorbs[0].hash == NAME


def test_answers_describe_only_chunks_of_files_that_the_asker_may_read(service: XetService) -> None:
    """A xorb that a private and a public repository share; who builds on the public part learns no more of it."""
    service = XetService(MemoryXorbs(), MemoryIndex(), service.signer, lambda _scope, repo: repo == "ann/open")
    accept_xorb(service, A, NAME, XORB)
    service.accept_shard(A, shard())
    public, shared = replace(A, repo="ann/open"), part_shard(NAME, LEAVES[1:2], 1)
    accept_xorb(service, public, NAME, XORB)
    service.accept_shard(public, shared)
    for _ in range(2):
        answer = service.known_chunk(B, LEAVES[1][0])
        (told,) = parse_shard(answer).xorbs
        key = answer[-200:][72:104]
        keyed = [blake3.blake3(digest, key=key).digest() for digest, _ in LEAVES]
        assert [digest in keyed for digest, _ in told.chunks] == [False, True, False]
        assert told.chunks[1] == (keyed[1], LEAVES[1][1])
        assert [told.chunks[n][1] for n in (0, 2)] == [1, 1]
        for secret in (0, 2):
            with pytest.raises(Unknown):
                service.known_chunk(B, LEAVES[secret][0])
        service.accept_shard(B, shared)  # now it holds the xorb itself
    assert len(parse_shard(service.known_chunk(A, LEAVES[0][0])).xorbs) == 1


def test_grants(service: XetService) -> None:
    signer = service.signer
    token = signer.grant(A)
    assert signer.scope(token) == A
    with pytest.raises(GrantRefused):
        signer.scope(token[:-4] + "AAAA")
    with pytest.raises(GrantRefused):
        signer.scope(signer.grant(Scope("ann", "ann/a", "write", int(time.time()) - 1)))
    with pytest.raises(GrantRefused):
        signer.scope(signer.sign("xorb", "ann", "ann/a", "write", 2**40))
    with pytest.raises(GrantRefused):
        signer.scope("é!")


def cut(data: bytes, width: int) -> list[bytes]:
    return [data[at : at + width] for at in range(0, len(data), width)]


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 77, 1000, 1009, 5000])
def test_a_xorb_is_the_same_in_pieces_that_are_cut_anywhere(service: XetService, width: int) -> None:
    footer = b"XETBLOB" + bytes(70)
    whole = verify_xorb([XORB], NAME)
    assert verify_xorb(cut(XORB + footer, width), NAME) == whole
    assert verify_xorb([b"", *cut(XORB, width), b""], NAME) == whole
    assert b"".join(bytes(part) for part in unpack_chunks(cut(XORB, width))) == b"".join(PARTS)
    first, last = whole.span(1, 3)
    assert [bytes(part) for part in unpack_chunks(cut(XORB[first:last], width))] == PARTS[1:]
    for end in (1, 7, 8, 9, len(XORB) - 1):
        with pytest.raises(XetRefused, match=r"cut short|claims"):
            verify_xorb(cut(XORB[:end], width), NAME)
    with service.receiving_xorb(NAME) as upload:
        upload.take(cut(XORB + footer, width))
        assert service.keep_xorb(A, upload) is True
    service.accept_shard(A, shard())
    assert b"".join(service.read(A, file_hash(LEAVES))) == b"".join(PARTS)
    assert b"".join(service.stored(NAME, 0, 2**20)) == XORB  # what follows the chunks is not kept


def test_a_xorb_that_is_wrong_is_refused_before_all_of_it_came(service: XetService) -> None:
    with service.receiving_xorb(NAME) as upload:
        upload.take([XORB])
        with pytest.raises(XetRefused, match="version 1"):
            upload.take([b"\1" + XORB[1:]])
    with service.receiving_xorb(NAME) as upload:
        upload.take([XORB + b"XETBLOB" + bytes(2**20)])
        with pytest.raises(XetRefused, match="serialised bytes"):
            upload.take(bytes(2**20) for _ in range(64))


def test_footer_is_not_believed() -> None:
    assert verify_xorb([XORB + b"XETBLOB" + os.urandom(500)], NAME).size_bytes == len(XORB)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (chunk(b"", 1, lz4.frame.compress(bytes(2**27))[:100_000], 1000), "does not hold exactly 1000 bytes"),
        (chunk(b"", 1, lz4.frame.compress(PARTS[0]), 999), "does not hold exactly 999 bytes"),
        (chunk(PARTS[0], length=999), "of 999 bytes stores 1000"),
        (chunk(b"x", length=2**24 - 1), "16777215 unpacked"),
        (chunk(b"x") * 8193, "at most 8192 chunks"),
        (XORB[:-1], "claims"),
        (XORB.replace(PARTS[0][:8], bytes(8)), "hashes to"),
    ],
)
def test_refusals_name_their_reason(data: bytes, reason: str) -> None:
    with pytest.raises(XetRefused, match=reason):
        verify_xorb([data], NAME)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (shard(b"\7" * 32), "is not stored here"),
        (shard(proof=bytes(32)), "verification hash"),
        (shard(sha=bytes(32)), "SHA-256"),
        (shard(size=1), "wrong length"),
        (shard(n=2**32 - 1), "claims 4294967295 entries"),
        (shard()[:-1], "cut short"),
    ],
)
def test_shard_refusals_name_their_reason(service: XetService, data: bytes, reason: str) -> None:
    accept_xorb(service, A, NAME, XORB)
    with pytest.raises(XetRefused, match=reason):
        service.accept_shard(A, data)
