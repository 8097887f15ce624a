"""Files written and read around the page cache: what passes once is not copied once more, and pushes nothing out."""

from __future__ import annotations

import errno
import io
import mmap
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_BLOCK = 4 << 20  # bytes that go to the disk at once: a multiple of what any disk asks for


class DirectFile:
    """A new file in ``folder``, written once from its beginning to its end; it vanishes when it is closed.

    Full blocks go from one aligned buffer straight to the disk (O_DIRECT): the kernel copies nothing, and nothing is
    left to write when the file is synchronised. What is less than a block, and everything where the file system has no
    direct writing, is written as usual.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix=prefix, dir=folder, buffering=0)  # noqa: SIM115 - closed in `close`
        self.name: str = self._file.name
        self._block = mmap.mmap(-1, _BLOCK)  # aligned to pages; only those that are used take memory
        self._held = self._start = 0  # bytes in the block, and where in the file it belongs
        self._handle: int | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Take all of ``data``."""
        with memoryview(data) as whole:
            at, size = 0, len(whole)
            while at < size:
                count = min(size - at, _BLOCK - self._held)
                self._block[self._held : self._held + count] = whole[at : at + count]
                at, self._held = at + count, self._held + count
                if self._held == _BLOCK:
                    self._put_block()
        return size

    def flush(self) -> None:
        """Write what the block holds; it stays there too, and is written again once the block is full."""
        if self._held:
            _put(self._file.fileno(), self._block, self._held, self._start)

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """Delete the file, unless it has got another name."""
        if self._handle is not None and self._handle != self._file.fileno():
            os.close(self._handle)
        self._file.close()
        self._block.close()

    def __enter__(self) -> DirectFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _put_block(self) -> None:
        ordinary = self._file.fileno()
        if self._handle is None:
            self._handle = ordinary
            with suppress(OSError, AttributeError):  # neither every system nor every file system has it
                self._handle = os.open(self.name, os.O_WRONLY | os.O_DIRECT)
        try:
            _put(self._handle, self._block, _BLOCK, self._start)
        except OSError as error:
            if error.errno != errno.EINVAL or self._handle == ordinary:
                raise
            os.close(self._handle)  # some say that they have it, and refuse to write
            self._handle = ordinary
            _put(ordinary, self._block, _BLOCK, self._start)
        self._held, self._start = 0, self._start + _BLOCK


def read_direct(file: io.FileIO, start: int, length: int) -> Iterator[memoryview]:
    """Yield bytes [start, start + length) of a file in pieces, each good until the next is asked for.

    While the caller works on a piece, the next one is read. Where the file system has no direct reading, it is read as
    usual; where the file ends early, so do the pieces.
    """
    ordinary = direct = file.fileno()
    with suppress(OSError, AttributeError):
        direct = os.open(file.name, os.O_RDONLY | os.O_DIRECT)
    try:
        blocks = [mmap.mmap(-1, _BLOCK) for _ in range(2)]
        at, end = start - start % mmap.PAGESIZE, start + length
        with ThreadPoolExecutor(1, "read-ahead") as ahead:
            coming = ahead.submit(_get, direct, ordinary, blocks[0], at)
            while at < end and (count := min(coming.result(), end - at)):
                piece = memoryview(blocks[0])[max(0, start - at) : count]
                at += count
                blocks.reverse()
                if at < end:
                    coming = ahead.submit(_get, direct, ordinary, blocks[0], at)
                yield piece
    finally:
        if direct != ordinary:
            os.close(direct)


def _get(direct: int, ordinary: int, block: mmap.mmap, start: int) -> int:
    """Fill the block from ``start`` in the file; how many bytes there were."""
    try:
        return os.preadv(direct, [block], start)
    except OSError as error:
        if error.errno != errno.EINVAL or direct == ordinary:
            raise
        return os.preadv(ordinary, [block], start)  # some say that they have it, and refuse to read


def _put(handle: int, block: mmap.mmap, size: int, start: int) -> None:
    """Write the first ``size`` bytes of the block to ``start`` in the file."""
    with memoryview(block) as whole:
        done = 0
        while done < size:
            with whole[done:size] as rest:
                done += os.pwrite(handle, rest, start + done)
