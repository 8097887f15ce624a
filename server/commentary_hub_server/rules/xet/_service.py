"""The content-addressed store behind Xet: accept, know, rebuild. Knows no web framework and no database.

Visibility: a xorb's table is indexed after its bytes are verified and stored; a file after its shard is verified.
A repository "holds" a xorb from its upload (as a lease, which the collector respects) or from a file that uses it.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Protocol, Self

from ._hashing import file_hash, from_text, range_hash, to_text
from ._shard import MAX_SHARD_BYTES, Segment, Shard, ShardFile, parse_shard, write_shard
from ._tokens import GrantRefused, Scope, Signer
from ._xorb import MAX_SERIALISED_BYTES, XetRefused, Xorb, XorbReader, unpack_chunks, verify_xorb

LEASE_S = 24 * 3600
LINK_S = 3600
KNOWN_S = 3600  # how long a client may build on a xorb of another repository without asking again
MAX_SHARD_UNPACKED_BYTES = 64 << 30  # of all its files together
MAX_SHARD_CHUNKS = 1 << 20  # of its files' segments, and of the tables of the xorbs that they name
MAX_SHARD_SEGMENTS = 1 << 16
_ANSWER_XORBS = 64
_ANSWER_HOLDERS, _ANSWER_REPOS, _ANSWER_FILES = 64, 8, 1000  # of one: looked at, and asked what they show of it
_TABLES = 32  # of xorbs, remembered while one file is read


Known = Callable[[bytes], Xorb | None]  # a xorb's table
Admit = Callable[[int], None]  # bytes → nothing, or the refusal of an owner without room


class Unknown(LookupError):
    """Not here, or not for this reader: the two look the same."""


class Spool(Protocol):
    """A file for a xorb that arrives; it vanishes when it is closed."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *failure: Any) -> None: ...
    def write(self, data: Any, /) -> int: ...


class XorbBytes(Protocol):
    """Where xorbs lie.

    ``adopt`` is atomic and durable when it returns, and never replaces: it returns False and keeps what is there,
    because one hash has many packings and the indexed table must describe the stored one.
    """

    def hold(self, xorbs: Iterable[bytes]) -> None: ...  # for a day nobody collects them
    def spool(self) -> Spool: ...
    def adopt(self, xorb: bytes, spool: Any) -> bool: ...
    def has(self, xorb: bytes) -> bool: ...
    def pieces(self, xorb: bytes, start: int, end: int | None = None, *, once: bool = False) -> Iterator[Any]: ...


class XorbUpload:
    """A xorb that arrives: checked and written piece by piece. Nobody sees it before `XetService.keep_xorb`."""

    def __init__(self, digest: bytes, spool: Spool) -> None:
        self.digest, self.spool = digest, spool
        self._reader = XorbReader(digest)

    def take(self, pieces: Iterable[bytes]) -> None:
        """The next bytes; raises `XetRefused` as soon as they are wrong."""
        for piece in pieces:
            for chunk in self._reader.feed(piece):
                self.spool.write(chunk)

    def verified(self) -> Xorb:
        """The table, once all bytes are there; raises `XetRefused`."""
        return self._reader.close()


class Index(Protocol):
    """What is known about xorbs and files. Every write is one transaction, and repeating it changes nothing."""

    def add_xorb(self, xorb: Xorb) -> None: ...  # its table replaces one of bytes that were lost
    def xorb(self, xorb: bytes) -> Xorb | None: ...  # None also once it is being collected
    def take(self, xorb: bytes, repo: str, until: int) -> None: ...  # a lease, or the refusal of an owner without room
    def holders(self, xorb: bytes) -> set[str]: ...  # repositories with a live lease or a file on it
    def xorbs_with(self, chunk: bytes, limit: int) -> Sequence[bytes]: ...
    def neighbours(self, xorb: bytes, repo: str, limit: int) -> Sequence[bytes]: ...  # share one of repo's files
    def spans(self, xorb: bytes, repos: Sequence[str], limit: int) -> Sequence[tuple[int, int]]: ...  # that files use
    def add_file(self, repo: str, file: ShardFile) -> bool: ...  # also holds its xorbs for repo; False where known
    def file(self, repo: str, digest: bytes) -> ShardFile | None: ...
    def by_sha256(self, repo: str, sha256: bytes) -> ShardFile | None: ...


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks [start, end) of a xorb, stored in bytes [first, last)."""

    xorb: bytes
    start: int
    end: int
    length: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How to rebuild a byte range: skip ``skip`` bytes of the first part, keep ``length`` in all."""

    parts: tuple[Part, ...]
    skip: int
    length: int


