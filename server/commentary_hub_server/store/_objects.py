"""Bytes under names: written once, whole, and durable when ``put`` returns."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from commentary_hub.errors import CommentaryHubError

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_PIECE = 1 << 20


class Objects(Protocol):
    """A flat store. Keys are lower-case paths; a key's bytes never change."""

    def put(self, key: str, data: Iterable[bytes | memoryview]) -> bool:
        """Store the pieces of ``data``; durable on return. ``False``, and nothing changed, where the key exists."""

    def size(self, key: str) -> int | None:
        """Bytes, or ``None`` where there is no such key."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """A range; raises `FileNotFoundError`."""

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """The same in pieces of at most 1 MiB."""

    def delete(self, key: str) -> None:
        """Forget; no error where there is nothing."""

    def keys(self, prefix: str) -> Iterator[tuple[str, float]]:
        """(key, last modified in seconds since the epoch) of all keys below ``prefix``."""

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


class LocalObjects:
    """Files in a folder: written beside, synchronised, then linked into place, so that a name is whole or absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: Iterable[bytes | memoryview]) -> bool:
        """See `Objects`."""
        path = self._folder / _checked(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in data:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(name, path)  # fails where the key exists: the first writer wins, and nothing is replaced
            except FileExistsError:
                return False
            self._sync(path.parent)
            return True
        finally:
            Path(name).unlink(missing_ok=True)

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

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See `Objects`."""
        with (self._folder / _checked(key)).open("rb") as file:
            file.seek(start)
            while length > 0 and (piece := file.read(min(_PIECE, length))):
                length -= len(piece)
                yield piece

    def delete(self, key: str) -> None:
        """See `Objects`."""
        (self._folder / _checked(key)).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[tuple[str, float]]:
        """See `Objects`."""
        for path in sorted((self._folder / prefix).rglob("*")):
            if path.is_file():
                yield path.relative_to(self._folder).as_posix(), path.stat().st_mtime

    def local_path(self, key: str) -> Path | None:
        """See `Objects`."""
        return self._folder / _checked(key)

    def signed_url(self, key: str, expires_s: int) -> str | None:
        """A folder has no addresses."""
        del key, expires_s
        return None

    def _sync(self, folder: Path) -> None:
        while True:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if folder == self._folder:
                return
            folder = folder.parent


class S3Objects:
    """Objects in an S3-compatible bucket, through ``obstore``."""

    def __init__(self, url: str) -> None:
        import obstore  # noqa: PLC0415 - the embedded default runs without it
        from obstore.store import S3Store  # noqa: PLC0415

        self._obstore = obstore
        try:
            self._store = S3Store.from_url(url)
        except Exception as error:
            raise CommentaryHubError(f"cannot open {url}: {error}; check the AWS_… variables", url=url) from error

    def put(self, key: str, data: Iterable[bytes | memoryview]) -> bool:
        """See `Objects`."""
        with tempfile.SpooledTemporaryFile(max_size=16 * _PIECE) as file:
            for piece in data:
                file.write(piece)
            file.seek(0)
            if self.size(key) is not None:
                return False
            self._obstore.put(self._store, _checked(key), file)
        return True

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

    def stream(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See `Objects`."""
        while length > 0:
            piece = self.read(key, start, min(8 * _PIECE, length))
            if not piece:
                return
            start, length = start + len(piece), length - len(piece)
            yield piece

    def delete(self, key: str) -> None:
        """See `Objects`."""
        self._obstore.delete(self._store, _checked(key))

    def keys(self, prefix: str) -> Iterator[tuple[str, float]]:
        """See `Objects`."""
        for page in self._obstore.list(self._store, prefix):
            for entry in page:
                yield entry["path"], entry["last_modified"].timestamp()

    def local_path(self, key: str) -> Path | None:
        """Not on this machine."""
        del key
        return None

    def signed_url(self, key: str, expires_s: int) -> str | None:
        """A presigned GET."""
        return str(self._obstore.sign(self._store, "GET", _checked(key), timedelta(seconds=expires_s)))
