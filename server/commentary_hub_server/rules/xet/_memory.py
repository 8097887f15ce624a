"""Xet storage without a database: everything in memory, for tests and one-process trials."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO

from ._shard import ShardFile
from ._xorb import Xorb


class MemoryXorbs:
    """Xorb bytes in a dictionary."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def hold(self, xorbs: Iterable[bytes]) -> None:
        """Nothing is collected here."""

    def spool(self) -> BytesIO:
        """A place to write one to."""
        return BytesIO()

    def adopt(self, xorb: bytes, spool: BytesIO) -> bool:
        """Keep what was written as a xorb, unless there is one; return whether it was kept."""
        written = spool.getvalue()
        return self.data.setdefault(xorb, written) is written

    def has(self, xorb: bytes) -> bool:
        """Whether its bytes are there."""
        return xorb in self.data

    def pieces(self, xorb: bytes, start: int, end: int | None = None, *, once: bool = False) -> Iterator[bytes]:
        """Bytes [start, end), or all to the end."""
        del once
        yield self.data[xorb][start:end]


class MemoryIndex:
    """The tables, under one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._xorbs: dict[bytes, Xorb] = {}
        self._chunks: dict[bytes, list[bytes]] = defaultdict(list)
        self._leases: dict[bytes, dict[str, int]] = defaultdict(dict)
        self._files: dict[tuple[str, bytes], ShardFile] = {}

    def add_xorb(self, xorb: Xorb) -> None:
        """Index a xorb and its chunks."""
        with self._lock:
            known = xorb.hash in self._xorbs
            self._xorbs[xorb.hash] = xorb
            for chunk in () if known else {chunk.hash for chunk in xorb.chunks}:
                self._chunks[chunk].append(xorb.hash)

    def xorb(self, xorb: bytes) -> Xorb | None:
        """Return a xorb's table."""
        return self._xorbs.get(xorb)

    def take(self, xorb: bytes, repo: str, until: int) -> None:
        """Hold a xorb for a repository for a while: there is always room here."""
        with self._lock:
            self._leases[xorb][repo] = max(until, self._leases[xorb].get(repo, 0))

    def holders(self, xorb: bytes) -> set[str]:
        """Return the repositories that hold a xorb."""
        now = time.time()
        with self._lock:
            held = {repo for repo, until in self._leases.get(xorb, {}).items() if until > now}
            using = {repo for (repo, _), file in self._files.items() if any(s.xorb == xorb for s in file.segments)}
            return held | using

    def xorbs_with(self, chunk: bytes, limit: int) -> Sequence[bytes]:
        """Return xorbs that contain a chunk."""
        with self._lock:
            return tuple(self._chunks.get(chunk, ())[:limit])

    def neighbours(self, xorb: bytes, repo: str, limit: int) -> Sequence[bytes]:
        """Return xorbs of the repository's files that use this one."""
        with self._lock:
            files = [f for (owner, _), f in self._files.items() if owner == repo]
            near = {s.xorb for f in files if any(t.xorb == xorb for t in f.segments) for s in f.segments}
            return tuple(near)[:limit]

    def spans(self, xorb: bytes, repos: Sequence[str], limit: int) -> Sequence[tuple[int, int]]:
        """Return [start, end) of the chunks of a xorb that files of these repositories use."""
        with self._lock:
            files = [f for (owner, _), f in self._files.items() if owner in repos][:limit]
            return [(s.start, s.end) for f in files for s in f.segments if s.xorb == xorb]

    def add_file(self, repo: str, file: ShardFile) -> bool:
        """Register a file for a repository."""
        with self._lock:
            return self._files.setdefault((repo, file.hash), file) is file

    def file(self, repo: str, digest: bytes) -> ShardFile | None:
        """Return a file of a repository."""
        return self._files.get((repo, digest))

    def by_sha256(self, repo: str, sha256: bytes) -> ShardFile | None:
        """Return a file of a repository by its SHA-256."""
        with self._lock:
            return next((f for (r, _), f in self._files.items() if r == repo and f.sha256 == sha256), None)
