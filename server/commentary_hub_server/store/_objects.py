"""Bytes under names: written once, whole, and durable when ``put`` returns."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from commentary_hub.errors import CommentaryHubError
from commentary_hub_server.store._direct import DirectFile, read_direct

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_PIECE = 1 << 20
_WRITING = ".writing-"
_SINGLE_PUT_BYTES = 80 << 20  # one request, which can refuse to replace; more goes in parts


class Spool(Protocol):
    """A file to write an object to before it has its key; it vanishes when it is closed."""

    def write(self, data: Any, /) -> int:
        """Take the next bytes, all of them."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """Close it."""


class Objects(Protocol):
    """A flat store. Keys are lower-case paths; a key's bytes never change."""

    def spool(self) -> Spool:
        """A new one."""

    def adopt(self, key: str, spool: Spool) -> bool:
        """Make a spool's content the object ``key``, durable on return; ``False`` (and no change) where it exists."""

    def put(self, key: str, data: Iterable[bytes | memoryview]) -> bool:
        """Store the pieces of ``data``, as `adopt` does."""

    def size(self, key: str) -> int | None:
        """Bytes, or ``None`` where there is no such key."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """A range; raises `FileNotFoundError`."""

    def stream(
        self, key: str, start: int = 0, length: int | None = None, *, once: bool = False
    ) -> Iterator[bytes | memoryview]:
        """The same in pieces.

        ``once``: nobody will read these bytes again soon; each piece is good until the next is asked for.
        """

    def delete(self, key: str) -> None:
        """Forget; no error where there is nothing."""

    def keys(self, prefix: str) -> Iterator[tuple[str, float, int]]:
        """(key, last modified in seconds since the epoch, bytes) of all keys below ``prefix``."""

    def sweep(self, older_than_s: float) -> None:
        """Remove spools that a process left when it was killed."""

    def local_path(self, key: str) -> Path | None:
        """The file, where it is one on this machine."""

    def signed_url(self, key: str, expires_s: int) -> str | None:
        """An address that reads the object without further permission, where the store can make one."""


def open_objects(url: str) -> Objects:
    """``file:///folder`` or ``s3://bucket[/prefix]`` (the usual AWS_… variables say where and who)."""
    if url.startswith("s3://"):
        return S3Objects(url)
    return LocalObjects(Path(url.removeprefix("file://")))


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key) or ".." in key:
        raise ValueError(f"{key!r} is not an object's key")
    return key


def _fill(spool: Spool, data: Iterable[bytes | memoryview]) -> None:
    for piece in data:
        spool.write(piece)


class LocalObjects:
    """Files in a folder: written beside, synchronised, then linked into place, so that a name is whole or absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._durable: set[Path] = set()  # folders whose own entry this process has synchronised
        self._lock = threading.Lock()

    def spool(self) -> DirectFile:
        """See `Objects`."""
        return DirectFile(self._folder, _WRITING)

    def adopt(self, key: str, spool: Spool) -> bool:
        """See `Objects`."""
        assert isinstance(spool, DirectFile)
        path = self._folder / _checked(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        spool.flush()
        os.fsync(spool.fileno())
        try:
            os.link(spool.name, path)  # fails where the key exists: the first writer wins, and nothing is replaced
        except FileExistsError:
            return False
        self._sync(path.parent)
        return True

    def put(self, key: str, data: Iterable[bytes | memoryview]) -> bool:
        """See `Objects`."""
        with self.spool() as spool:
            _fill(spool, data)
            return self.adopt(key, spool)

    def size(self, key: str) -> int | None:
        """See `Objects`."""
        try:
            return (self._folder / _checked(key)).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects`."""
        with (self._folder / _checked(key)).open("rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def stream(
        self, key: str, start: int = 0, length: int | None = None, *, once: bool = False
    ) -> Iterator[bytes | memoryview]:
        """See `Objects`; what is read ``once`` goes around the page cache, where it would take others' place."""
        with (self._folder / _checked(key)).open("rb", buffering=0) as file:
            left = max(0, os.fstat(file.fileno()).st_size - start)
            left = left if length is None else min(left, length)
            if once and left > _PIECE:
                yield from read_direct(file, start, left)
                return
            file.seek(start)
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece

    def delete(self, key: str) -> None:
        """See `Objects`."""
        (self._folder / _checked(key)).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[tuple[str, float, int]]:
        """See `Objects`."""
        for path in sorted((self._folder / prefix).rglob("*")):
            try:
                found = path.stat()
            except FileNotFoundError:  # deleted since the folder was read
                continue
            if stat.S_ISREG(found.st_mode):
                yield path.relative_to(self._folder).as_posix(), found.st_mtime, found.st_size

    def sweep(self, older_than_s: float) -> None:
        """See `Objects`."""
        for path in self._folder.glob(f"{_WRITING}*"):
            with suppress(FileNotFoundError):  # its upload has just ended
                if path.stat().st_mtime < time.time() - older_than_s:
                    path.unlink()

    def local_path(self, key: str) -> Path | None:
        """See `Objects`."""
        return self._folder / _checked(key)

    def signed_url(self, key: str, expires_s: int) -> str | None:
        """A folder has no addresses."""
        del key, expires_s
        return None

    def _sync(self, folder: Path) -> None:
        """Make a new name in ``folder`` durable, and the folder itself, all the way up, the first time."""
        while True:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            with self._lock:
                known = folder in self._durable
                self._durable.add(folder)
            if known or folder == self._folder:
                return
            folder = folder.parent


