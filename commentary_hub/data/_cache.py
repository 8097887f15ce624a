"""Files that save work the second time: under one folder, whole or absent, never more than a stated size."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

FOLDER_VARIABLE = "COMMENTARY_HUB_CACHE"
LIMIT_VARIABLE = "COMMENTARY_HUB_CACHE_BYTES"
DEFAULT_LIMIT_BYTES = 4 * 2**30
_UNFINISHED = ".writing-"


def cache_folder(room: str) -> Path:
    """``$COMMENTARY_HUB_CACHE/<room>``, else ``$XDG_CACHE_HOME`` or ``~/.cache``, ``/commentary_hub/<room>``."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen) / room
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "commentary_hub" / room


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Write ``path`` in one step and trim its folder to the limit, least recently used first; ``False`` if it can't be.

    Processes that write the same file at once each finish their own copy, and the last one stands: readers see a
    whole file always. A disk that is full or read-only costs the next run time, never this one its result.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, delete=False) as file:
            unfinished = Path(file.name)
            try:
                write(file)
                file.close()
                if unfinished.stat().st_size > _limit_bytes():
                    return False
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        _trim(path.parent)
    except OSError:
        return False
    return True


def touch(path: Path) -> None:
    """Mark a file as used just now; a read-only cache stays as it is."""
    try:
        os.utime(path)
    except OSError:
        return


def _limit_bytes() -> int:
    try:
        return int(os.environ[LIMIT_VARIABLE])
    except (KeyError, ValueError):
        return DEFAULT_LIMIT_BYTES


def _trim(folder: Path) -> None:
    files = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:  # another process trimmed it
            continue
        if not path.name.startswith(_UNFINISHED):
            files.append((status.st_mtime_ns, status.st_size, path))
    total, limit = sum(size for _, size, _ in files), _limit_bytes()
    for _, size, path in sorted(files):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