class XetService:
    """Verifies what is uploaded and answers what may be known.

    Args:
        objects: the xorbs' bytes.
        index: the tables.
        signer: for links to xorb bytes.
        may_use: (grant, repo) → whether its token may read that repository *now*; and write it, where the grant is for
            writing to it.
    """

    def __init__(self, objects: XorbBytes, index: Index, signer: Signer, may_use: Callable[[Scope, str], bool]) -> None:
        self.signer = signer
        self._objects, self._index, self._may_use = objects, index, may_use

    def scope(self, access: str) -> Scope:
        """The scope of an access token, if it may still be used; raises `GrantRefused`."""
        scope = self.signer.scope(access)
        if not self._may_use(scope, scope.repo):
            raise GrantRefused("the token is no longer valid: ask for a new one")
        return scope

    @contextmanager
    def receiving_xorb(self, digest: bytes) -> Iterator[XorbUpload]:
        """A place for a xorb to arrive at; what is not kept is gone at the end."""
        with self._objects.spool() as spool:
            yield XorbUpload(digest, spool)

    def keep_xorb(self, scope: Scope, upload: XorbUpload, admit: Admit = lambda _size: None) -> bool:
        """Store a xorb durably, index and lease it; return whether it was new to this *repository*.

        The answer says nothing about other repositories: the bytes are read and stored the same way. ``admit`` is
        asked for room for what is new; the index has the last word.

        Raises:
            XetRefused: not all bytes came, or they are not the xorb that they should be.
        """
        digest, xorb = upload.digest, upload.verified()
        held = scope.repo in self._index.holders(digest)
        if not held:
            admit(xorb.size_bytes)
        self._objects.hold([digest])
        if self._index.xorb(digest) is None or not self._objects.has(digest):  # bytes may be lost: they come again
            if not self._objects.adopt(digest, upload.spool):
                # Another upload was first, perhaps with other compression, or died before it could index.
                xorb = verify_xorb(self._objects.pieces(digest, 0), digest)
            self._index.add_xorb(xorb)
        self._index.take(digest, scope.repo, int(time.time()) + LEASE_S)
        return not held

    def accept_shard(self, scope: Scope, data: bytes, admit: Admit = lambda _size: None) -> bool:
        """Verify every claim of a shard, then register its files; return whether one of them was new.

        What it claims is bounded before anything is read: all its files are read once, to verify them. ``admit`` is
        asked for room for the bytes of its new files.

        Raises:
            XetRefused: a xorb is gone, unknown or not readable; a hash, length, proof or SHA-256 is wrong; too much.
        """
        shard = parse_shard(data)
        _check_size(shard)
        fresh = [file for file in shard.files if self._index.file(scope.repo, file.hash) is None]
        admit(sum(segment.length for file in fresh for segment in file.segments))
        xorbs = self._demand_all(scope, shard)
        for claim in shard.xorbs:
            if claim.chunks != tuple((chunk.hash, chunk.length) for chunk in xorbs[claim.hash].chunks):
                raise XetRefused(f"the shard describes xorb {to_text(claim.hash)} wrongly")
        checked = [self._check_file(xorbs, file) for file in shard.files]
        new = False
        for file in checked:
            new |= self._index.add_file(scope.repo, file)
        return new

    def known_chunk(self, scope: Scope, chunk: bytes) -> bytes:
        """A shard that describes the xorbs around a chunk, as far as the user may read them; else ``Unknown``."""
        found: dict[bytes, Xorb] = {}
        for digest in self._index.xorbs_with(chunk, _ANSWER_XORBS):
            shown = self._shown(scope, digest)
            if shown is None or all(one.hash != chunk for one in shown.chunks):
                continue
            found.setdefault(digest, shown)
            for near in self._index.neighbours(digest, scope.repo, _ANSWER_XORBS):
                if len(found) < _ANSWER_XORBS and near not in found and (xorb := self._shown(scope, near)):
                    found[near] = xorb
        if not found:
            raise Unknown("no such chunk")
        return write_shard(list(found.values()), secrets.token_bytes(32), KNOWN_S)

    def plan(self, scope: Scope, digest: bytes, start: int = 0, end: int | None = None) -> Plan:
        """Which chunks hold bytes [start, end) of a file of this repository."""
        file = self._index.file(scope.repo, digest)
        if file is None:
            raise Unknown("no such file")
        size = sum(segment.length for segment in file.segments)
        end = size if end is None else min(end, size)
        if not 0 <= start < max(end, 1):
            raise IndexError(f"the file has {size} bytes")
        return _cut(file.segments, start, end, lru_cache(_TABLES)(self._index.xorb))

    def read(self, scope: Scope, digest: bytes, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """Yield bytes [start, end) of a file; memory stays below one read of the store."""
        plan = self.plan(scope, digest, start, end)
        return self._stream(plan, lru_cache(_TABLES)(self._index.xorb))

    def reconstruction(
        self, scope: Scope, digest: bytes, link: Callable[[str], str], start: int = 0, end: int | None = None
    ) -> dict[str, object]:
        """The read API's answer (version 1); ``link`` turns a signed token into the URL of a xorb's bytes."""
        plan = self.plan(scope, digest, start, end)
        terms, fetch = [], dict[str, list[dict[str, object]]]()
        for part in plan.parts:
            name, span = to_text(part.xorb), {"start": part.start, "end": part.end}
            terms.append({"hash": name, "unpacked_length": part.length, "range": span})
            expires = min(int(time.time()) + LINK_S, scope.expires)
            url = link(self.signer.sign("xorb", name, part.first, part.last, scope.repo, scope.token, expires))
            entry: dict[str, object] = {
                "range": span,
                "url": url,
                "url_range": {"start": part.first, "end": part.last - 1},
            }
            fetch.setdefault(name, []).append(entry)
        return {"offset_into_first_range": plan.skip, "terms": terms, "fetch_info": fetch}

    def by_sha256(self, repo: str, sha256: str) -> tuple[str, int] | None:
        """(Xet hash as text, size) of a file of this repository, by its SHA-256 in hex."""
        file = self._index.by_sha256(repo, bytes.fromhex(sha256))
        return None if file is None else (to_text(file.hash), sum(segment.length for segment in file.segments))

    def read_file(self, repo: str, xet: str, start: int, length: int) -> Iterator[memoryview]:
        """Bytes of a file of this repository, for readers that the caller has allowed."""
        scope = Scope(user="", repo=repo, permission="read", expires=0)
        return self.read(scope, from_text(xet), start, start + length) if length else iter(())

    def copy_file(self, source: str, target: str, xet: str) -> bool:
        """Let repository ``target`` have a file of ``source``; ``False`` where there is none. The caller has asked."""
        file = self._index.file(source, from_text(xet))
        if file is None:
            return False
        used = sorted({segment.xorb for segment in file.segments})
        self._objects.hold(used)
        for xorb in used:
            self._index.take(xorb, target, int(time.time()) + LEASE_S)
        if self._index.file(source, file.hash) is None:  # deleted, and perhaps collected, before they were held
            return False
        self._index.add_file(target, file)
        return True

    def linked(self, token: str) -> tuple[bytes, int, int]:
        """(xorb, first, last) of the stored bytes that a link is for; raises `GrantRefused`.

        A link is worth what the token that asked for it may now.
        """
        name, first, last, repo, number, expires = self.signer.open("xorb", token)
        scope = Scope("", str(repo), "read", int(expires), int(number))
        if scope.expires <= time.time() or not self._may_use(scope, scope.repo):
            raise GrantRefused("the link is no longer valid: ask for a new one")
        return from_text(str(name)), int(first), int(last)

    def stored(self, xorb: bytes, first: int, last: int) -> Iterator[Any]:
        """The stored bytes [first, last) of a xorb in pieces; raises ``Unknown`` at once where it was collected."""
        pieces = self._objects.pieces(xorb, first, last)
        try:
            return chain([next(pieces)], pieces)
        except (FileNotFoundError, KeyError, StopIteration) as error:
            raise Unknown(f"xorb {to_text(xorb)} is gone") from error

    def _shown(self, scope: Scope, digest: bytes) -> Xorb | None:
        """A xorb as files show it that the user may read: of its other chunks, hash and length say nothing.

        Who holds it may have built on a part: the rest may still be another repository's secret.
        """
        holders = sorted(self._index.holders(digest), key=lambda repo: repo != scope.repo)[:_ANSWER_HOLDERS]
        readable = (repo for repo in holders if repo == scope.repo or self._may_use(scope, repo))
        spans = self._index.spans(digest, list(islice(readable, _ANSWER_REPOS)), _ANSWER_FILES)
        xorb = self._index.xorb(digest) if spans else None
        return None if xorb is None else xorb.veiled(spans)

    def _usable(self, scope: Scope, digest: bytes) -> Xorb | None:
        holders = self._index.holders(digest)
        if scope.repo in holders or any(self._may_use(scope, repo) for repo in holders):
            return self._index.xorb(digest)
        return None

    def _demand(self, scope: Scope, digest: bytes) -> Xorb:
        xorb = self._usable(scope, digest)
        if xorb is not None:
            # Hold, then look again: a collector that ran in between is seen, and a later one respects it.
            self._objects.hold([digest])
            self._index.take(digest, scope.repo, int(time.time()) + LEASE_S)
            xorb = self._index.xorb(digest)
        if xorb is None:
            raise XetRefused(f"xorb {to_text(digest)} is not stored here: upload it, then send the shard again")
        return xorb

    def _demand_all(self, scope: Scope, shard: Shard) -> dict[bytes, Xorb]:
        """Each xorb that a shard names, once."""
        named = {claim.hash for claim in shard.xorbs} | {part.xorb for file in shard.files for part in file.segments}
        xorbs, count = {}, 0
        for digest in sorted(named):
            xorbs[digest] = self._demand(scope, digest)
            count += len(xorbs[digest].chunks)
            if count > MAX_SHARD_CHUNKS:
                raise XetRefused(f"the shard's xorbs have more than {MAX_SHARD_CHUNKS} chunks: send several shards")
        return xorbs

    def _check_file(self, xorbs: dict[bytes, Xorb], file: ShardFile) -> ShardFile:
        chunks: list[tuple[bytes, int]] = []
        for segment in file.segments:
            xorb = xorbs[segment.xorb]
            if not 0 <= segment.start < segment.end <= len(xorb.chunks):
                raise XetRefused(f"xorb {to_text(segment.xorb)} has no chunks {segment.start} to {segment.end}")
            part = [(chunk.hash, chunk.length) for chunk in xorb.chunks[segment.start : segment.end]]
            if sum(length for _, length in part) != segment.length:
                raise XetRefused(f"a segment of file {to_text(file.hash)} claims a wrong length")
            if segment.proof is None or segment.proof != range_hash(digest for digest, _ in part):
                raise XetRefused(f"a segment of file {to_text(file.hash)} has no valid verification hash")
            chunks += part
        if file_hash(chunks) != file.hash:
            raise XetRefused(f"the segments do not make file {to_text(file.hash)}")
        size = sum(length for _, length in chunks)
        digest = hashlib.sha256()
        for piece in self._stream(_cut(file.segments, 0, size, xorbs.get), xorbs.get, once=True):
            digest.update(piece)
        if file.sha256 is not None and digest.digest() != file.sha256:
            raise XetRefused(f"file {to_text(file.hash)} has another SHA-256 than the shard says")
        return ShardFile(file.hash, file.segments, digest.digest())

    def _stream(self, plan: Plan, known: Known, *, once: bool = False) -> Iterator[memoryview]:
        skip, left = plan.skip, plan.length
        for part in plan.parts:
            xorb = known(part.xorb)
            if xorb is None:
                raise Unknown(f"xorb {to_text(part.xorb)} is gone")
            first, last = xorb.span(part.start, part.end)
            for content in unpack_chunks(self._objects.pieces(part.xorb, first, last, once=once)):
                piece = memoryview(content)[skip : skip + left]
                skip, left = 0, left - len(piece)
                yield piece


def _check_size(shard: Shard) -> None:
    """Refuse what would take long to read, before anything is."""
    segments = [segment for file in shard.files for segment in file.segments]
    size, count = sum(part.length for part in segments), sum(max(0, part.end - part.start) for part in segments)
    if (
        size > MAX_SHARD_UNPACKED_BYTES
        or count > MAX_SHARD_CHUNKS
        or max(len(segments), len(shard.files)) > MAX_SHARD_SEGMENTS
    ):
        raise XetRefused(
            f"the shard's files have {size} bytes in {count} chunks and {len(segments)} segments; a shard may have "
            f"{MAX_SHARD_UNPACKED_BYTES}, {MAX_SHARD_CHUNKS} and {MAX_SHARD_SEGMENTS}"
        )


def _cut(segments: Sequence[Segment], start: int, end: int, known: Known) -> Plan:
    parts: list[Part] = []
    at = skip = 0
    for segment in segments:
        if at + segment.length <= start or at >= end:
            at += segment.length
            continue
        xorb = known(segment.xorb)
        if xorb is None:
            raise Unknown(f"xorb {to_text(segment.xorb)} is gone")
        low, high, kept = segment.start, segment.start, 0
        for number in range(segment.start, segment.end):
            size = xorb.chunks[number].length
            if at + size <= start:
                low = high = number + 1
            elif at < end:
                skip = start - at if not parts and not kept else skip
                high, kept = number + 1, kept + size
            at += size
        parts.append(Part(segment.xorb, low, high, kept, *xorb.span(low, high)))
    return Plan(tuple(parts), skip, end - start)


MAX_BODY_BYTES = max(MAX_SERIALISED_BYTES, MAX_SHARD_BYTES)