class S3Objects:
    """Objects in an S3-compatible bucket, through ``obstore``.

    The server must honour ``If-None-Match: *`` (AWS, Ceph, MinIO, R2 do): it decides which of two first writers wins.
    """

    def __init__(self, url: str) -> None:
        import obstore  # noqa: PLC0415 - the embedded default runs without it
        from obstore.store import S3Store  # noqa: PLC0415

        self._obstore = obstore
        try:
            self._store = S3Store.from_url(url)
        except Exception as error:
            raise CommentaryHubError(f"cannot open {url}: {error}; check the AWS_… variables", url=url) from error

    def spool(self) -> Spool:
        """See `Objects`."""
        return tempfile.SpooledTemporaryFile(max_size=16 * _PIECE)

    def adopt(self, key: str, spool: Spool) -> bool:
        """See `Objects`."""
        assert isinstance(spool, tempfile.SpooledTemporaryFile)
        size = spool.seek(0, os.SEEK_END)
        spool.seek(0)
        if self.size(key) is not None:
            return False
        if size > _SINGLE_PUT_BYTES:  # only content-addressed objects are this large: two writers write the same
            self._obstore.put(self._store, _checked(key), spool)
            return True
        try:
            self._obstore.put(self._store, _checked(key), spool.read(), mode="create")
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def put(self, key: str, data: Iterable[bytes | memoryview]) -> bool:
        """See `Objects`."""
        with self.spool() as spool:
            _fill(spool, data)
            return self.adopt(key, spool)

    def size(self, key: str) -> int | None:
        """See `Objects`."""
        try:
            return int(self._obstore.head(self._store, _checked(key))["size"])
        except FileNotFoundError:
            return None

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Objects`."""
        size = self.size(key)
        if size is None:
            raise FileNotFoundError(key)
        length = max(0, min(size - start, size if length is None else length))
        if not length:
            return b""
        return bytes(self._obstore.get_range(self._store, key, start=start, length=length))

    def stream(
        self, key: str, start: int = 0, length: int | None = None, *, once: bool = False
    ) -> Iterator[bytes | memoryview]:
        """See `Objects`."""
        del once  # nothing of it is kept here
        while length is None or length > 0:
            piece = self.read(key, start, 8 * _PIECE if length is None else min(8 * _PIECE, length))
            if not piece:
                return
            yield piece
            start, length = start + len(piece), None if length is None else length - len(piece)

    def delete(self, key: str) -> None:
        """See `Objects`."""
        self._obstore.delete(self._store, _checked(key))

    def keys(self, prefix: str) -> Iterator[tuple[str, float, int]]:
        """See `Objects`."""
        for page in self._obstore.list(self._store, prefix):
            for entry in page:
                yield entry["path"], entry["last_modified"].timestamp(), entry["size"]

    def sweep(self, older_than_s: float) -> None:
        """Spools lie in the system's temporary folder, without a name."""

    def local_path(self, key: str) -> Path | None:
        """Not on this machine."""
        del key
        return None

    def signed_url(self, key: str, expires_s: int) -> str | None:
        """A presigned GET."""
        return str(self._obstore.sign(self._store, "GET", _checked(key), timedelta(seconds=expires_s)))
