"""The keys of a whole dataset: decoded in parallel, and computed once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from commentary_hub.data._cache import cache_folder, keep, touch
from commentary_hub.data._keys import KEY_BYTES, TARGET_BYTES, Keys, content_keys, salt_check, target_digests
from commentary_hub.data._raw import CHUNK, RawExamples
from commentary_hub.data._stream import numbered
from commentary_hub.errors import CommentaryHubError

Progress = Callable[[int], None]
_ROOM = "keys"
_WORTH_WORKERS_S = 2.0  # starting processes costs a few tenths of a second


def dataset_keys(
    raw: RawExamples,
    *,
    classes: Sequence[str] | None = None,
    salt: str | bytes | None = None,
    workers: int = 2,
    cache: bool = True,
    progress: Progress | None = None,
) -> tuple[Keys, Keys | None]:
    """The content keys uint8 [N, 16] and target digests uint8 [N, 8] of all examples (``None`` without targets).

    Targets that are names in ``classes`` digest as their indices. Where the dataset knows what it holds without being
    read (`RawExamples.identity`), the answer is kept on disk and the next call maps it into memory. Otherwise
    ``workers`` processes read and decode, unless the whole takes less than their start; 0 keeps it in this process
    (needed for datasets that cannot be forked or pickled). ``progress`` is called with the number of examples done.

    Cost: decoding, plus about 1 GB/s of hashing, over ``workers`` cores; from the cache, milliseconds.
    """
    path = _cache_path(raw, classes, salt) if cache else None
    known = None if path is None else _read(path, len(raw))
    if known is None:
        known = _compute(raw, classes, salt, workers, progress)
        if path is not None:
            table = known
            keep(path, lambda file: np.save(file, table, allow_pickle=False))
    elif progress is not None:
        progress(len(raw))
    digests = known[:, KEY_BYTES:] if known.shape[1] > KEY_BYTES else None
    return known[:, :KEY_BYTES], digests


def _cache_path(raw: RawExamples, classes: Sequence[str] | None, salt: str | bytes | None) -> Path | None:
    if raw.identity is None:
        return None
    parts = [1, raw.identity, len(raw), list(classes or ()), None if salt is None else salt_check(salt)]
    name = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
    return cache_folder(_ROOM) / f"{name}.npy"


def _read(path: Path, rows: int) -> Keys | None:
    """The stored table [N, 24] (or [N, 16] for a dataset without targets), or ``None``: a bad file is a missing one."""
    try:
        table: Keys = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    widths = {KEY_BYTES, KEY_BYTES + TARGET_BYTES}
    if table.dtype != np.uint8 or table.ndim != 2 or len(table) != rows or table.shape[1] not in widths:
        return None
    touch(path)
    return table


def _compute(
    raw: RawExamples,
    classes: Sequence[str] | None,
    salt: str | bytes | None,
    workers: int,
    progress: Progress | None,
) -> Keys:
    labelled = raw.read(np.array([0]))[1][0] is not None
    chunks = _KeyedChunks(raw, (classes or ()) if labelled else None, salt)
    tables: list[Keys] = []
    for table in _all_chunks(chunks, workers):
        if isinstance(table, CommentaryHubError):
            raise table
        tables.append(table)
        if progress is not None:
            progress(len(table))
    return np.concatenate(tables)


def _all_chunks(chunks: _KeyedChunks, workers: int) -> Iterator[Keys | CommentaryHubError]:
    """The first chunk here, which tells whether processes are worth their start; the rest wherever it is faster."""
    start = time.perf_counter()
    yield chunks[0]
    remaining_s = (time.perf_counter() - start) * (len(chunks) - 1)
    if workers == 0 or remaining_s < _WORTH_WORKERS_S:
        yield from (chunks[number] for number in range(1, len(chunks)))
        return
    processes = min(workers, os.cpu_count() or 1)
    yield from DataLoader(
        chunks, batch_size=None, sampler=range(1, len(chunks)), num_workers=processes, collate_fn=_as_it_is
    )


def _as_it_is(table: Any) -> Any:
    return table


class _KeyedChunks(Dataset[Any]):
    """Chunk number → keys [n, 16], with their target digests [n, 24] unless ``classes`` is ``None``.

    A refusal is handed over and not raised, so that its message comes whole out of another process.
    """

    def __init__(self, raw: RawExamples, classes: Sequence[str] | None, salt: str | bytes | None) -> None:
        self._raw = raw
        self._classes = classes
        self._salt = salt

    def __len__(self) -> int:
        return (len(self._raw) + CHUNK - 1) // CHUNK

    def __getitem__(self, number: int) -> Keys | CommentaryHubError:
        low = number * CHUNK
        try:
            values, targets = self._raw.read(np.arange(low, min(low + CHUNK, len(self._raw))))
            keys = content_keys(values, salt=self._salt)
            if self._classes is None:
                return keys
            return np.concatenate([keys, target_digests(numbered(targets, self._classes))], axis=1)
        except CommentaryHubError as error:
            return error
